//! Taking a publication apart: each document in the order of trust, against what stands already.

use super::{AcceptedDocument, ImageDocuments, NewDocument, Outcome, PublishContext, PublishError, Repository};
use crate::envelope::Envelope;
use crate::error::VerifyError;
use crate::json::Json;
use crate::limits::Limits;
use crate::lint::{self, Lint};
use crate::overrides::Overrides;
use crate::repository::read_targets;
use crate::root::{RootChain, RootMetadata, check_expiry};
use crate::targets::TargetsMetadata;
use std::collections::{BTreeMap, BTreeSet};

/// A publication being checked.
pub(super) struct Ingest<'a> {
    pub context: &'a PublishContext<'a>,
    pub new: &'a [NewDocument],
    /// Repositories of which later roots follow in another part.
    pub goes_on: BTreeSet<Repository>,
    pub after: ImageDocuments,
    pub documents: Vec<AcceptedDocument>,
    pub lints: Vec<Lint>,
    /// What each new document overrides, by role and version.
    pub overrides: BTreeMap<(Repository, String, u64), Overrides>,
}

impl Ingest<'_> {
    pub(super) fn find(&self, role: &str) -> Option<&NewDocument> {
        self.new.iter().find(|document| document.repository == Repository::Image && document.role == role)
    }

    pub(super) fn accept(&mut self, repository: Repository, role: &str, version: u64, outcome: Outcome) {
        let (role, overrides) = (role.to_owned(), Overrides::default());
        let (product, held_until) = (None, None);
        self.documents.push(AcceptedDocument { repository, role, product, version, outcome, overrides, held_until });
    }

    /// Notes what is wrong with a new document and was not overridden in it.
    pub(super) fn lint(
        &mut self,
        repository: Repository,
        (role, version): (&str, u64),
        signed: &Json,
        lints: Vec<Lint>,
    ) {
        let overrides = Overrides::of(signed).unwrap_or_default();
        self.overrides.insert((repository, role.to_owned(), version), overrides);
        self.lints.extend(Overrides::apply(role, signed, lints));
    }

    /// Walks the whole chain from the first root, as a device from a warehouse does, and appends the new ones.
    pub fn roots(&mut self, repository: Repository) -> Result<Option<RootMetadata>, PublishError> {
        let limits = self.context.limits;
        let mut roots = match repository {
            Repository::Image => self.after.roots.clone(),
            Repository::Director => self.after.director_roots.clone(),
        };
        let mut new: Vec<&NewDocument> =
            self.new.iter().filter(|document| document.repository == repository && document.role == "root").collect();
        new.sort_by_key(|document| document.version);
        let mut chain: Option<RootChain> = None;
        for bytes in &roots {
            next_root(&mut chain, bytes, limits)?;
        }
        let before = chain.as_ref().map(|chain| chain.root.epoch);
        let newest = new.last().map(|document| document.version).filter(|_| !self.goes_on.contains(&repository));
        for document in new {
            let position = usize::try_from(document.version.saturating_sub(1)).unwrap_or(usize::MAX);
            let outcome = match roots.get(position) {
                Some(known) if *known == document.bytes && document.version > 0 => Outcome::Unchanged,
                Some(_) => {
                    return Err(PublishError::Conflict { role: "root".to_owned(), version: document.version });
                }
                None => {
                    let found = next_root(&mut chain, &document.bytes, limits)?;
                    check_stated("root", document.version, found)?;
                    roots.push(document.bytes.clone());
                    if let Some(chain) = &chain {
                        self.lint_root(repository, chain, before, newest == Some(document.version))?;
                    }
                    Outcome::Published
                }
            };
            self.accept(repository, "root", document.version, outcome);
        }
        let Some(chain) = chain else { return Ok(None) };
        chain.check_expiry(self.context.now)?;
        match repository {
            Repository::Image => self.after.roots = roots,
            Repository::Director => self.after.director_roots = roots,
        }
        Ok(Some(chain.root))
    }

    /// Lints a new root. A device walks over each of them, so a threshold of one on the way is as weak as at its end; which online
    /// keys sign follows from the newest alone.
    fn lint_root(
        &mut self,
        repository: Repository,
        chain: &RootChain,
        before: Option<u64>,
        is_newest: bool,
    ) -> Result<(), PublishError> {
        let (limits, online, now) = (self.context.limits, self.context.online_keys, self.context.now);
        let envelope = Envelope::parse("root", &chain.bytes, limits.root_bytes, limits)?;
        let mut lints = lint::lint_document("root", envelope.signed(), chain.bytes.len(), limits.root_bytes);
        let of_root = match repository {
            Repository::Image => lint::lint_image_root(&chain.root, online, now),
            Repository::Director => lint::lint_director_root(&chain.root, online, now),
        };
        lints.extend(of_root.into_iter().filter(|lint| is_newest || !matches!(lint, Lint::OnlineKey { .. })));
        // The published documents are what devices of the ending epoch are left with. Where there are none yet, nobody is.
        let ends = is_newest && before.is_some_and(|before| before < chain.root.epoch);
        if repository == Repository::Image && ends && self.after.targets.is_some() {
            lints.extend(lint::lint_ending(&self.after, now, lint::MIN_BRANCH_LIFETIME_PUBLISHED, limits)?);
        }
        self.lint(repository, ("root", chain.root.version), envelope.signed(), lints);
        Ok(())
    }

    /// The top targets document as it stands afterwards, verified by the root as it stands afterwards: a root that
    /// takes its keys away must come with a new one.
    pub fn top_targets(&mut self, root: Option<&RootMetadata>) -> Result<Option<TargetsMetadata>, PublishError> {
        let limits = self.context.limits;
        let new = self.find("targets").cloned();
        let Some(bytes) = new.as_ref().map(|document| document.bytes.clone()).or(self.after.targets.clone()) else {
            return Ok(None);
        };
        let Some(root) = root else { return Err(missing("targets", "image root")) };
        let (envelope, metadata) = read_targets("targets", "root", &bytes, &root.keys, root.role("targets")?, limits)?;
        check_repo_id("targets", root, &metadata)?;
        if let Some(document) = new {
            check_stated("targets", document.version, metadata.version)?;
            let before = self.after.targets.as_deref();
            let outcome = successor("targets", before, &document, limits)?;
            if outcome == Outcome::Published {
                check_expiry("targets", metadata.expires, self.context.now)?;
                let mut lints = lint::lint_document("targets", envelope.signed(), bytes.len(), limits.targets_bytes);
                lints.extend(lint::lint_top_targets(&metadata, self.context.now));
                self.lint(Repository::Image, ("targets", metadata.version), envelope.signed(), lints);
            }
            self.accept(Repository::Image, "targets", metadata.version, outcome);
            self.after.targets = Some(bytes);
        }
        Ok(Some(metadata))
    }
}

