//! The documents of a repository as they stand: who may sign them, and what is wrong with them. They come from a folder, or
//! with a signing request.

use crate::failure::Failure;
use crate::folder::{Complete, DocumentId};
use crate::output;
use crate::product::Registry;
use jiff::Timestamp;
use sluice_signer::lint::{self, Lint, Peer};
use sluice_signer::publish::Repository;
use sluice_signer::root::{RoleKeys, RootMetadata};
use sluice_signer::{
    DirectorTrust, Envelope, ImageDocuments, Json, Limits, NamedKeys, OnlineKeys, Overrides, PublicKey,
    TargetsMetadata, TrustedRepository,
};
use std::collections::BTreeMap;

/// A set of holders of whom a threshold must sign a document.
pub struct Signers {
    pub keys: BTreeMap<String, PublicKey>,
    pub role_keys: RoleKeys,
}

impl Signers {
    /// How many signatures are still needed.
    pub fn missing(&self, envelope: &Envelope) -> usize {
        let valid = envelope.valid_signers(&self.keys, &self.role_keys).len();
        usize::try_from(self.role_keys.threshold).unwrap_or(usize::MAX).saturating_sub(valid)
    }
}

/// Every document of a repository, read once.
pub struct Documents {
    pub limits: Limits,
    pub online_keys: OnlineKeys,
    pub holders: BTreeMap<String, String>,
    pub products: Registry,
    pub image_roots: Vec<Vec<u8>>,
    pub director_roots: Vec<Vec<u8>>,
    pub sealed: BTreeMap<String, Complete>,
    /// Older complete documents of roles whose newest has a moment, the newest first, to the first that never had one: one of them
    /// is what is shown while the newest is held.
    pub earlier: BTreeMap<String, Vec<Complete>>,
    pub staged: Vec<(DocumentId, Envelope)>,
}

impl Documents {
    /// The name of a key's holder, or the first digits of its id.
    pub fn holder(&self, keyid: &str) -> String {
        self.holders.get(keyid).cloned().unwrap_or_else(|| output::short_id(keyid).to_owned())
    }

    pub fn find_staged(&self, repository: Repository, role: &str) -> Option<&(DocumentId, Envelope)> {
        self.staged.iter().find(|(id, _)| id.repository == repository && id.role == role)
    }

    pub fn read_root(&self, bytes: &[u8]) -> anyhow::Result<RootMetadata> {
        let envelope = Envelope::parse("root", bytes, self.limits.root_bytes, &self.limits)?;
        Ok(RootMetadata::from_json(envelope.signed(), &self.limits)?)
    }

    fn read_targets(&self, role: &str, envelope: &Envelope) -> anyhow::Result<TargetsMetadata> {
        Ok(TargetsMetadata::from_json(role, envelope.signed(), &self.limits)?)
    }

    fn sealed_targets(&self, role: &str) -> anyhow::Result<Option<TargetsMetadata>> {
        let Some((_, bytes)) = self.sealed.get(role) else { return Ok(None) };
        let envelope = Envelope::parse(role, bytes, self.limits.targets_bytes, &self.limits)?;
        self.read_targets(role, &envelope).map(Some)
    }

    /// The newest root, staged or complete.
    pub fn root(&self, repository: Repository) -> anyhow::Result<Option<RootMetadata>> {
        if let Some((_, envelope)) = self.find_staged(repository, "root") {
            return Ok(Some(RootMetadata::from_json(envelope.signed(), &self.limits)?));
        }
        self.roots(repository).last().map(|bytes| self.read_root(bytes)).transpose()
    }

    /// The newest document of a targets role, staged or complete.
    pub fn targets(&self, role: &str) -> anyhow::Result<Option<TargetsMetadata>> {
        match self.find_staged(Repository::Image, role) {
            Some((_, envelope)) => self.read_targets(role, envelope).map(Some),
            None => self.sealed_targets(role),
        }
    }

    /// The newest complete document of a targets role.
    pub fn previous(&self, role: &str) -> anyhow::Result<Option<TargetsMetadata>> {
        self.sealed_targets(role)
    }

    /// The signed part of the complete document before this one.
    pub fn previous_signed(&self, id: &DocumentId) -> anyhow::Result<Option<Json>> {
        let bytes = match (id.role.as_str(), id.repository) {
            ("root", repository) => self.roots(repository).last(),
            (role, _) => self.sealed.get(role).map(|(_, bytes)| bytes),
        };
        let limits = &self.limits;
        let read = |bytes: &Vec<u8>| Envelope::parse(&id.role, bytes, self.limit(&id.role), limits);
        Ok(bytes.map(read).transpose()?.map(|envelope| envelope.signed().clone()))
    }

    /// The complete roots, from the first on.
    pub fn roots(&self, repository: Repository) -> &[Vec<u8>] {
        match repository {
            Repository::Image => &self.image_roots,
            Repository::Director => &self.director_roots,
        }
    }

