//! Staged documents: who may sign them, what is wrong with them, and when they are complete.

use crate::args::DiscardArgs;
use crate::failure::Failure;
use crate::folder::{DocumentId, Folder};
use crate::output;
use jiff::Timestamp;
use serde::Serialize;
use sluice_signer::lint::{self, Lint, Lints};
use sluice_signer::publish::Repository;
use sluice_signer::root::{RoleKeys, RootMetadata};
use sluice_signer::{Envelope, Json, OnlineKeys, PublicKey, TargetsMetadata};
use std::collections::{BTreeMap, BTreeSet};

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

/// Everything in a folder, read once.
pub struct Stage {
    pub folder: Folder,
    pub online_keys: OnlineKeys,
    pub holders: BTreeMap<String, String>,
    pub image_roots: Vec<Vec<u8>>,
    pub director_roots: Vec<Vec<u8>>,
    pub sealed: BTreeMap<String, (DocumentId, Vec<u8>)>,
    pub staged: Vec<(DocumentId, Envelope)>,
}

impl Stage {
    pub fn load(folder: Folder) -> anyhow::Result<Self> {
        Ok(Self {
            online_keys: folder.online_keys()?,
            holders: folder.holders()?,
            image_roots: folder.sealed_roots(Repository::Image)?,
            director_roots: folder.sealed_roots(Repository::Director)?,
            sealed: folder.sealed_latest()?,
            staged: folder.staged()?,
            folder,
        })
    }

    /// The name of a key's holder, or the first digits of its id.
    pub fn holder(&self, keyid: &str) -> String {
        self.holders.get(keyid).cloned().unwrap_or_else(|| output::short_id(keyid).to_owned())
    }

    pub fn find_staged(&self, repository: Repository, role: &str) -> Option<&(DocumentId, Envelope)> {
        self.staged.iter().find(|(id, _)| id.repository == repository && id.role == role)
    }

    fn read_root(&self, bytes: &[u8]) -> anyhow::Result<RootMetadata> {
        let envelope = Envelope::parse("root", bytes, self.folder.limits.root_bytes, &self.folder.limits)?;
        Ok(RootMetadata::from_json(envelope.signed(), &self.folder.limits)?)
    }

    fn read_targets(&self, role: &str, envelope: &Envelope) -> anyhow::Result<TargetsMetadata> {
        Ok(TargetsMetadata::from_json(role, envelope.signed(), &self.folder.limits)?)
    }

    fn sealed_targets(&self, role: &str) -> anyhow::Result<Option<TargetsMetadata>> {
        let Some((_, bytes)) = self.sealed.get(role) else { return Ok(None) };
        let envelope = Envelope::parse(role, bytes, self.folder.limits.targets_bytes, &self.folder.limits)?;
        self.read_targets(role, &envelope).map(Some)
    }

