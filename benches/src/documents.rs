//! The offline half of a publication: three holders for every role, of whom two sign both roots, the top targets and the
//! product role. The keys come from numbers, because they guard nothing but a measurement.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use sluice_catalog::Digest;
use sluice_catalog::wire::publish::{PublishDocument, PublishRepository, PublishRequest};
use sluice_signer::root::{RoleKeys, RootMetadata};
use sluice_signer::{
    Delegation, Envelope, Json, OnlineKeys, Paths, PublicKey, ReleaseCustom, ReleaseKind, RepositoryTarget, SigningKey,
    TargetsMetadata,
};

/// Signatures that an offline role needs.
const THRESHOLD: u32 = 2;
const ROOT_DAYS: i64 = 365;
const ROLE_DAYS: i64 = 100;
const IMAGE_REPOSITORY: &str = "bench-images";
const DIRECTOR_REPOSITORY: &str = "bench-director";

/// A firmware image and what its release states.
#[derive(Clone, Debug)]
pub struct Image {
    /// The version.
    pub version: String,
    /// Its place in the order of versions.
    pub order: u64,
    /// Entitlement code that a contract must grant, if any.
    pub requires: Option<String>,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// Signed documents, ready to publish.
#[derive(Debug)]
pub struct Signed {
    /// The body of `POST /api/v1/publish`.
    pub request: PublishRequest,
    /// The first root of the image repository, which TUF clients are provisioned with.
    pub image_root: Vec<u8>,
    /// The director's root, which devices are provisioned with.
    pub director_root: Vec<u8>,
}

/// The key of a name: holders, devices.
pub fn key(name: &str) -> Result<SigningKey> {
    Ok(SigningKey::from_seed(&Digest::of(name.as_bytes()).0)?)
}

fn holders(role: &str) -> Result<Vec<SigningKey>> {
    (1..=3).map(|holder| key(&format!("holder {holder} of {role}"))).collect()
}

/// A document signed by as many holders as are needed.
fn signed(value: Json, holders: &[SigningKey]) -> Vec<u8> {
    let mut envelope = Envelope::new(value);
    for key in holders.iter().take(THRESHOLD as usize) {
        envelope.sign(key);
    }
    envelope.to_bytes()
}

fn root<'a>(
    roles: &[(&str, Vec<&'a PublicKey>, u32)],
    entitlement: Option<&'a PublicKey>,
    repo_id: &str,
    now: Timestamp,
) -> RootMetadata {
    let of_roles = roles.iter().flat_map(|(_, keys, _)| keys.iter().copied());
    let keys = of_roles.chain(entitlement).map(|key| (key.keyid().to_owned(), key.clone())).collect();
    RootMetadata {
        version: 1,
        expires: now + SignedDuration::from_hours(24 * ROOT_DAYS),
        consistent_snapshot: true,
        keys,
        roles: roles
            .iter()
            .map(|(name, keys, threshold)| ((*name).to_owned(), RoleKeys::new(keys.iter().copied(), *threshold)))
            .collect(),
        repo_id: Some(repo_id.to_owned()),
        entitlement: entitlement.map(|key| RoleKeys::new([key], 1)),
        epoch: 1,
    }
}

fn publics(keys: &[SigningKey]) -> Vec<&PublicKey> {
    keys.iter().map(SigningKey::public).collect()
}

/// A product line with its releases, whose images run on one hardware.
#[derive(Clone, Debug)]
pub struct Product {
    /// Its name, which is its role's too.
    pub name: String,
    /// The hardware.
    pub hw_id: String,
    /// Its images.
    pub images: Vec<Image>,
}

/// Signs everything for one product.
pub fn sign(product: &Product, online: &OnlineKeys, now: Timestamp) -> Result<Signed> {
    sign_all(std::slice::from_ref(product), online, now)
}

/// Signs everything for all products: both roots, the top targets document, and a role for each product in their order.
pub fn sign_all(products: &[Product], online: &OnlineKeys, now: Timestamp) -> Result<Signed> {
    // Documents state whole seconds.
    let now = Timestamp::from_second(now.as_second()).context("a time that documents cannot state")?;
    let (image_holders, top_holders) = (holders("root")?, holders("targets")?);
    let director_holders = holders("director root")?;
    let server = [("snapshot", vec![&online.snapshot], 1), ("timestamp", vec![&online.timestamp], 1)];
    let with_server = |mut roles: Vec<(&'static str, Vec<_>, u32)>| {
        roles.extend(server.clone());
        roles
    };
    let image_roles =
        with_server(vec![("root", publics(&image_holders), THRESHOLD), ("targets", publics(&top_holders), THRESHOLD)]);
    let director_roles =
        with_server(vec![("root", publics(&director_holders), THRESHOLD), ("targets", vec![&online.director], 1)]);
    let image_root = root(&image_roles, None, IMAGE_REPOSITORY, now);
    let director_root = root(&director_roles, Some(&online.entitlement), DIRECTOR_REPOSITORY, now);

    let repo_id = Some(IMAGE_REPOSITORY.to_owned());
    let mut top = TargetsMetadata::new(1, now + SignedDuration::from_hours(24 * ROOT_DAYS), repo_id.clone());
    let mut roles = Vec::with_capacity(products.len());
    for product in products {
        let role_holders = holders(&product.name)?;
        for key in &role_holders {
            top.delegation_keys.insert(key.public().keyid().to_owned(), key.public().clone());
        }
        top.delegations.push(Delegation {
            name: product.name.clone(),
            keys: RoleKeys::new(publics(&role_holders), THRESHOLD),
            paths: Paths::pattern(format!("{}/*/*", product.name)),
            terminating: true,
        });
        let mut role = TargetsMetadata::new(1, now + SignedDuration::from_hours(24 * ROLE_DAYS), repo_id.clone());
        role.targets = targets(product)?;
        roles.push((&product.name, signed(role.to_json(), &role_holders)));
    }

    let image_root = signed(image_root.to_json(), &image_holders);
    let director_root = signed(director_root.to_json(), &director_holders);
    let document = |repository, role: &str, bytes: &[u8]| PublishDocument {
        repository,
        role: role.to_owned(),
        version: 1,
        body: STANDARD.encode(bytes),
    };
    let mut documents = vec![
        document(PublishRepository::Image, "root", &image_root),
        document(PublishRepository::Director, "root", &director_root),
        document(PublishRepository::Image, "targets", &signed(top.to_json(), &top_holders)),
    ];
    documents.extend(roles.iter().map(|(name, bytes)| document(PublishRepository::Image, name, bytes)));
    Ok(Signed { request: PublishRequest { documents }, image_root, director_root })
}

fn targets(product: &Product) -> Result<BTreeMap<String, RepositoryTarget>> {
    let Product { name, hw_id, images } = product;
    let one = |text: &str| BTreeSet::from([text.to_owned()]);
    let mut targets = BTreeMap::new();
    for image in images {
        let custom = ReleaseCustom {
            product: name.clone(),
            component: "main".to_owned(),
            version: image.version.clone(),
            order: image.order,
            train: "1.0".to_owned(),
            train_ga: "2026-01-01".parse().context("the train's date")?,
            hw_ids: one(hw_id),
            security_counter: 1,
            min_installed: None,
            channels: one("stable"),
            kind: ReleaseKind::Feature,
            requires: image.requires.iter().cloned().collect(),
            advisories: BTreeSet::new(),
            sbom: None,
            provenance: None,
            notes: None,
        };
        let path = format!("{name}/{}/main.bin", image.version);
        let length = image.bytes.len() as u64;
        let target = RepositoryTarget::image(path.clone(), length, Digest::of(&image.bytes).0, &custom);
        targets.insert(path, target);
    }
    Ok(targets)
}

#[cfg(test)]
mod tests {
    use sluice_signer::publish::Repository;
    use sluice_signer::{ImageDocuments, Limits, NewDocument, PublishContext, publish_check};

    use super::*;

    #[test]
    fn a_server_takes_what_is_signed_here() {
        let public = |name: &str| key(name).unwrap().public().clone();
        let online = OnlineKeys {
            snapshot: public("s"),
            timestamp: public("t"),
            director: public("d"),
            entitlement: public("e"),
            next: std::collections::BTreeMap::new(),
        };
        let now: Timestamp = "2026-06-01T12:00:00.5Z".parse().unwrap();
        let image = |order: u64, requires: Option<&str>| Image {
            version: format!("1.{order}"),
            order,
            requires: requires.map(str::to_owned),
            bytes: vec![u8::try_from(order).unwrap(); 100],
        };
        let images = [image(1, None), image(2, Some("FW.BENCH"))];
        let product = Product { name: "bench-cam".to_owned(), hw_id: "cam-r3".to_owned(), images: images.to_vec() };
        let signed = sign(&product, &online, now).unwrap();
        let new: Vec<NewDocument> = signed
            .request
            .documents
            .iter()
            .map(|document| NewDocument {
                repository: match document.repository {
                    PublishRepository::Image => Repository::Image,
                    PublishRepository::Director => Repository::Director,
                },
                role: document.role.clone(),
                version: document.version,
                bytes: STANDARD.decode(&document.body).unwrap(),
            })
            .collect();
        let context = PublishContext { online_keys: &online, now, limits: &Limits::default() };
        let accepted = publish_check(&ImageDocuments::default(), &new, &context).unwrap();
        assert_eq!(accepted.targets.len(), 2);
        let custom = accepted.targets.last().unwrap().release.as_ref().unwrap();
        assert_eq!(custom.requires, BTreeSet::from(["FW.BENCH".to_owned()]));
    }
}