pub(super) fn missing(role: &str, needs: &str) -> PublishError {
    PublishError::Missing { role: crate::error::quote(role), needs: needs.to_owned() }
}

/// Takes the first or the next root and returns its version.
fn next_root(chain: &mut Option<RootChain>, bytes: &[u8], limits: &Limits) -> Result<u64, VerifyError> {
    if let Some(chain) = chain {
        return Ok(chain.advance(bytes, limits)?.version);
    }
    let first = RootChain::start(bytes, limits)?;
    let found = first.root.version;
    if found != 1 {
        return Err(VerifyError::Version { role: "root".to_owned(), expected: 1, found });
    }
    *chain = Some(first);
    Ok(1)
}

pub(super) fn check_stated(role: &str, stated: u64, found: u64) -> Result<(), PublishError> {
    if stated != found {
        return Err(PublishError::StatedVersion { role: role.to_owned(), stated, found });
    }
    Ok(())
}

pub(super) fn check_repo_id(role: &str, root: &RootMetadata, metadata: &TargetsMetadata) -> Result<(), VerifyError> {
    match (&root.repo_id, &metadata.repo_id) {
        (Some(expected), Some(found)) if expected != found => Err(VerifyError::WrongRepository {
            role: role.to_owned(),
            expected: expected.clone(),
            found: found.clone(),
        }),
        _ => Ok(()),
    }
}

/// Whether a document follows the published one: the same bytes again, or a later version. Versions between the two were
/// signed and then superseded before anybody published them; clients never needed them.
pub(super) fn successor(
    role: &str,
    before: Option<&[u8]>,
    new: &NewDocument,
    limits: &Limits,
) -> Result<Outcome, PublishError> {
    let Some(before) = before else { return Ok(Outcome::Published) };
    if before == new.bytes {
        return Ok(Outcome::Unchanged);
    }
    let trusted = read_published(role, before, limits)?.version;
    let (role, found) = (role.to_owned(), new.version);
    if found == trusted {
        return Err(PublishError::Conflict { role, version: found });
    }
    if found < trusted {
        return Err(VerifyError::Rollback { role, trusted, found }.into());
    }
    Ok(Outcome::Published)
}

/// Reads a document that was verified when it was published.
pub(super) fn read_published(role: &str, bytes: &[u8], limits: &Limits) -> Result<TargetsMetadata, VerifyError> {
    let envelope = Envelope::parse(role, bytes, limits.targets_bytes, limits)?;
    TargetsMetadata::from_json(role, envelope.signed(), limits)
}
