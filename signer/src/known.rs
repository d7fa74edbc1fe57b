//! Images of a product that offline keys signed, in documents that are loaded or given by hand: for looking at, not for installing,
//! so nothing is asked of snapshots and expiry.

use crate::embargo;
use crate::envelope::Envelope;
use crate::error::VerifyError;
use crate::release::ReleaseCustom;
use crate::repository::TrustedRepository;
use crate::targets::{Delegation, RepositoryTarget, TargetsMetadata};
use std::collections::BTreeMap;

/// Images with their facts, by path.
pub type Images = BTreeMap<String, (RepositoryTarget, ReleaseCustom)>;

impl TrustedRepository {
    /// The images of a product in the documents that are loaded.
    pub fn images_of(&self, product: &str) -> Images {
        let roles = self.roles_of(product).filter_map(|role| Some((role.name.as_str(), self.targets(&role.name)?)));
        roles.flat_map(|(role, document)| self.images(product, role, document)).collect()
    }

    /// The images of a product in a document from elsewhere. The holders of one of the product's roles must have signed it.
    pub fn images_in(&self, product: &str, bytes: &[u8]) -> Result<Images, VerifyError> {
        let limits = self.limits();
        let envelope = Envelope::parse(product, bytes, limits.targets_bytes, limits)?;
        let mut refused = VerifyError::NotDelegated { role: product.to_owned(), parent: "targets".to_owned() };
        for role in self.roles_of(product) {
            let Some(top) = self.targets("targets") else { continue };
            match envelope.verify_threshold(&role.name, "targets", &top.delegation_keys, &role.keys) {
                Ok(()) => {
                    let document = TargetsMetadata::from_json(&role.name, envelope.signed(), limits)?;
                    return Ok(self.images(product, &role.name, &document).collect());
                }
                Err(error) => refused = error,
            }
        }
        Err(refused)
    }

    fn roles_of(&self, product: &str) -> impl Iterator<Item = &Delegation> {
        let top = self.targets("targets").into_iter().flat_map(|top| &top.delegations);
        top.filter(move |role| embargo::signs_for(role) == product)
    }

    fn images(
        &self,
        product: &str,
        role: &str,
        document: &TargetsMetadata,
    ) -> impl Iterator<Item = (String, (RepositoryTarget, ReleaseCustom))> {
        document.targets.values().filter_map(move |target| {
            let custom = target.release(role, self.limits()).ok().flatten()?;
            (custom.product == product).then(|| (target.path.clone(), (target.clone(), custom)))
        })
    }
}
