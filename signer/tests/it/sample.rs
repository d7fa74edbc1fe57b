//! A small repository with fixed keys and times: three holders for each offline role, of whom the first two sign.

use jiff::{SignedDuration, Timestamp};
use sluice_signer::director::{Delta, DirectorDocument, DirectorTarget, FullEncoding, FullImage};
use sluice_signer::entitlement::{Certificate, CertifiedCover, CertifiedState};
use sluice_signer::release::{ReleaseCustom, ReleaseKind};
use sluice_signer::roles::FileMeta;
use sluice_signer::root::{RoleKeys, RootMetadata};
use sluice_signer::targets::{Delegation, Paths, RepositoryTarget, TargetsMetadata};
use sluice_signer::{
    Envelope, Json, Limits, Lookup, OnlineKeys, SigningKey, TrustedRepository, VerifyError, online, sha256,
};
use std::collections::{BTreeMap, BTreeSet};

pub const PRODUCT: &str = "acme-cam";
pub const REPO_ID: &str = "acme-images";
pub const DIRECTOR_REPO_ID: &str = "acme-director";

pub fn limits() -> Limits {
    Limits::default()
}

/// The moment at which everything is checked.
pub fn now() -> Timestamp {
    "2026-06-01T12:00:00Z".parse().unwrap()
}

pub fn days(days: i64) -> SignedDuration {
    SignedDuration::from_hours(24 * days)
}

/// A key from a fixed seed: every byte of the seed is `number`.
pub fn key(number: u8) -> SigningKey {
    SigningKey::from_seed(&[number; 32]).unwrap()
}

/// Three holders with consecutive numbers.
pub fn holders(first: u8) -> Vec<SigningKey> {
    (first..first + 3).map(key).collect()
}

pub const ROOT: u8 = 1;
pub const TARGETS: u8 = 11;
pub const PRODUCT_ROLE: u8 = 21;
pub const DIRECTOR_ROOT: u8 = 31;
pub const SNAPSHOT: u8 = 101;
pub const TIMESTAMP: u8 = 102;
pub const DIRECTOR: u8 = 103;
pub const ENTITLEMENT: u8 = 104;
pub const DEVICE: u8 = 120;

pub fn online_keys() -> OnlineKeys {
    OnlineKeys {
        snapshot: key(SNAPSHOT).public().clone(),
        timestamp: key(TIMESTAMP).public().clone(),
        director: key(DIRECTOR).public().clone(),
        entitlement: key(ENTITLEMENT).public().clone(),
        next: std::collections::BTreeMap::new(),
    }
}

pub fn role_of(keys: &[SigningKey], threshold: u32) -> RoleKeys {
    RoleKeys::new(keys.iter().map(SigningKey::public), threshold)
}

/// The signed document with signatures of these keys.
pub fn signed(value: Json, keys: &[SigningKey]) -> Vec<u8> {
    let mut envelope = Envelope::new(value);
    for key in keys {
        envelope.sign(key);
    }
    envelope.to_bytes()
}

/// A root of one repository naming the usual holders.
pub fn root(
    version: u64,
    first_root: u8,
    targets: &[SigningKey],
    targets_threshold: u32,
    repo_id: &str,
) -> RootMetadata {
    let holders = holders(first_root);
    let (snapshot, timestamp) = ([key(SNAPSHOT)], [key(TIMESTAMP)]);
    let mut keys = BTreeMap::new();
    for key in holders.iter().chain(targets).chain(&snapshot).chain(&timestamp) {
        keys.insert(key.public().keyid().to_owned(), key.public().clone());
    }
    let roles = BTreeMap::from([
        ("root".to_owned(), role_of(&holders, 2)),
        ("targets".to_owned(), role_of(targets, targets_threshold)),
        ("snapshot".to_owned(), role_of(&snapshot, 1)),
        ("timestamp".to_owned(), role_of(&timestamp, 1)),
    ]);
    RootMetadata {
        version,
        expires: now() + days(365),
        consistent_snapshot: true,
        keys,
        roles,
        repo_id: Some(repo_id.to_owned()),
        entitlement: None,
        epoch: 1,
    }
}

pub fn image_root(version: u64) -> RootMetadata {
    root(version, ROOT, &holders(TARGETS), 2, REPO_ID)
}

