//! What the offline side made: keys, roots, releases, and the patches between them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use jiff::{SignedDuration, Timestamp};
use sha2::{Digest as _, Sha256};
use sluice_catalog::Digest;
use sluice_delta::{DiffOptions, Patch, diff};
use sluice_signer::online::{sign_snapshot, sign_timestamp};
use sluice_signer::{
    Delegation, Delta, DirectorTarget, Envelope, FileMeta, FullEncoding, FullImage, Paths, ReleaseCustom, ReleaseKind,
    RepositoryTarget, RoleKeys, RootMetadata, SigningKey, TargetsMetadata,
};

pub const PRODUCT: &str = "acme-cam";
pub const HW_ID: &str = "cam-r3";
/// The role that signs in advance for the product.
pub const EMBARGO: &str = "embargo-0123456789abcdef";

/// The online and offline keys of one installation.
pub struct Keys {
    pub image_root: SigningKey,
    pub targets: SigningKey,
    pub product: SigningKey,
    pub snapshot: SigningKey,
    pub timestamp: SigningKey,
    pub director_root: SigningKey,
    pub director: SigningKey,
    pub entitlement: SigningKey,
}

pub fn key(name: &str) -> SigningKey {
    SigningKey::from_seed(&Sha256::digest(name.as_bytes()).into()).unwrap()
}

impl Keys {
    fn new() -> Self {
        Self {
            image_root: key("image root"),
            targets: key("targets"),
            product: key("product"),
            snapshot: key("snapshot"),
            timestamp: key("timestamp"),
            director_root: key("director root"),
            director: key("director"),
            entitlement: key("entitlement"),
        }
    }
}

/// One release's facts; the rest of its custom block is the same for all.
#[derive(Clone)]
pub struct Release {
    pub version: &'static str,
    pub order: u64,
    pub security_counter: u64,
    pub min_installed: Option<&'static str>,
    pub hw_ids: Vec<&'static str>,
    pub channels: Vec<&'static str>,
    pub requires: Vec<&'static str>,
    pub image: Vec<u8>,
}

impl Release {
    pub fn path(&self) -> String {
        format!("{PRODUCT}/{}/main.bin", self.version)
    }

    pub fn sha256(&self) -> [u8; 32] {
        Sha256::digest(&self.image).into()
    }

    pub fn digest(&self) -> Digest {
        Digest(self.sha256())
    }

    fn target(&self) -> RepositoryTarget {
        let names = |list: &[&str]| list.iter().map(|&name| name.to_owned()).collect::<BTreeSet<_>>();
        let custom = ReleaseCustom {
            product: PRODUCT.to_owned(),
            component: "main".to_owned(),
            version: self.version.to_owned(),
            order: self.order,
            train: "1.0".to_owned(),
            train_ga: jiff::civil::date(2026, 1, 1),
            hw_ids: names(&self.hw_ids),
            security_counter: self.security_counter,
            min_installed: self.min_installed.map(str::to_owned),
            channels: names(&self.channels),
            kind: ReleaseKind::Maintenance,
            requires: names(&self.requires),
            advisories: BTreeSet::new(),
            sbom: None,
            provenance: None,
            notes: None,
        };
        RepositoryTarget::image(self.path(), self.image.len() as u64, self.sha256(), &custom)
    }
}

/// Bytes that do not compress, the same every time.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length + 32);
    let mut counter = 0u64;
    while bytes.len() < length {
        bytes.extend_from_slice(&Sha256::digest([seed.to_le_bytes(), counter.to_le_bytes()].concat()));
        counter += 1;
    }
    bytes.truncate(length);
    bytes
}

/// The first image: 320 KiB, half noise, half text.
fn first_image() -> Vec<u8> {
    let mut image = noise(1, 160 << 10);
    while image.len() < 320 << 10 {
        image.extend_from_slice(b"firmware configuration table entry; ");
    }
    image.truncate(320 << 10);
    image
}

