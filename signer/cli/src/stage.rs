//! The stage of a repository folder: documents that gather signatures, and what happens when they have them.

use crate::args::DiscardArgs;
use crate::documents::Documents;
use crate::failure::Failure;
use crate::folder::{DocumentId, Folder};
use crate::{output, product};
use jiff::Timestamp;
use serde::Serialize;
use sluice_signer::lint::{Lint, Lints};
use sluice_signer::publish::Repository;
use sluice_signer::{Envelope, Json, Overrides, TargetsMetadata};
use std::collections::BTreeSet;
use std::ops::{Deref, DerefMut};

/// A folder and everything in it.
pub struct Stage {
    pub folder: Folder,
    pub documents: Documents,
    /// Lints that whoever stages overrides.
    pub overrides: Overrides,
}

impl Deref for Stage {
    type Target = Documents;

    fn deref(&self) -> &Documents {
        &self.documents
    }
}

impl DerefMut for Stage {
    fn deref_mut(&mut self) -> &mut Documents {
        &mut self.documents
    }
}

impl Stage {
    pub fn load(folder: Folder) -> anyhow::Result<Self> {
        let sealed = folder.sealed_latest()?;
        let documents = Documents {
            limits: folder.limits.clone(),
            online_keys: folder.online_keys()?,
            holders: folder.holders()?,
            products: folder.products()?,
            image_roots: folder.sealed_roots(Repository::Image)?,
            director_roots: folder.sealed_roots(Repository::Director)?,
            earlier: folder.sealed_earlier(&sealed)?,
            sealed,
            staged: folder.staged()?,
        };
        Ok(Self { folder, documents, overrides: Overrides::default() })
    }

    /// Puts a document into the stage, replacing an unsigned one of the same role, when no lint speaks against it.
    pub fn put(&mut self, id: &DocumentId, signed: Json, now: Timestamp) -> anyhow::Result<()> {
        self.put_all(&[(id.clone(), signed)], now)
    }

    /// The same for documents that belong together: all of them, or none.
    pub fn put_all(&mut self, documents: &[(DocumentId, Json)], now: Timestamp) -> anyhow::Result<()> {
        for (id, _) in documents {
            let Some((old, staged)) = self.find_staged(id.repository, &id.role) else { continue };
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
        let replaced =
            |old: &DocumentId| documents.iter().any(|(id, _)| (old.repository, &old.role) == (id.repository, &id.role));
        self.staged.retain(|(old, _)| !replaced(old));
        self.staged.extend(documents.iter().map(|(id, signed)| (id.clone(), Envelope::new(signed.clone()))));
        let mut staged = Vec::with_capacity(documents.len());
        for (id, _) in documents {
            staged.push((id, self.overridden(id, now)?));
        }
        staged.iter().try_for_each(|(id, envelope)| self.folder.stage(id, envelope))
    }

    /// A staged document with the overrides that it needs in it. Fails when a lint stands that is not overridden.
    pub fn overridden(&mut self, id: &DocumentId, now: Timestamp) -> anyhow::Result<Envelope> {
        let position = self.staged.iter().position(|(staged, _)| staged == id);
        let Some((_, envelope)) = position.and_then(|position| self.staged.get(position)).cloned() else {
            anyhow::bail!("{} version {} is not staged", id.name(), id.version);
        };
        let lints = self.lints(id, &envelope, now)?;
        let envelope = Envelope::new(self.overrides.record(&lints, envelope.signed().clone()));
        Lints(self.lints(id, &envelope, now)?).into_result().map_err(|lints| refuse(id, &lints))?;
        if let Some((_, staged)) = position.and_then(|position| self.documents.staged.get_mut(position)) {
            *staged = envelope.clone();
        }
        Ok(envelope)
    }

    /// The document from which the next one of a delegated role goes on: the staged one, or the complete one when those who hold
    /// the role today signed it. What former holders signed comes back only when somebody says so.
    pub fn base(&self, role: &str) -> anyhow::Result<Option<TargetsMetadata>> {
        let id = DocumentId::image(role, self.next_version(role));
        if self.find_staged(Repository::Image, role).is_none() && !self.is_previous_vouched_for(&id)? {
            return Err(Failure::refused(
                format!("the last document of {role} was signed by former holders"),
                &format!(
                    "take its content over with `sluice-sign renew --role {role}`, or begin empty with `delegate revoke` and `delegate add`"
                ),
            ));
        }
        self.targets(role)
    }

    /// Holds new releases against the product registry, with the files that the folder keeps.
    pub fn check_products(&self, id: &DocumentId, envelope: &Envelope, now: Timestamp) -> anyhow::Result<Vec<String>> {
        product::check(self, id, envelope, now, &mut |digest, _| {
            Ok(Some(self.folder.blob(digest)).filter(|file| file.exists()))
        })
    }

    /// Moves every document that is complete, and whose voucher is complete, to its place. Returns what moved.
    pub fn settle(&mut self) -> anyhow::Result<Vec<DocumentId>> {
        let mut waiting: BTreeSet<(Repository, String)> = BTreeSet::new();
        let mut moved = Vec::new();
        let mut staged = Vec::new();
        for (id, envelope) in std::mem::take(&mut self.staged) {
            self.staged.clone_from(&staged);
            let vouched = id.vouched_by().is_none_or(|role| !waiting.contains(&(Repository::Image, role.to_owned())));
            // Else the server would withdraw a release that is about to change hands.
            let vouched = vouched && !self.gives_away(&id, &envelope, &waiting)?;
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
        if !moved.is_empty() {
            self.earlier = self.folder.sealed_earlier(&self.sealed)?;
        }
        Ok(moved)
    }
}

/// A refusal that lists every mistake on a line of its own.
pub fn refuse(id: &DocumentId, lints: &Lints) -> anyhow::Error {
    let line = |lint: &Lint| match lint.override_code() {
        Some(code) => format!("\n  - {lint} [{code}]"),
        None => format!("\n  - {lint}"),
    };
    let message =
        format!("{} version {} is refused:{}", id.name(), id.version, lints.0.iter().map(line).collect::<String>());
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
