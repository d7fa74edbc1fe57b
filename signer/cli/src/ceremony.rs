//! `root init`, `delegate add` and `renew`: giving roles to holders, and prolonging them.

use crate::args::{DelegateAddArgs, RenewArgs, RootInitArgs};
use crate::documents::Documents;
use crate::failure::Failure;
use crate::folder::{DocumentId, Folder, read_limited};
use crate::stage::Stage;
use crate::{describe, edge, key};
use anyhow::Context as _;
use jiff::Timestamp;
use sluice_signer::publish::Repository;
use sluice_signer::root::{RoleKeys, RootMetadata};
use sluice_signer::{Delegation, Envelope, OnlineKeys, Paths, PublicKey, TargetsMetadata};
use sluice_signer::{advisory, embargo};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Bytes of the server's export of public keys.
const MAX_ONLINE_KEYS_BYTES: u64 = 16 * 1024;
/// Days that roots and the top targets document live by default.
pub const ROOT_EXPIRES_DAYS: u32 = 365;

/// Holders as they were given on the command line: public keys with names.
pub struct Holders(pub Vec<(String, PublicKey)>);

/// The server's public keys, as it exports them.
pub fn read_online_keys(file: &Path) -> anyhow::Result<OnlineKeys> {
    OnlineKeys::from_bytes(&read_limited(file, MAX_ONLINE_KEYS_BYTES)?).with_context(|| file.display().to_string())
}

impl Holders {
    pub fn read(files: &[PathBuf]) -> anyhow::Result<Self> {
        files
            .iter()
            .map(|file| Ok((key::holder_name(file), key::public(file)?)))
            .collect::<anyhow::Result<_>>()
            .map(Self)
    }

    pub fn keys(&self) -> impl Iterator<Item = &PublicKey> {
        self.0.iter().map(|(_, key)| key)
    }

    fn role(&self, threshold: u32) -> RoleKeys {
        RoleKeys::new(self.keys(), threshold)
    }

    pub fn names(&self) -> impl Iterator<Item = (String, String)> {
        self.0.iter().map(|(name, key)| (key.keyid().to_owned(), name.clone()))
    }
}

/// `root init`
pub fn root_init(args: &RootInitArgs, now: Timestamp, json: bool) -> anyhow::Result<()> {
    let online = read_online_keys(&args.online_keys)?;
    let root = Holders::read(&args.holders)?;
    let targets = Holders::read(&args.targets_holders)?;
    let director = Holders::read(&args.director_holders)?;
    let expires = edge::in_days(now, args.expires_days)?;

    let image_root = new_root(
        expires,
        &format!("{}-image", args.id),
        [
            ("root", root.role(args.threshold)),
            ("targets", targets.role(args.threshold)),
            ("snapshot", RoleKeys::new([&online.snapshot], 1)),
            ("timestamp", RoleKeys::new([&online.timestamp], 1)),
        ],
        root.keys().chain(targets.keys()).chain([&online.snapshot, &online.timestamp]),
    );
    let mut director_root = new_root(
        expires,
        &format!("{}-director", args.id),
        [
            ("root", director.role(args.threshold)),
            ("targets", RoleKeys::new([&online.director], 1)),
            ("snapshot", RoleKeys::new([&online.snapshot], 1)),
            ("timestamp", RoleKeys::new([&online.timestamp], 1)),
        ],
        director.keys().chain([&online.director, &online.snapshot, &online.timestamp, &online.entitlement]),
    );
    director_root.entitlement = Some(RoleKeys::new([&online.entitlement], 1));

    let folder = Folder::create(&args.repo)?;
    let documents = Documents {
        limits: folder.limits.clone(),
        holders: BTreeMap::new(),
        products: BTreeMap::new(),
        image_roots: Vec::new(),
        director_roots: Vec::new(),
        sealed: BTreeMap::new(),
        earlier: BTreeMap::new(),
        staged: Vec::new(),
        online_keys: online,
    };
    let overrides = args.overrides.read()?;
    let mut stage = Stage { folder, documents, overrides };
    // Both are linted before anything is written, and the key list, which makes a folder of ours, comes last.
    for (repository, root) in [(Repository::Image, &image_root), (Repository::Director, &director_root)] {
        let id = DocumentId { repository, role: "root".to_owned(), version: 1 };
        stage.staged.push((id, Envelope::new(root.to_json())));
    }
    for (id, _) in stage.staged.clone() {
        stage.overridden(&id, now)?;
    }
    for (id, envelope) in &stage.staged {
        stage.folder.stage(id, envelope)?;
    }
    stage.folder.add_holders(root.names().chain(targets.names()).chain(director.names()))?;
    stage.folder.write_online_keys(&stage.online_keys)?;
    let stage = Stage::load(stage.folder)?;
    describe::print_staged(
        &stage,
        json,
        |_| true,
        "give each product line to its holders with `sluice-sign delegate add`, then let the holders sign",
    )
}

fn new_root<'a>(
    expires: Timestamp,
    repo_id: &str,
    roles: [(&str, RoleKeys); 4],
    keys: impl Iterator<Item = &'a PublicKey>,
) -> RootMetadata {
    RootMetadata {
        version: 1,
        expires,
        consistent_snapshot: true,
        keys: keys.map(|key| (key.keyid().to_owned(), key.clone())).collect(),
        roles: roles.map(|(name, role)| (name.to_owned(), role)).into(),
        repo_id: Some(repo_id.to_owned()),
        entitlement: None,
        epoch: 1,
    }
}