/// The next image: every 16 KiB a quarter is new, so that each segment of a patch has bytes of its own.
fn next_image(old: &[u8], seed: u64) -> Vec<u8> {
    let mut image = old.to_vec();
    for (number, block) in image.chunks_mut(16 << 10).enumerate() {
        let fresh = noise(seed * 1000 + number as u64, 4 << 10);
        let end = fresh.len().min(block.len());
        block[..end].copy_from_slice(&fresh[..end]);
    }
    image.extend_from_slice(&noise(seed, 5000));
    image
}

/// The installation: keys and the releases that were signed, v1 first.
pub struct World {
    pub keys: Keys,
    pub releases: Vec<Release>,
    pub now: Timestamp,
    /// The version that an embargo role signed instead of the product's own.
    pub embargoed: Option<&'static str>,
    /// The signing epoch of the roots.
    pub epoch: u64,
}

impl World {
    /// Versions 1.0 (which devices are born with), 2.0 and 3.0.
    pub fn new(now: Timestamp) -> Self {
        let first = first_image();
        let second = next_image(&first, 2);
        let third = next_image(&second, 3);
        let release = |version, order, security_counter, image| Release {
            version,
            order,
            security_counter,
            min_installed: None,
            hw_ids: vec![HW_ID, "cam-r4"],
            channels: vec!["stable"],
            requires: vec![],
            image,
        };
        let releases =
            vec![release("1.0", 100, 3, first), release("2.0", 200, 4, second), release("3.0", 300, 4, third)];
        Self { keys: Keys::new(), releases, now, embargoed: None, epoch: 1 }
    }

    pub fn release(&self, version: &str) -> &Release {
        self.releases.iter().find(|release| release.version == version).unwrap()
    }

    pub fn release_mut(&mut self, version: &str) -> &mut Release {
        self.releases.iter_mut().find(|release| release.version == version).unwrap()
    }

    fn days(&self, days: i64) -> Timestamp {
        self.now + SignedDuration::from_hours(24 * days)
    }

    pub fn image_root(&self, version: u64) -> Vec<u8> {
        self.root(version, &self.keys.image_root, &self.keys.targets)
    }

    pub fn director_root(&self, version: u64) -> Vec<u8> {
        self.root_with(version, &self.keys.director_root, &self.keys.director, Some(&self.keys.entitlement))
    }

    pub fn root(&self, version: u64, root: &SigningKey, targets: &SigningKey) -> Vec<u8> {
        self.root_with(version, root, targets, None)
    }

    fn root_with(
        &self,
        version: u64,
        root: &SigningKey,
        targets: &SigningKey,
        entitlement: Option<&SigningKey>,
    ) -> Vec<u8> {
        let roles = [
            ("root", root),
            ("targets", targets),
            ("snapshot", &self.keys.snapshot),
            ("timestamp", &self.keys.timestamp),
        ];
        let metadata = RootMetadata {
            version,
            expires: self.days(365),
            consistent_snapshot: true,
            keys: roles
                .iter()
                .map(|(_, key)| *key)
                .chain(entitlement)
                .map(|key| (key.public().keyid().to_owned(), key.public().clone()))
                .collect(),
            roles: roles.iter().map(|(name, key)| ((*name).to_owned(), RoleKeys::new([key.public()], 1))).collect(),
            repo_id: None,
            entitlement: entitlement.map(|key| RoleKeys::new([key.public()], 1)),
            epoch: self.epoch,
        };
        let mut envelope = Envelope::new(metadata.to_json());
        envelope.sign(root);
        envelope.to_bytes()
    }