pub fn director_root(version: u64) -> RootMetadata {
    let mut root = root(version, DIRECTOR_ROOT, &[key(DIRECTOR)], 1, DIRECTOR_REPO_ID);
    let entitlement = key(ENTITLEMENT);
    root.keys.insert(entitlement.public().keyid().to_owned(), entitlement.public().clone());
    root.entitlement = Some(role_of(&[entitlement], 1));
    root
}

pub fn delegation(name: &str, keys: &[SigningKey], pattern: &str) -> Delegation {
    Delegation { name: name.to_owned(), keys: role_of(keys, 2), paths: Paths::pattern(pattern), terminating: true }
}

pub fn top(version: u64, delegations: Vec<(Delegation, Vec<SigningKey>)>) -> TargetsMetadata {
    let mut top = TargetsMetadata::new(version, now() + days(300), Some(REPO_ID.to_owned()));
    for (delegation, keys) in delegations {
        for key in keys {
            top.delegation_keys.insert(key.public().keyid().to_owned(), key.public().clone());
        }
        top.delegations.push(delegation);
    }
    top
}

/// The image of a version: a few bytes that say what they are.
pub fn image(version: &str) -> Vec<u8> {
    format!("firmware {PRODUCT} {version}").repeat(64).into_bytes()
}

pub fn custom(version: &str, order: u64) -> ReleaseCustom {
    let set = |items: &[&str]| items.iter().map(|&item| item.to_owned()).collect::<BTreeSet<String>>();
    ReleaseCustom {
        product: PRODUCT.to_owned(),
        component: "main".to_owned(),
        version: version.to_owned(),
        order,
        train: "2.4".to_owned(),
        train_ga: "2026-03-01".parse().unwrap(),
        hw_ids: set(&["cam-r3", "cam-r4"]),
        security_counter: 7,
        min_installed: None,
        channels: set(&["stable"]),
        kind: ReleaseKind::Feature,
        requires: set(&["FW.CAM.MAJOR"]),
        advisories: BTreeSet::new(),
        sbom: None,
        provenance: None,
        notes: None,
    }
}

pub fn path(version: &str) -> String {
    format!("{PRODUCT}/{version}/main.bin")
}

pub fn target(custom: &ReleaseCustom) -> RepositoryTarget {
    let image = image(&custom.version);
    RepositoryTarget::image(path(&custom.version), image.len() as u64, sha256(&image), custom)
}

/// The documents of one moment, changed at will before they are signed.
#[derive(Clone)]
pub struct Sample {
    pub root: RootMetadata,
    pub top: TargetsMetadata,
    pub product: TargetsMetadata,
    pub snapshot_version: u64,
    pub timestamp_version: u64,
    pub snapshot_expires: Timestamp,
    pub timestamp_expires: Timestamp,
}

impl Sample {
    /// Version 1 of everything, with releases 2.4.0 and 2.4.1.
    pub fn new() -> Self {
        let keys = holders(PRODUCT_ROLE);
        let mut product = TargetsMetadata::new(1, now() + days(100), Some(REPO_ID.to_owned()));
        for release in [custom("2.4.0", 20400), custom("2.4.1", 20401)] {
            product.targets.insert(path(&release.version), target(&release));
        }
        Self {
            root: image_root(1),
            top: top(1, vec![(delegation(PRODUCT, &keys, "acme-cam/*/*"), keys)]),
            product,
            snapshot_version: 1,
            timestamp_version: 1,
            snapshot_expires: now() + days(7),
            timestamp_expires: now() + days(1),
        }
    }

    pub fn root_bytes(&self) -> Vec<u8> {
        signed(self.root.to_json(), &holders(ROOT)[..2])
    }

    pub fn top_bytes(&self) -> Vec<u8> {
        signed(self.top.to_json(), &holders(TARGETS)[..2])
    }

    pub fn product_bytes(&self) -> Vec<u8> {
        signed(self.product.to_json(), &holders(PRODUCT_ROLE)[..2])
    }

