//! The copy: the newest documents of a repository with the same holders and thresholds, and a throwaway key for each.

use super::lifetime_days;
use crate::describe::Staged;
use crate::failure::Failure;
use crate::folder::{DocumentId, Folder};
use crate::rotate::{self, Change};
use crate::stage::Stage;
use crate::{edge, status};
use anyhow::Context as _;
use jiff::Timestamp;
use sluice_signer::publish::Repository;
use sluice_signer::root::{RoleKeys, RootMetadata};
use sluice_signer::{Envelope, Json, OnlineKeys, OnlineRole, PublicKey, SigningKey, TargetsMetadata};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use tempfile::TempDir;

/// The holders of an offline role, and their names.
pub fn holders(stage: &Stage, role: &str) -> anyhow::Result<(RoleKeys, Vec<String>)> {
    let role_keys = match role {
        "root" | "targets" => root(stage, Repository::Image)?.role(role)?.clone(),
        "director-root" => root(stage, Repository::Director)?.role("root")?.clone(),
        product => {
            let top = stage.previous("targets")?;
            let delegation = top.as_ref().and_then(|top| top.delegation(product));
            let Some(delegation) = delegation else {
                let message = format!("there is no complete role {product}");
                return Err(Failure::refused(message, "give root, targets, director-root or a product"));
            };
            delegation.keys.clone()
        }
    };
    let names = role_keys.keyids.iter().map(|keyid| stage.holder(keyid)).collect();
    Ok((role_keys, names))
}

/// The newest complete root.
fn root(stage: &Stage, repository: Repository) -> anyhow::Result<RootMetadata> {
    let newest = stage.roots(repository).last().ok_or_else(|| {
        Failure::refused("there is no complete root yet", "see who must sign with `sluice-sign status`")
    })?;
    let envelope = Envelope::parse("root", newest, stage.folder.limits.root_bytes, &stage.folder.limits)?;
    Ok(RootMetadata::from_json(envelope.signed(), &stage.folder.limits)?)
}

/// Who signed the newest complete document of a role.
fn signers(stage: &Stage, repository: Repository, role: &str) -> anyhow::Result<Vec<String>> {
    let bytes = match role {
        "root" => stage.roots(repository).last(),
        _ => stage.sealed.get(role).map(|(_, bytes)| bytes),
    };
    let bytes = bytes.with_context(|| format!("there is no complete role {role}"))?;
    let envelope = Envelope::parse(role, bytes, stage.folder.limit(role), &stage.folder.limits)?;
    Ok(envelope.signatures().map(|(keyid, _)| keyid.to_owned()).collect())
}

/// A copy. Its folder is gone when this is dropped.
pub struct Rehearsal {
    _folder: TempDir,
    pub stage: Stage,
    /// Throwaway keys by their own ids.
    private: BTreeMap<String, Rc<SigningKey>>,
    /// Real key ids, and the throwaway ones in their place.
    instead: BTreeMap<String, String>,
}