    /// Every metadata file that the server serves, by path. `version` counts the publications.
    pub fn files(&self, version: u64) -> BTreeMap<String, Vec<u8>> {
        let embargo_key = key("embargo");
        let mut top = TargetsMetadata::new(1, self.days(365), None);
        let roles = [(EMBARGO, &embargo_key, false), (PRODUCT, &self.keys.product, true)];
        for (name, key, terminating) in roles.into_iter().skip(usize::from(self.embargoed.is_none())) {
            top.delegation_keys.insert(key.public().keyid().to_owned(), key.public().clone());
            top.delegations.push(Delegation {
                name: name.to_owned(),
                keys: RoleKeys::new([key.public()], 1),
                paths: Paths::pattern(format!("{PRODUCT}/*/*")),
                terminating,
            });
        }
        let mut product = TargetsMetadata::new(version, self.days(120), None);
        let mut embargo = TargetsMetadata { not_before: Some(self.now), ..product.clone() };
        for release in &self.releases {
            let role = if self.embargoed == Some(release.version) { &mut embargo } else { &mut product };
            role.targets.insert(release.path(), release.target());
        }
        let sign = |metadata: &TargetsMetadata, key: &SigningKey| {
            let mut envelope = Envelope::new(metadata.to_json());
            envelope.sign(key);
            envelope.to_bytes()
        };
        let (top, product) = (sign(&top, &self.keys.targets), sign(&product, &self.keys.product));
        let embargo = sign(&embargo, &embargo_key);
        let mut roles = BTreeMap::from([
            ("targets".to_owned(), FileMeta::of(1, &top)),
            (PRODUCT.to_owned(), FileMeta::of(version, &product)),
        ]);
        if self.embargoed.is_some() {
            roles.insert(EMBARGO.to_owned(), FileMeta::of(version, &embargo));
        }
        let snapshot = sign_snapshot(version, self.days(7), roles, None, &self.keys.snapshot);
        let timestamp =
            sign_timestamp(version, self.days(1), FileMeta::of(version, &snapshot), None, &self.keys.timestamp);
        BTreeMap::from([
            ("/metadata/1.root.json".to_owned(), self.image_root(1)),
            ("/director/1.root.json".to_owned(), self.director_root(1)),
            ("/metadata/1.targets.json".to_owned(), top),
            (format!("/metadata/{version}.{PRODUCT}.json"), product),
            (format!("/metadata/{version}.{EMBARGO}.json"), embargo),
            (format!("/metadata/{version}.snapshot.json"), snapshot),
            ("/metadata/timestamp.json".to_owned(), timestamp),
        ])
    }

    /// The patch between two releases; made once for all tests, because making it takes longer than most of them.
    pub fn patch(&self, from: &str, to: &str) -> Patch {
        static MADE: Mutex<BTreeMap<(Digest, Digest), Patch>> = Mutex::new(BTreeMap::new());
        let pair = (self.release(from).digest(), self.release(to).digest());
        MADE.lock().unwrap().entry(pair).or_insert_with(|| self.make_patch(from, to)).clone()
    }

    fn make_patch(&self, from: &str, to: &str) -> Patch {
        let options = DiffOptions { segment_len: Some(32 << 10), ..DiffOptions::default() };
        let (from, to) = (self.release(from), self.release(to));
        diff(&from.image, &to.image, &options, &|_| std::ops::ControlFlow::Continue(())).unwrap()
    }

    /// The director's entry for a release, with its blobs.
    pub fn offer(&self, to: &str, patch: Option<&Patch>, full: FullEncoding) -> (DirectorTarget, Vec<Vec<u8>>) {
        let release = self.release(to);
        let encoded = match full {
            FullEncoding::Raw => release.image.clone(),
            FullEncoding::Zstd => zstd::encode_all(release.image.as_slice(), 3).unwrap(),
        };
        let mut blobs = vec![encoded.clone()];
        let delta = patch.map(|patch| {
            blobs.push(patch.bytes.clone());
            Delta {
                from_sha256: patch.head.old_sha256,
                format: "sluice-1".to_owned(),
                length: patch.bytes.len() as u64,
                sha256: Sha256::digest(&patch.bytes).into(),
                head_length: u64::from(patch.head_len),
                head_sha256: patch.head_sha256(),
                ram: patch.head.ram,
                scratch: patch.head.scratch,
            }
        });
        let target = DirectorTarget {
            path: release.path(),
            length: release.image.len() as u64,
            sha256: release.sha256(),
            hw_id: HW_ID.to_owned(),
            delta,
            full: FullImage { encoding: full, length: encoded.len() as u64, sha256: Sha256::digest(&encoded).into() },
        };
        (target, blobs)
    }
}