    pub fn snapshot_bytes(&self) -> Vec<u8> {
        let roles = BTreeMap::from([
            ("targets".to_owned(), FileMeta::of(self.top.version, &self.top_bytes())),
            (PRODUCT.to_owned(), FileMeta::of(self.product.version, &self.product_bytes())),
        ]);
        let repo_id = Some(REPO_ID.to_owned());
        online::sign_snapshot(self.snapshot_version, self.snapshot_expires, roles, repo_id, &key(SNAPSHOT))
    }

    pub fn timestamp_bytes(&self) -> Vec<u8> {
        let snapshot = FileMeta::of(self.snapshot_version, &self.snapshot_bytes());
        let repo_id = Some(REPO_ID.to_owned());
        online::sign_timestamp(self.timestamp_version, self.timestamp_expires, snapshot, repo_id, &key(TIMESTAMP))
    }

    /// The next publication: every online version one higher.
    pub fn next(&self) -> Self {
        let mut next = self.clone();
        next.snapshot_version += 1;
        next.timestamp_version += 1;
        next
    }

    /// A device that was provisioned with the root and saw nothing else yet.
    pub fn device(&self) -> TrustedRepository {
        TrustedRepository::from_root(&self.root_bytes(), &limits()).unwrap()
    }

    /// What a device does after the roots: timestamp, snapshot, both targets documents.
    pub fn refresh(&self, device: &mut TrustedRepository, now: Timestamp) -> Result<(), VerifyError> {
        device.update_timestamp(&self.timestamp_bytes(), now)?;
        if device.wanted_snapshot().is_some() {
            device.update_snapshot(&self.snapshot_bytes(), now)?;
        }
        if device.wanted_role("targets").is_some() {
            device.update_targets("targets", "root", &self.top_bytes(), now)?;
        }
        if device.wanted_role(PRODUCT).is_some() {
            device.update_targets(PRODUCT, "targets", &self.product_bytes(), now)?;
        }
        Ok(())
    }

    /// A device that is up to date.
    pub fn current_device(&self) -> TrustedRepository {
        let mut device = self.device();
        self.refresh(&mut device, now()).unwrap();
        device
    }
}

/// Whether the search finds the target.
pub fn finds(device: &TrustedRepository, path: &str, now: Timestamp) -> bool {
    matches!(device.target(path, now), Ok(Lookup::Found(_)))
}

/// The director's offer of one version to `cam-0001`, with a patch.
pub fn offer(version: &str) -> DirectorDocument {
    let image = image(version);
    let delta = Delta {
        from_sha256: sha256(b"the image that runs"),
        format: "sluice-v1".to_owned(),
        length: 4096,
        sha256: sha256(b"the patch"),
        head_length: 200,
        head_sha256: sha256(b"the head of the patch"),
        ram: 1 << 20,
        scratch: 0,
    };
    let target = DirectorTarget {
        path: path(version),
        length: image.len() as u64,
        sha256: sha256(&image),
        hw_id: "cam-r3".to_owned(),
        delta: Some(delta),
        full: FullImage { encoding: FullEncoding::Zstd, length: 777, sha256: sha256(b"compressed") },
    };
    DirectorDocument {
        device_id: "cam-0001".to_owned(),
        nonce: Some("6e6f6e6365".to_owned()),
        server_time: now(),
        version: 1_780_315_200,
        expires: now() + SignedDuration::from_mins(60),
        rollout_id: Some("0197a0de-0000-7000-8000-000000000001".to_owned()),
        reason: "ENTITLED".to_owned(),
        targets: BTreeMap::from([(target.path.clone(), target)]),
        repo_id: Some(DIRECTOR_REPO_ID.to_owned()),
    }
}

/// "Nothing for you."
pub fn nothing() -> DirectorDocument {
    DirectorDocument {
        rollout_id: None,
        reason: "UP_TO_DATE".to_owned(),
        targets: BTreeMap::new(),
        expires: now() + SignedDuration::from_hours(24),
        ..offer("2.4.1")
    }
}

