//! The delegated roles of a publication: what each signs afterwards, what is held until its moment, and whether the roles of a
//! product agree.

use super::ingest::{Ingest, check_repo_id, check_stated, missing, read_published, successor};
use super::{AcceptedTarget, NewDocument, Outcome, PublishError, Repository};
use crate::embargo;
use crate::envelope::Envelope;
use crate::error::VerifyError;
use crate::lint::{self, Peer};
use crate::repository::read_targets;
use crate::root::{RootMetadata, check_expiry};
use crate::targets::{Delegation, TargetsMetadata};
use std::collections::{BTreeMap, BTreeSet};

/// What the delegated roles of a publication bring.
#[derive(Debug, Default)]
pub(super) struct Roles {
    /// Targets of documents that may be shown.
    pub targets: Vec<AcceptedTarget>,
    /// Targets of documents that are held.
    pub held: Vec<AcceptedTarget>,
    /// Paths that may be shown afterwards, by product.
    pub signed: BTreeMap<String, BTreeSet<String>>,
}

/// A role with a document.
struct Role<'a> {
    delegation: &'a Delegation,
    /// What was shown of it before.
    previous: Option<TargetsMetadata>,
    /// The document of this publication.
    new: Option<(NewDocument, Envelope, TargetsMetadata)>,
    /// Whether that one waits for its moment.
    waits: bool,
}

impl Role<'_> {
    /// What may be shown of the role afterwards.
    fn shown(&self) -> Option<&TargetsMetadata> {
        match &self.new {
            Some((_, _, new)) if !self.waits => Some(new),
            _ => self.previous.as_ref(),
        }
    }
}

impl Ingest<'_> {
    pub fn roles(&mut self, root: Option<&RootMetadata>, top: Option<&TargetsMetadata>) -> Result<Roles, PublishError> {
        for document in self.new.iter().filter(|document| !matches!(document.role.as_str(), "root" | "targets")) {
            let Some(top) = top else { return Err(missing(&document.role, "targets")) };
            if top.delegation(&document.role).is_none() {
                let role = crate::error::quote(&document.role);
                return Err(VerifyError::NotDelegated { role, parent: "targets".to_owned() }.into());
            }
        }
        let (Some(root), Some(top)) = (root, top) else { return Ok(Roles::default()) };
        let mut roles = Vec::new();
        for delegation in &top.delegations {
            roles.extend(self.read_role(root, top, delegation)?);
        }
        let mut result = Roles::default();
        for role in &roles {
            let product = embargo::signs_for(role.delegation);
            let signed = result.signed.entry(product.to_owned()).or_default();
            signed.extend(role.shown().into_iter().flat_map(|shown| shown.targets.keys().cloned()));
            // Nobody is told of what is held: ordinary releases are judged by what is shown alone, and what is held once more at its
            // moment.
            let others = roles.iter().filter(|other| other.delegation.name != role.delegation.name);
            let peers = others.filter(|other| embargo::signs_for(other.delegation) == product);
            let peers: Vec<Peer<'_>> =
                peers.filter_map(|peer| Some(Peer { role: &peer.delegation.name, document: peer.shown()? })).collect();
            self.take(role, product, &peers, &mut result)?;
        }
        Ok(result)
    }

    /// Reads the documents of a role, verified by the top document as it stands afterwards.
    fn read_role<'a>(
        &self,
        root: &RootMetadata,
        top: &TargetsMetadata,
        delegation: &'a Delegation,
    ) -> Result<Option<Role<'a>>, PublishError> {
        let (role, limits) = (delegation.name.as_str(), self.context.limits);
        let new = self.find(role).cloned();
        let before = self.after.roles.get(role);
        let verify = |bytes: &[u8]| {
            let (envelope, metadata) =
                read_targets(role, "targets", bytes, &top.delegation_keys, &delegation.keys, limits)?;
            check_repo_id(role, root, &metadata)?;
            Ok::<_, PublishError>((envelope, metadata))
        };
        let Some(document) = new else {
            let previous = before.map(|bytes| verify(bytes)).transpose()?.map(|(_, metadata)| metadata);
            return Ok(previous.map(|previous| Role { delegation, previous: Some(previous), new: None, waits: false }));
        };
        let (envelope, metadata) = verify(&document.bytes)?;
        check_stated(role, document.version, metadata.version)?;
        // What is shown already is no secret, whatever the clock says.
        let waits = embargo::product_of(delegation).is_some()
            && embargo::is_secret(&metadata, self.context.now)
            && before != Some(&document.bytes);
        // What is shown until then stays, so today's holders must have signed it.
        let previous = match before {
            Some(bytes) if waits => Some(verify(bytes)?.1),
            Some(bytes) => Some(read_published(role, bytes, limits)?),
            None => None,
        };
        Ok(Some(Role { delegation, previous, new: Some((document, envelope, metadata)), waits }))
    }

    /// Takes the new document of a role, when there is one.
    fn take(
        &mut self,
        role: &Role<'_>,
        product: &str,
        peers: &[Peer<'_>],
        result: &mut Roles,
    ) -> Result<(), PublishError> {
        let (now, limits, name) = (self.context.now, self.context.limits, role.delegation.name.as_str());
        let Some((document, envelope, metadata)) = &role.new else { return Ok(()) };
        let mut outcome = successor(name, self.after.roles.get(name).map(Vec::as_slice), document, limits)?;
        if outcome == Outcome::Published {
            // A later document takes the place of one that is held, whichever moment it has.
            successor(name, self.after.held.get(name).map(Vec::as_slice), document, limits)?;
            check_expiry(name, metadata.expires, now)?;
            let mut lints = lint::lint_document(name, envelope.signed(), document.bytes.len(), limits.targets_bytes);
            lints.extend(lint::lint_role(role.delegation, role.previous.as_ref(), metadata, peers, now, limits));
            self.lint(Repository::Image, (name, metadata.version), envelope.signed(), lints);
        }
        let targets = metadata.targets.values().map(|target| {
            let known = role.previous.as_ref().is_some_and(|previous| previous.targets.contains_key(&target.path));
            AcceptedTarget {
                role: name.to_owned(),
                product: product.to_owned(),
                // A malformed block is a lint above and refuses the whole publication.
                release: target.release(name, limits).unwrap_or_default(),
                target: target.clone(),
                outcome: if known { Outcome::Unchanged } else { Outcome::Published },
            }
        });
        if role.waits {
            result.held.extend(targets);
            outcome = Outcome::Held;
            self.after.held.insert(name.to_owned(), document.bytes.clone());
        } else {
            result.targets.extend(targets);
            if outcome == Outcome::Published {
                self.after.held.remove(name);
            }
            self.after.roles.insert(name.to_owned(), document.bytes.clone());
        }
        self.accept(Repository::Image, name, metadata.version, outcome);
        if let Some(accepted) = self.documents.last_mut() {
            accepted.product = Some(product.to_owned());
            accepted.held_until = metadata.not_before.filter(|_| role.waits);
        }
        Ok(())
    }
}
