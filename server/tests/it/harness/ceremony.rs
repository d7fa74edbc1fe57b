//! The offline side: three holders for each role, of whom two sign. Fixed seeds, so that a failure repeats.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use sluice_catalog::Digest;
use sluice_catalog::wire::publish::{PublishDocument, PublishRepository};
use sluice_signer::{
    Delegation, Envelope, Json, OnlineKeys, Paths, PublicKey, ReleaseCustom, ReleaseKind, RepositoryTarget, RoleKeys,
    RootMetadata, SigningKey, TargetsMetadata, sha256,
};

const IMAGE_REPO: &str = "acme-images";
const DIRECTOR_REPO: &str = "acme-director";

/// One release, as its engineer describes it. The defaults are a free feature release for `cam-r3`.
#[derive(Clone, Debug)]
pub struct Release {
    pub product: String,
    pub component: String,
    pub version: String,
    pub order: u64,
    pub train: String,
    pub train_ga: String,
    pub kind: ReleaseKind,
    pub requires: Vec<String>,
    pub channels: Vec<String>,
    pub hw_ids: Vec<String>,
    pub security_counter: u64,
    pub min_installed: Option<String>,
    pub advisories: Vec<String>,
    pub notes: Option<String>,
    pub image: Vec<u8>,
}

impl Release {
    pub fn new(product: &str, version: &str, order: u64, image: &[u8]) -> Self {
        Self {
            product: product.to_owned(),
            component: "main".to_owned(),
            version: version.to_owned(),
            order,
            train: "2.4".to_owned(),
            train_ga: "2026-03-01".to_owned(),
            kind: ReleaseKind::Feature,
            requires: Vec::new(),
            channels: vec!["stable".to_owned()],
            hw_ids: vec!["cam-r3".to_owned()],
            security_counter: 1,
            min_installed: None,
            advisories: Vec::new(),
            notes: None,
            image: image.to_vec(),
        }
    }

    /// It needs an entitlement.
    pub fn requires(mut self, code: &str) -> Self {
        self.requires.push(code.to_owned());
        self
    }

    /// It closes a vulnerability.
    pub fn security(mut self, advisory: &str) -> Self {
        self.kind = ReleaseKind::Security;
        self.advisories.push(advisory.to_owned());
        self
    }

    /// It begins or belongs to another train.
    pub fn train(mut self, name: &str, ga: &str) -> Self {
        name.clone_into(&mut self.train);
        ga.clone_into(&mut self.train_ga);
        self
    }

    pub fn notes(mut self, text: &str) -> Self {
        self.notes = Some(text.to_owned());
        self
    }

    pub fn digest(&self) -> Digest {
        Digest::of(&self.image)
    }

    fn file(&self, name: &str) -> String {
        format!("{}/{}/{name}", self.product, self.version)
    }

    /// The TUF target path.
    pub fn path(&self) -> String {
        self.file(&format!("{}.bin", self.component))
    }

    /// The path with which a client of consistent snapshots asks.
    pub fn url(&self) -> String {
        format!("/targets/{}/{}/{}.{}.bin", self.product, self.version, self.digest(), self.component)
    }

    /// The path with which tough asks.
    pub fn url_by_hash(&self) -> String {
        format!("/targets/{}.{}", self.digest(), self.path())
    }

    /// Its files: image first, then notes.
    pub fn blobs(&self) -> Vec<Vec<u8>> {
        std::iter::once(self.image.clone()).chain(self.notes.iter().map(|text| text.clone().into_bytes())).collect()
    }

    fn targets(&self) -> Vec<RepositoryTarget> {
        let set = |items: &[String]| items.iter().cloned().collect::<BTreeSet<_>>();
        let notes = self.notes.as_ref().map(|text| RepositoryTarget {
            path: self.file("notes.md"),
            length: text.len() as u64,
            sha256: sha256(text.as_bytes()),
            custom: None,
        });
        let custom = ReleaseCustom {
            product: self.product.clone(),
            component: self.component.clone(),
            version: self.version.clone(),
            order: self.order,
            train: self.train.clone(),
            train_ga: self.train_ga.parse().unwrap(),
            hw_ids: set(&self.hw_ids),
            security_counter: self.security_counter,
            min_installed: self.min_installed.clone(),
            channels: set(&self.channels),
            kind: self.kind,
            requires: set(&self.requires),
            advisories: set(&self.advisories),
            sbom: None,
            provenance: None,
            notes: notes.as_ref().map(|notes| notes.path.clone()),
        };
        let image = RepositoryTarget::image(self.path(), self.image.len() as u64, sha256(&self.image), &custom);
        std::iter::once(image).chain(notes).collect()
    }
}

/// Signs documents for one server. Times are counted from `now`.
#[derive(Clone, Debug)]
pub struct Ceremony {
    pub online: OnlineKeys,
    pub now: Timestamp,
    /// The signing epoch of the roots.
    pub epoch: u64,
}

/// Three keys of an offline role.
pub fn holders(role: &str) -> Vec<SigningKey> {
    (1..=3).map(|number| SigningKey::from_seed(&sha256(format!("{role} {number}").as_bytes())).unwrap()).collect()
}

/// The document with the signatures of these keys.
pub fn signed(document: Json, keys: &[SigningKey]) -> Vec<u8> {
    let mut envelope = Envelope::new(document);
    for key in keys {
        envelope.sign(key);
    }
    envelope.to_bytes()
}

fn role_of<'a>(keys: impl IntoIterator<Item = &'a PublicKey>, threshold: u32) -> RoleKeys {
    RoleKeys::new(keys, threshold)
}

pub fn document(repository: PublishRepository, role: &str, version: u64, bytes: &[u8]) -> PublishDocument {
    PublishDocument { repository, role: role.to_owned(), version, body: STANDARD.encode(bytes) }
}