/// What two contracts cover of `cam-0001`, with every field that a certificate has.
pub fn certificate() -> Certificate {
    let at = |text: &str| text.parse::<Timestamp>().unwrap();
    let codes =
        |list: &[(&str, &str)]| list.iter().map(|&(code, channel)| (code.to_owned(), channel.to_owned())).collect();
    let cover = |contract: &str, rule: &str, codes, windows| CertifiedCover {
        contract: contract.to_owned(),
        plan: "plus".to_owned(),
        rule: rule.to_owned(),
        grace_days: 14,
        codes,
        windows,
    };
    Certificate {
        device_id: "cam-0001".to_owned(),
        product: PRODUCT.to_owned(),
        serial: "SN-0001".to_owned(),
        device_key: hex::encode(key(DEVICE).public().ed25519_bytes().unwrap()),
        device_epoch: 3,
        state: CertifiedState::Active,
        replaced_at: Some(at("2026-07-01T00:00:00Z")),
        confirmed_train: Some("2.4".to_owned()),
        signing_epoch: 1,
        covers: vec![
            cover(
                "C-1001",
                "train-ga",
                codes(&[("FW.CAM.MAJOR", "stable")]),
                vec![
                    (at("2025-01-01T00:00:00Z"), at("2026-01-01T00:00:00Z")),
                    (at("2026-02-01T00:00:00Z"), at("2027-02-01T00:00:00Z")),
                ],
            ),
            cover(
                "C-1002",
                "release-date",
                codes(&[("FW.CAM.AI", "beta")]),
                vec![(at("2026-03-01T00:00:00Z"), at("2026-09-01T00:00:00Z"))],
            ),
        ],
        published: BTreeMap::from([
            ("2.4.0".to_owned(), at("2026-03-01T09:00:00Z")),
            ("2.4.1".to_owned(), at("2026-04-15T09:00:00Z")),
        ]),
        issued: now(),
        expires: now() + days(30),
        repo_id: Some(DIRECTOR_REPO_ID.to_owned()),
    }
}

/// The certificate, signed by key E.
pub fn certified(certificate: &Certificate) -> Vec<u8> {
    certificate.unsigned(&limits()).unwrap().signed_by(&key(ENTITLEMENT))
}

/// Frozen certificates by file name.
pub fn frozen_certificates() -> BTreeMap<&'static str, Vec<u8>> {
    let blocked = Certificate {
        device_epoch: 4,
        state: CertifiedState::Blocked,
        replaced_at: None,
        confirmed_train: None,
        covers: Vec::new(),
        published: BTreeMap::new(),
        ..certificate()
    };
    BTreeMap::from([("active.json", certified(&certificate())), ("blocked.json", certified(&blocked))])
}

/// The documents of the frozen sample by file name. They exercise every field that the formats have.
pub fn frozen_documents() -> BTreeMap<&'static str, Vec<u8>> {
    let mut sample = Sample::new();
    let mut security = custom("2.4.2", 20402);
    security.kind = ReleaseKind::Security;
    security.security_counter = 8;
    security.min_installed = Some("2.4.0".to_owned());
    security.channels.insert("beta".to_owned());
    security.requires.clear();
    security.advisories.insert("ACME-2026-0012".to_owned());
    for (field, file) in [
        (&mut security.sbom, "bom.cdx.json"),
        (&mut security.provenance, "provenance.dsse.json"),
        (&mut security.notes, "notes.md"),
    ] {
        let path = format!("{PRODUCT}/2.4.2/{file}");
        let body = format!("# {file} of 2.4.2\n");
        let target = RepositoryTarget {
            path: path.clone(),
            length: body.len() as u64,
            sha256: sha256(body.as_bytes()),
            custom: None,
        };
        sample.product.targets.insert(path.clone(), target);
        *field = Some(path);
    }
    sample.product.targets.insert(path("2.4.2"), target(&security));
    let director = |document: &DirectorDocument| document.sign(&key(DIRECTOR), &limits()).unwrap();
    BTreeMap::from([
        ("metadata/1.root.json", sample.root_bytes()),
        ("metadata/1.targets.json", sample.top_bytes()),
        ("metadata/1.acme-cam.json", sample.product_bytes()),
        ("metadata/1.snapshot.json", sample.snapshot_bytes()),
        ("metadata/timestamp.json", sample.timestamp_bytes()),
        ("director/1.root.json", signed(director_root(1).to_json(), &holders(DIRECTOR_ROOT)[..2])),
        ("director/offer.json", director(&offer("2.4.2"))),
        ("director/nothing.json", director(&nothing())),
        ("online-keys.json", online_keys().to_json().to_bytes()),
    ])
}