    /// The newest root, staged or complete.
    pub fn root(&self, repository: Repository) -> anyhow::Result<Option<RootMetadata>> {
        if let Some((_, envelope)) = self.find_staged(repository, "root") {
            return Ok(Some(RootMetadata::from_json(envelope.signed(), &self.folder.limits)?));
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
        let limits = &self.folder.limits;
        let read = |bytes: &Vec<u8>| Envelope::parse(&id.role, bytes, self.folder.limit(&id.role), limits);
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
        let envelope = Envelope::parse(role, bytes, self.folder.limits.targets_bytes, &self.folder.limits)?;
        Ok(signers.missing(&envelope) == 0)
    }

    /// Who must sign a staged document. A root after the first needs the holders of the root before it, too.
    pub fn signers(&self, id: &DocumentId, envelope: &Envelope) -> anyhow::Result<Vec<Signers>> {
        if id.role == "root" {
            let new = RootMetadata::from_json(envelope.signed(), &self.folder.limits)?;
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

    /// Mistakes in a staged document.
    pub fn lints(&self, id: &DocumentId, envelope: &Envelope, now: Timestamp) -> anyhow::Result<Vec<Lint>> {
        let limits = &self.folder.limits;
        let mut lints =
            lint::lint_document(&id.name(), envelope.signed(), envelope.to_bytes().len(), self.folder.limit(&id.role));
        match (id.role.as_str(), id.repository) {
            ("root", repository) => {
                let root = RootMetadata::from_json(envelope.signed(), limits)?;
                lints.extend(match repository {
                    Repository::Image => lint::lint_image_root(&root, &self.online_keys, now),
                    Repository::Director => lint::lint_director_root(&root, &self.online_keys, now),
                });
            }
            ("targets", _) => lints.extend(lint::lint_top_targets(&self.read_targets("targets", envelope)?, now)),
            (role, _) => {
                let new = self.read_targets(role, envelope)?;
                let previous = self.previous(role)?;
                if let Some(delegation) = self.targets("targets")?.as_ref().and_then(|top| top.delegation(role)) {
                    lints.extend(lint::lint_role(delegation, previous.as_ref(), &new, now, limits));
                }
            }
        }
        let (image, director) = (self.root(Repository::Image)?, self.root(Repository::Director)?);
        let top = self.targets("targets")?;
        lints.extend(lint::lint_shared_keys(image.as_ref(), director.as_ref(), top.as_ref()));
        Ok(lints)
    }

    /// Puts a document into the stage, replacing an unsigned one of the same role, when no lint speaks against it.
    pub fn put(&mut self, id: &DocumentId, signed: Json, now: Timestamp) -> anyhow::Result<()> {
        if let Some((old, staged)) = self.find_staged(id.repository, &id.role) {
            let count = staged.signatures().count();
            if count > 0 {
                let message = format!(
                    "{} version {} is staged with {}",
                    old.name(),
                    old.version,
                    output::count(count, "signature")
                );
                let next = format!("finish signing it, or drop it with `sluice-sign discard --role {}`", old.name());
                return Err(Failure::refused(message, &next));
            }
        }
        let kept: Vec<_> =
            self.staged.drain(..).filter(|(old, _)| (old.repository, &old.role) != (id.repository, &id.role)).collect();
        self.staged = kept;
        let envelope = Envelope::new(signed);
        self.staged.push((id.clone(), envelope.clone()));
        Lints(self.lints(id, &envelope, now)?).into_result().map_err(|lints| refuse(id, &lints))?;
        self.folder.stage(id, &envelope)
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

    /// Moves every document that is complete, and whose voucher is complete, to its place. Returns what moved.
    pub fn settle(&mut self) -> anyhow::Result<Vec<DocumentId>> {
        let mut waiting: BTreeSet<(Repository, String)> = BTreeSet::new();
        let mut moved = Vec::new();
        let mut staged = Vec::new();
        for (id, envelope) in std::mem::take(&mut self.staged) {
            self.staged.clone_from(&staged);
            let vouched = id.vouched_by().is_none_or(|role| !waiting.contains(&(Repository::Image, role.to_owned())));
            let complete =
                vouched && self.signers(&id, &envelope)?.iter().all(|signers| signers.missing(&envelope) == 0);
            if complete {
                self.folder.seal(&id)?;
                let bytes = envelope.to_bytes();
                match (id.role.as_str(), id.repository) {
                    ("root", Repository::Image) => self.image_roots.push(bytes),
                    ("root", Repository::Director) => self.director_roots.push(bytes),
                    (role, _) => drop(self.sealed.insert(role.to_owned(), (id.clone(), bytes))),
                }
                moved.push(id);
            } else {
                waiting.insert((id.repository, id.role.clone()));
                staged.push((id, envelope));
            }
        }
        self.staged = staged;
        Ok(moved)
    }
}

fn root_signers(root: &RootMetadata) -> anyhow::Result<Signers> {
    Ok(Signers { keys: root.keys.clone(), role_keys: root.role("root")?.clone() })
}

/// A refusal that lists every mistake on a line of its own.
pub fn refuse(id: &DocumentId, lints: &Lints) -> anyhow::Error {
    let lines: Vec<String> = lints.0.iter().map(|lint| format!("\n  - {lint}")).collect();
    let message = format!("{} version {} is refused:{}", id.name(), id.version, lines.concat());
    Failure::refused(message, "correct what is named and run the command again; nothing was changed")
}

#[derive(Serialize)]
struct Discarded {
    role: String,
    version: u64,
}

/// `discard`
pub fn discard(args: &DiscardArgs, json: bool) -> anyhow::Result<()> {
    let stage = Stage::load(Folder::open(&args.repo)?)?;
    let Some((id, _)) = stage.staged.iter().find(|(id, _)| id.name() == args.role) else {
        let message = format!("nothing is staged for role {}", args.role);
        return Err(Failure::refused(message, "see what is staged with `sluice-sign status`"));
    };
    stage.folder.discard(id)?;
    let report = Discarded { role: id.name(), version: id.version };
    output::print(json, &report, || format!("dropped {} version {}", report.role, report.version))
}