    /// Whether the complete document of a targets role has the signatures that these holders must give.
    pub fn is_signed_by(&self, role: &str, signers: &Signers) -> anyhow::Result<bool> {
        let Some((_, bytes)) = self.sealed.get(role) else { return Ok(false) };
        let envelope = Envelope::parse(role, bytes, self.limits.targets_bytes, &self.limits)?;
        Ok(signers.missing(&envelope) == 0)
    }

    /// Who must sign a staged document. A root after the first needs the holders of the root before it, too.
    pub fn signers(&self, id: &DocumentId, envelope: &Envelope) -> anyhow::Result<Vec<Signers>> {
        if id.role == "root" {
            let new = RootMetadata::from_json(envelope.signed(), &self.limits)?;
            let old = self.roots(id.repository).last().map(|bytes| self.read_root(bytes)).transpose()?;
            return old.iter().chain([&new]).map(root_signers).collect();
        }
        if id.role == "targets" {
            let Some(root) = self.root(Repository::Image)? else { return Ok(Vec::new()) };
            let role_keys = root.role("targets")?.clone();
            return Ok(vec![Signers { keys: root.keys, role_keys }]);
        }
        let delegation = self.targets("targets")?.and_then(|top| {
            let role_keys = top.delegation(&id.role)?.keys.clone();
            Some(Signers { keys: top.delegation_keys, role_keys })
        });
        delegation.map(|signers| vec![signers]).ok_or_else(|| {
            Failure::refused(
                format!("{}: no targets document delegates to it", id.role),
                "give the product to its holders with `sluice-sign delegate add`",
            )
        })
    }

    /// Mistakes in a staged document that its signers do not override.
    pub fn lints(&self, id: &DocumentId, envelope: &Envelope, now: Timestamp) -> anyhow::Result<Vec<Lint>> {
        Ok(Overrides::apply(&id.name(), envelope.signed(), self.all_lints(id, envelope, now)?))
    }

    /// Mistakes that its signers override, each with what it is about: one code may cover several.
    pub fn overridden_lints(&self, id: &DocumentId, envelope: &Envelope, now: Timestamp) -> anyhow::Result<Vec<Lint>> {
        let mut lints = self.all_lints(id, envelope, now)?;
        let standing = Overrides::apply(&id.name(), envelope.signed(), lints.clone());
        lints.retain(|lint| !standing.contains(lint));
        Ok(lints)
    }

    fn all_lints(&self, id: &DocumentId, envelope: &Envelope, now: Timestamp) -> anyhow::Result<Vec<Lint>> {
        let limits = &self.limits;
        let mut lints =
            lint::lint_document(&id.name(), envelope.signed(), envelope.to_bytes().len(), self.limit(&id.role));
        match (id.role.as_str(), id.repository) {
            ("root", repository) => {
                let root = RootMetadata::from_json(envelope.signed(), limits)?;
                let before = self.roots(repository).last().map(|bytes| self.read_root(bytes)).transpose()?;
                let expected = before.as_ref().and_then(|before| before.repo_id.as_deref());
                lints.extend(lint::lint_repository(&id.name(), root.repo_id.as_deref(), expected));
                lints.extend(match repository {
                    Repository::Image => lint::lint_image_root(&root, &self.online_keys, now),
                    Repository::Director => lint::lint_director_root(&root, &self.online_keys, now),
                });
            }
            ("targets", _) => {
                let top = self.read_targets("targets", envelope)?;
                lints.extend(self.lint_repository("targets", &top)?);
                lints.extend(lint::lint_top_targets(&top, now));
            }
            (role, _) => {
                let new = self.read_targets(role, envelope)?;
                lints.extend(self.lint_repository(role, &new)?);
                let previous = self.previous(role)?;
                if let Some(delegation) = self.targets("targets")?.as_ref().and_then(|top| top.delegation(role)) {
                    let peers = self.peers(role)?;
                    let peers: Vec<Peer<'_>> = peers.iter().map(|(role, document)| Peer { role, document }).collect();
                    lints.extend(lint::lint_role(delegation, previous.as_ref(), &new, &peers, now, limits));
                }
            }
        }
        if id.role == "root" {
            lints.extend(self.epoch_lints(id, now)?);
        }
        let (image, director) = (self.root(Repository::Image)?, self.root(Repository::Director)?);
        let top = self.targets("targets")?;
        lints.extend(lint::lint_shared_keys(image.as_ref(), director.as_ref(), top.as_ref()));
        Ok(lints)
    }

    fn lint_repository(&self, role: &str, targets: &TargetsMetadata) -> anyhow::Result<Option<Lint>> {
        let root = self.root(Repository::Image)?;
        let expected = root.as_ref().and_then(|root| root.repo_id.as_deref());
        Ok(lint::lint_repository(role, targets.repo_id.as_deref(), expected))
    }

    /// The signing epoch of the complete root.
    pub fn complete_epoch(&self, repository: Repository) -> anyhow::Result<u64> {
        self.roots(repository).last().map_or(Ok(1), |bytes| Ok(self.read_root(bytes)?.epoch))
    }