/// `delegate add`
pub fn delegate_add(args: &DelegateAddArgs, now: Timestamp, json: bool) -> anyhow::Result<()> {
    let mut stage = Stage::load(Folder::open(&args.repo)?)?;
    stage.overrides = args.overrides.read()?;
    let reserved = args.product.ends_with(advisory::ROLE_SUFFIX) || embargo::is_role_name(&args.product);
    if reserved || !sluice_signer::path::is_delegated_role_name(&args.product) {
        let message = format!("{:?} cannot be the name of a product role", args.product);
        return Err(Failure::refused(
            message,
            "use letters, digits, '-', '_' and '.', no role of TUF, no '-advisories' at the end, and no name of an embargo role",
        ));
    }
    let holders = Holders::read(&args.holders)?;
    let Some(root) = stage.root(Repository::Image)? else {
        return Err(Failure::refused("there is no root yet", "make one with `sluice-sign root init`"));
    };
    let expires = edge::in_days(now, args.expires_days)?;
    let mut top = match stage.targets("targets")? {
        Some(top) => top,
        None => TargetsMetadata::new(1, expires, root.repo_id.clone()),
    };
    let (role, pattern, threshold) = if args.advisories {
        (advisory::role_of(&args.product), advisory::pattern_of(&args.product), 1)
    } else if args.embargo {
        (embargo::role_name(*edge::random()?), format!("{}/*/*", args.product), 2)
    } else {
        (args.product.clone(), format!("{}/*/*", args.product), 2)
    };
    if top.delegation(&role).is_some() {
        let message = format!("product {} has its holders already", args.product);
        return Err(Failure::refused(message, "see them with `sluice-sign status`"));
    }
    top.version = stage.next_version("targets");
    top.expires = expires;
    for key in holders.keys() {
        top.delegation_keys.insert(key.keyid().to_owned(), key.clone());
    }
    // The product's own role ends the search, so what is signed in advance stands before it.
    let own = top.delegations.iter().position(|one| one.name == args.product).filter(|_| args.embargo);
    let delegation = Delegation {
        name: role.clone(),
        keys: holders.role(args.threshold.unwrap_or(threshold)),
        paths: Paths::pattern(pattern),
        terminating: !args.embargo,
    };
    top.delegations.insert(own.unwrap_or(top.delegations.len()), delegation);
    // A product that was revoked goes on with its versions, and without the releases of whoever lost it.
    let version = stage.next_version(&role);
    let expires = edge::in_days(now, crate::release::expires_days(&role))?;
    let document = TargetsMetadata::new(version, expires, root.repo_id);
    stage.put_all(
        &[
            (DocumentId::image("targets", top.version), top.to_json()),
            (DocumentId::image(&role, version), document.to_json()),
        ],
        now,
    )?;
    stage.folder.add_holders(holders.names())?;
    stage.holders = stage.folder.holders()?;
    let next = if args.embargo {
        "let the holders sign with `sluice-sign sign`, then `sluice-sign publish`: a release can be held when this empty document is shown"
    } else {
        "let the holders sign with `sluice-sign sign`, or prepare the first release with `sluice-sign release new`"
    };
    describe::print_staged(&stage, json, |id| id.role == "targets" || id.role == role, next)
}

/// `renew`: the next version of a role's document, the same but for its expiry.
pub fn renew(args: &RenewArgs, now: Timestamp, json: bool) -> anyhow::Result<()> {
    let mut stage = Stage::load(Folder::open(&args.repo)?)?;
    stage.overrides = args.overrides.read()?;
    let product = !matches!(args.role.as_str(), "root" | "director-root" | "targets");
    let days =
        args.expires_days.unwrap_or(if product { crate::release::expires_days(&args.role) } else { ROOT_EXPIRES_DAYS });
    let expires = edge::in_days(now, days)?;
    if let Some((id, _)) = stage.staged.iter().find(|(id, _)| id.name() == args.role) {
        let message = format!("{} version {} is staged already", id.name(), id.version);
        return Err(Failure::refused(message, "finish signing it, or drop it with `sluice-sign discard`"));
    }
    let repository = if args.role == "director-root" { Repository::Director } else { Repository::Image };
    let next = if !product && args.role != "targets" {
        stage.root(repository)?.map(|root| {
            let version = root.version.saturating_add(1);
            let id = DocumentId { repository, role: "root".to_owned(), version };
            (id, RootMetadata { version, expires, ..root }.to_json())
        })
    } else {
        stage.previous(&args.role)?.map(|document| {
            let version = document.version.saturating_add(1);
            (DocumentId::image(&args.role, version), TargetsMetadata { version, expires, ..document }.to_json())
        })
    };
    let Some((id, signed)) = next else {
        let message = format!("role {} has no complete document to renew", args.role);
        return Err(Failure::refused(message, "see what is there with `sluice-sign status`"));
    };
    stage.put(&id, signed, now)?;
    describe::print_staged(&stage, json, |touched| *touched == id, "let the holders sign with `sluice-sign sign`")
}