/// The bytes of a document of a publication.
pub fn bytes_of(document: &PublishDocument) -> Vec<u8> {
    STANDARD.decode(&document.body).unwrap()
}

impl Ceremony {
    fn days(&self, days: i64) -> Timestamp {
        self.now + SignedDuration::from_hours(24 * days)
    }

    fn root(&self, version: u64, repo: &str, root: &str, targets: &[&PublicKey], threshold: u32) -> RootMetadata {
        let holders = holders(root);
        let holders: Vec<&PublicKey> = holders.iter().map(SigningKey::public).collect();
        let (snapshot, timestamp) = (&self.online.snapshot, &self.online.timestamp);
        let all = holders.iter().copied().chain(targets.iter().copied()).chain([snapshot, timestamp]);
        RootMetadata {
            version,
            expires: self.days(365),
            consistent_snapshot: true,
            keys: all.map(|key| (key.keyid().to_owned(), key.clone())).collect(),
            roles: BTreeMap::from([
                ("root".to_owned(), role_of(holders.iter().copied(), 2)),
                ("targets".to_owned(), role_of(targets.iter().copied(), threshold)),
                ("snapshot".to_owned(), role_of([snapshot], 1)),
                ("timestamp".to_owned(), role_of([timestamp], 1)),
            ]),
            repo_id: Some(repo.to_owned()),
            entitlement: None,
            epoch: self.epoch,
        }
    }

    /// An image root.
    pub fn image_root(&self, version: u64) -> PublishDocument {
        let targets = holders("targets");
        let targets: Vec<&PublicKey> = targets.iter().map(SigningKey::public).collect();
        let root = self.root(version, IMAGE_REPO, "root", &targets, 2);
        let bytes = signed(root.to_json(), &holders("root")[..2]);
        document(PublishRepository::Image, "root", version, &bytes)
    }

    /// A director root.
    pub fn director_root(&self, version: u64) -> PublishDocument {
        let mut root = self.root(version, DIRECTOR_REPO, "director root", &[&self.online.director], 1);
        let entitlement = &self.online.entitlement;
        root.keys.insert(entitlement.keyid().to_owned(), entitlement.clone());
        root.entitlement = Some(role_of([entitlement], 1));
        let bytes = signed(root.to_json(), &holders("director root")[..2]);
        document(PublishRepository::Director, "root", version, &bytes)
    }

    /// The top document, which only delegates.
    pub fn top(&self, version: u64, products: &[&str]) -> PublishDocument {
        let bytes = signed(self.top_metadata(version, products).to_json(), &holders("targets")[..2]);
        document(PublishRepository::Image, "targets", version, &bytes)
    }

    fn top_metadata(&self, version: u64, products: &[&str]) -> TargetsMetadata {
        let mut top = TargetsMetadata::new(version, self.days(300), Some(IMAGE_REPO.to_owned()));
        for product in products {
            let keys = holders(product);
            for key in &keys {
                top.delegation_keys.insert(key.public().keyid().to_owned(), key.public().clone());
            }
            top.delegations.push(Delegation {
                name: (*product).to_owned(),
                keys: role_of(keys.iter().map(SigningKey::public), 2),
                paths: Paths::pattern(format!("{product}/*/*")),
                terminating: true,
            });
        }
        top
    }

    /// The top document with embargo roles, each in front of everything else.
    pub fn top_with_embargo(&self, version: u64, products: &[&str], embargo: &[(&str, &str)]) -> PublishDocument {
        let mut top = self.top_metadata(version, products);
        for (role, product) in embargo {
            let keys = holders(role);
            for key in &keys {
                top.delegation_keys.insert(key.public().keyid().to_owned(), key.public().clone());
            }
            let delegation = Delegation {
                name: (*role).to_owned(),
                keys: role_of(keys.iter().map(SigningKey::public), 2),
                paths: Paths::pattern(format!("{product}/*/*")),
                terminating: false,
            };
            top.delegations.insert(0, delegation);
        }
        let bytes = signed(top.to_json(), &holders("targets")[..2]);
        document(PublishRepository::Image, "targets", version, &bytes)
    }

    /// A document of an embargo role, to be shown from this moment on.
    pub fn embargo(
        &self,
        role: &str,
        version: u64,
        not_before: Option<Timestamp>,
        releases: &[Release],
    ) -> PublishDocument {
        let mut metadata = self.role_metadata(version, releases);
        metadata.not_before = not_before;
        Self::sign_role(role, &metadata, &holders(role)[..2])
    }

    /// The metadata of a product role, to be changed before it is signed.
    pub fn role_metadata(&self, version: u64, releases: &[Release]) -> TargetsMetadata {
        let mut role = TargetsMetadata::new(version, self.days(100), Some(IMAGE_REPO.to_owned()));
        for target in releases.iter().flat_map(Release::targets) {
            role.targets.insert(target.path.clone(), target);
        }
        role
    }

    /// A product role's document with its releases.
    pub fn role(&self, product: &str, version: u64, releases: &[Release]) -> PublishDocument {
        Self::sign_role(product, &self.role_metadata(version, releases), &holders(product)[..2])
    }

    pub fn sign_role(product: &str, metadata: &TargetsMetadata, keys: &[SigningKey]) -> PublishDocument {
        document(PublishRepository::Image, product, metadata.version, &signed(metadata.to_json(), keys))
    }

    /// The same document with other bytes.
    pub fn altered(original: &PublishDocument, alter: impl FnOnce(&mut Vec<u8>)) -> PublishDocument {
        let mut bytes = bytes_of(original);
        alter(&mut bytes);
        PublishDocument { body: STANDARD.encode(bytes), ..original.clone() }
    }
}