    /// Whether the staged image root begins the next signing epoch.
    pub fn opens_epoch(&self) -> anyhow::Result<bool> {
        match self.root(Repository::Image)? {
            Some(root) if !self.image_roots.is_empty() => Ok(root.epoch > self.complete_epoch(Repository::Image)?),
            _ => Ok(false),
        }
    }

    /// When the documents of earlier epochs end at the latest, by epoch: their last roots are signed no more.
    pub fn branches(&self) -> anyhow::Result<BTreeMap<u64, Timestamp>> {
        let named = NamedKeys::of(&self.image_roots, &self.director_roots, &self.limits)?;
        Ok(named.branches.into_iter().map(|(epoch, branch)| (epoch, branch.until)).collect())
    }

    /// What is wrong about the epochs of both roots, and with what the ending epoch is left with.
    fn epoch_lints(&self, id: &DocumentId, now: Timestamp) -> anyhow::Result<Vec<Lint>> {
        let chain = |repository| -> Vec<Vec<u8>> {
            let staged = self.find_staged(repository, "root").map(|(_, envelope)| envelope.to_bytes());
            self.roots(repository).iter().cloned().chain(staged).collect()
        };
        let (image, director) = (chain(Repository::Image), chain(Repository::Director));
        let mut lints = lint::lint_epochs(&image, &director, &self.limits)?;
        if self.opens_epoch()? && id.repository == Repository::Image {
            let mut ending = ImageDocuments {
                roots: self.image_roots.clone(),
                director_roots: self.director_roots.clone(),
                targets: self.sealed.get("targets").map(|(_, bytes)| bytes.clone()),
                ..ImageDocuments::default()
            };
            // What is held is no part of the branch.
            for role in self.sealed.keys() {
                if let Some((_, bytes)) = self.announced(role, now)? {
                    ending.roles.insert(role.clone(), bytes.clone());
                }
            }
            lints.extend(lint::lint_ending(&ending, now, lint::MIN_BRANCH_LIFETIME, &self.limits)?);
        }
        Ok(lints)
    }

    /// The version that the next document of a role has: the one that gathers signatures, or one more than the
    /// complete one.
    pub fn next_version(&self, role: &str) -> u64 {
        match (self.find_staged(Repository::Image, role), self.sealed.get(role)) {
            (Some((id, _)), _) => id.version,
            (None, Some((id, _))) => id.version.saturating_add(1),
            (None, None) => 1,
        }
    }

    /// Whether both chains of roots hold, each root signed by the holders of the one before it and by its own.
    pub fn verify_roots(&self) -> anyhow::Result<()> {
        if let Some((first, rest)) = self.image_roots.split_first() {
            let mut chain = TrustedRepository::from_root(first, &self.limits)?;
            for root in rest {
                chain.update_root(root)?;
            }
        }
        if let Some((first, rest)) = self.director_roots.split_first() {
            let mut chain = DirectorTrust::from_root(first, &self.limits)?;
            for root in rest {
                chain.update_root(root)?;
            }
        }
        Ok(())
    }

    /// Drops complete documents that those who vouch for them today have not signed. Whoever carries documents may have written
    /// them, and what follows is judged by what was before.
    pub fn drop_unvouched(&mut self) -> anyhow::Result<Vec<DocumentId>> {
        let mut dropped = Vec::new();
        // The top document first: it vouches for the others.
        let roles: Vec<String> = self.sealed.keys().cloned().collect();
        let (top, others): (Vec<String>, Vec<String>) = roles.into_iter().partition(|role| role == "targets");
        for role in top.into_iter().chain(others) {
            let Some((id, _)) = self.sealed.get(&role) else { continue };
            let id = id.clone();
            if !self.is_previous_vouched_for(&id)? {
                self.sealed.remove(&role);
                dropped.push(id);
            }
        }
        Ok(dropped)
    }

    /// Whether the complete document before this one has the signatures of those who vouch for its role today. It may lack
    /// them when its holders have just changed.
    pub fn is_previous_vouched_for(&self, id: &DocumentId) -> anyhow::Result<bool> {
        let signers = match id.role.as_str() {
            "root" => return Ok(true),
            "targets" => {
                let Some(root) = self.image_roots.last().map(|bytes| self.read_root(bytes)).transpose()? else {
                    return Ok(!self.sealed.contains_key("targets"));
                };
                Some(Signers { role_keys: root.role("targets")?.clone(), keys: root.keys })
            }
            role => self.sealed_targets("targets")?.and_then(|top| {
                let role_keys = top.delegation(role)?.keys.clone();
                Some(Signers { role_keys, keys: top.delegation_keys })
            }),
        };
        match signers {
            _ if !self.sealed.contains_key(&id.role) => Ok(true),
            Some(signers) => self.is_signed_by(&id.role, &signers),
            None => Ok(false),
        }
    }

    /// Bytes of a role's document.
    pub fn limit(&self, role: &str) -> u64 {
        if role == "root" { self.limits.root_bytes } else { self.limits.targets_bytes }
    }
}

fn root_signers(root: &RootMetadata) -> anyhow::Result<Signers> {
    Ok(Signers { keys: root.keys.clone(), role_keys: root.role("root")?.clone() })
}