impl Rehearsal {
    /// Copies the newest complete documents.
    pub fn of(real: &Stage, now: Timestamp) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir().context("cannot make a folder for the copy")?;
        let mut actors = Actors::default();
        let (image, director) = (root(real, Repository::Image)?, root(real, Repository::Director)?);
        let (image, director) = (actors.root(image)?, actors.root(director)?);
        let mut named = BTreeMap::new();
        for role in OnlineRole::ALL {
            let root = if role.repository() == Repository::Image { &image } else { &director };
            let keyid = role.in_root(root, role.repository()).and_then(|role| role.keyids.first());
            let key = keyid.and_then(|keyid| root.keys.get(keyid)).cloned();
            named.insert(role, key.with_context(|| format!("the roots name no {} key", role.name()))?);
        }
        let key = |role: OnlineRole| named.get(&role).cloned().context("four keys");
        let online_keys = OnlineKeys {
            snapshot: key(OnlineRole::Snapshot)?,
            timestamp: key(OnlineRole::Timestamp)?,
            director: key(OnlineRole::Director)?,
            entitlement: key(OnlineRole::Entitlement)?,
            next: BTreeMap::new(),
        };
        let copy = Folder::create(&folder.path().join("repo"))?;
        copy.write_online_keys(&online_keys)?;
        let mut documents = vec![
            (Repository::Image, "root".to_owned(), first_root(image, now)?),
            (Repository::Director, "root".to_owned(), first_root(director, now)?),
        ];
        if let Some(top) = real.previous("targets")? {
            let top = TargetsMetadata { version: 1, expires: lives("targets", now)?, ..actors.targets(top)? };
            documents.push((Repository::Image, "targets".to_owned(), top.to_json()));
            for product in top.delegations.iter().map(|delegation| &delegation.name) {
                let Some(document) = real.previous(product)? else { continue };
                // What waits for its moment is shown in the copy: a rehearsal is about who can sign.
                let not_before = document.not_before.map(|moment| moment.min(now));
                let document = TargetsMetadata { version: 1, expires: lives(product, now)?, not_before, ..document };
                documents.push((Repository::Image, product.clone(), document.to_json()));
            }
        }
        for (repository, role, signed) in documents {
            let mut envelope = Envelope::new(signed);
            // By those who signed the real one: so it shows who would have to sign again.
            for signer in signers(real, repository, &role)? {
                let key = actors.instead.get(&signer).and_then(|keyid| actors.private.get(keyid));
                if let Some(key) = key {
                    envelope.sign(key);
                }
            }
            let id = DocumentId { repository, role, version: 1 };
            copy.stage(&id, &envelope)?;
            copy.seal(&id)?;
        }
        let names = actors.instead.iter().map(|(real_id, keyid)| (keyid.clone(), real.holder(real_id)));
        copy.add_holders(names)?;
        let Actors { private, instead } = actors;
        let rehearsal = Self { _folder: folder, stage: Stage::load(copy)?, private, instead };
        rehearsal.check(now).context("the repository is not in order before anything has happened")?;
        Ok(rehearsal)
    }

    /// The throwaway key in the place of a real one.
    pub fn throwaway(&self, real: &str) -> anyhow::Result<String> {
        self.instead.get(real).cloned().with_context(|| format!("key {real} is nobody's"))
    }

    /// Somebody new.
    pub fn new_key(&mut self, name: &str) -> anyhow::Result<PublicKey> {
        let key = SigningKey::from_seed(&*edge::random::<32>()?)?;
        let public = key.public().clone();
        self.stage.holders.insert(public.keyid().to_owned(), name.to_owned());
        self.private.insert(public.keyid().to_owned(), Rc::new(key));
        Ok(public)
    }

    pub fn change_holders(&mut self, role: &str, change: &Change, now: Timestamp) -> anyhow::Result<()> {
        let expires = lives("root", now)?;
        match role {
            "root" | "targets" | "director-root" => {
                rotate::stage_holders(&mut self.stage, role, change, expires, now).map(drop)
            }
            product => rotate::stage_product(&mut self.stage, (product, None), change, expires, now).map(drop),
        }
    }

    /// The server gets new keys for these roles, and the roots that name them are staged.
    pub fn rotate_online(&mut self, roles: &[OnlineRole], expires: Timestamp, now: Timestamp) -> anyhow::Result<()> {
        let mut online = self.stage.online_keys.clone();
        for role in roles {
            online.next.insert(*role, self.new_key("the server")?);
        }
        rotate::stage_online(&mut self.stage, online, expires, now, false).map(drop)
    }

    /// As many holders sign as must, without the one whose key is lost.
    pub fn sign(&mut self, lost: Option<&str>, steps: &mut Vec<String>) -> anyhow::Result<()> {
        // A document whose voucher is complete only now is signed in the next round.
        while !self.stage.staged.is_empty() {
            for index in 0..self.stage.staged.len() {
                let Some((id, envelope)) = self.stage.staged.get(index).cloned() else { continue };
                let needs = Staged::of(&self.stage, &id, &envelope)?;
                let (envelope, by) = self.signed(&id, envelope, lost)?;
                self.stage.folder.stage(&id, &envelope)?;
                if !by.is_empty() {
                    let (missing, of) = (needs.missing, needs.waiting_for.join(", "));
                    let by = by.join(", ");
                    steps.push(format!("{} version {} needs {missing} of {of}: signed by {by}", id.name(), id.version));
                }
                if let Some(place) = self.stage.staged.get_mut(index) {
                    place.1 = envelope;
                }
            }
            if self.stage.settle()?.is_empty() {
                let waiting: Vec<String> = self.stage.staged.iter().map(|(id, _)| id.name()).collect();
                anyhow::bail!("those who are left are not enough to sign: {}", waiting.join(", "));
            }
        }
        Ok(())
    }

    fn signed(
        &self,
        id: &DocumentId,
        mut envelope: Envelope,
        lost: Option<&str>,
    ) -> anyhow::Result<(Envelope, Vec<String>)> {
        let mut by = Vec::new();
        for signers in self.stage.signers(id, &envelope)? {
            // By name, so that two rehearsals of one repository read alike.
            let mut keyids: Vec<&String> = signers.role_keys.keyids.iter().collect();
            keyids.sort_by_key(|keyid| self.stage.holder(keyid));
            for keyid in keyids {
                let key = self.private.get(keyid).filter(|_| Some(keyid.as_str()) != lost);
                if let Some(key) = key.filter(|_| signers.missing(&envelope) > 0) {
                    let before = envelope.signatures().count();
                    envelope.sign(key);
                    if envelope.signatures().count() > before {
                        by.push(self.stage.holder(keyid));
                    }
                }
            }
        }
        Ok((envelope, by))
    }

    /// The checks of the server and of devices over everything that is complete.
    pub fn check(&self, now: Timestamp) -> anyhow::Result<()> {
        status::check(&self.stage, status::complete(&self.stage)?, now)
            .map(drop)
            .map_err(|error| anyhow::anyhow!("refused: {error}"))
    }

    /// The role knows nothing of the key that was lost.
    pub fn names_no_more(&self, role: &str, lost: &str) -> anyhow::Result<()> {
        let (role_keys, _) = holders(&self.stage, role)?;
        anyhow::ensure!(!role_keys.keyids.contains(lost), "{role} still names the lost key");
        Ok(())
    }

    /// The repository id that the director's answers repeat.
    pub fn director_repo_id(&self) -> anyhow::Result<Option<String>> {
        Ok(root(&self.stage, Repository::Director)?.repo_id)
    }

    /// The server's private keys as the newest roots name them.
    pub fn online_signers(&self) -> anyhow::Result<BTreeMap<OnlineRole, Rc<SigningKey>>> {
        let mut signers = BTreeMap::new();
        for role in OnlineRole::ALL {
            let root = root(&self.stage, role.repository())?;
            let keyid = role.in_root(&root, role.repository()).and_then(|role| role.keyids.first());
            let key = keyid.and_then(|keyid| self.private.get(keyid));
            signers.insert(role, Rc::clone(key.with_context(|| format!("the {} key", role.name()))?));
        }
        Ok(signers)
    }
}

/// Everybody who has a key.
#[derive(Default)]
struct Actors {
    private: BTreeMap<String, Rc<SigningKey>>,
    instead: BTreeMap<String, String>,
}

impl Actors {
    fn key(&mut self, real: &str) -> anyhow::Result<PublicKey> {
        if let Some(key) = self.instead.get(real).and_then(|keyid| self.private.get(keyid)) {
            return Ok(key.public().clone());
        }
        let key = SigningKey::from_seed(&*edge::random::<32>()?)?;
        let public = key.public().clone();
        self.instead.insert(real.to_owned(), public.keyid().to_owned());
        self.private.insert(public.keyid().to_owned(), Rc::new(key));
        Ok(public)
    }

    fn role(&mut self, role: &RoleKeys, keys: &mut BTreeMap<String, PublicKey>) -> anyhow::Result<RoleKeys> {
        let mut replaced = RoleKeys { keyids: BTreeSet::new(), threshold: role.threshold };
        for real in &role.keyids {
            let key = self.key(real)?;
            replaced.keyids.insert(key.keyid().to_owned());
            keys.insert(key.keyid().to_owned(), key);
        }
        Ok(replaced)
    }

    fn root(&mut self, root: RootMetadata) -> anyhow::Result<RootMetadata> {
        let mut keys = BTreeMap::new();
        let mut roles = BTreeMap::new();
        for (name, role) in &root.roles {
            roles.insert(name.clone(), self.role(role, &mut keys)?);
        }
        let entitlement = root.entitlement.as_ref().map(|role| self.role(role, &mut keys)).transpose()?;
        Ok(RootMetadata { keys, roles, entitlement, ..root })
    }

    fn targets(&mut self, mut targets: TargetsMetadata) -> anyhow::Result<TargetsMetadata> {
        let mut keys = BTreeMap::new();
        for delegation in &mut targets.delegations {
            delegation.keys = self.role(&delegation.keys, &mut keys)?;
        }
        Ok(TargetsMetadata { delegation_keys: keys, ..targets })
    }
}

fn lives(role: &str, now: Timestamp) -> anyhow::Result<Timestamp> {
    edge::in_days(now, lifetime_days(role))
}

fn first_root(root: RootMetadata, now: Timestamp) -> anyhow::Result<Json> {
    Ok(RootMetadata { version: 1, expires: lives("root", now)?, ..root }.to_json())
}
