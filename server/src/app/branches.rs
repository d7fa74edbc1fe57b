//! Branches: when a signing epoch ends, its documents are kept as they stand, and its own keys go on signing snapshot and
//! timestamp over them. Devices whose verifier cannot read the next epoch are served these until they have a newer one.

use std::collections::BTreeMap;

use sluice_catalog::device::Device;
use sluice_catalog::{Kind, Time};
use sluice_signer::{ImageDocuments, NamedKeys};

use super::App;
use super::publish::{Current, Due, LEASE, Line, SignedLine, named_by};
use crate::error::{Error, Result};
use crate::failpoint::failpoint;
use crate::store::{BranchDocument, Document, Repository, Tx};

/// What one branch is made of, as it is stored.
#[derive(Default)]
struct Stored {
    documents: ImageDocuments,
    snapshot: Option<Document>,
    timestamp: Option<Document>,
    /// The keys that the newest roots, and those before them, name.
    named: NamedKeys,
}

impl Stored {
    /// Whether nothing was changed or signed meanwhile.
    fn is(&self, seen: &Self) -> bool {
        let versions = |stored: &Self| {
            [&stored.snapshot, &stored.timestamp]
                .map(|document| document.as_ref().map_or(0, |document| document.version))
        };
        self.documents == seen.documents && versions(self) == versions(seen)
    }
}

impl App {
    /// The epoch whose documents a device is served, when it is not the newest.
    pub fn branch_of(&self, device: &Device, now: Time) -> Result<Option<u32>> {
        let documents = self.live.documents();
        let known = u32::try_from(device.signing_epoch).map_err(Error::internal)?;
        if u64::from(known) >= documents.named().epoch {
            return Ok(None);
        }
        match documents.branch(known) {
            Some(branch) if now < branch.until => Ok(Some(known)),
            Some(branch) => Err(Error::new(
                Kind::WrongState,
                format!(
                    "the device's verifier knows signing epochs to {known}, whose documents ended on {}: install a newer release by hand",
                    branch.until.date()
                ),
            )),
            None => Err(Error::new(
                Kind::WrongState,
                format!(
                    "the device's verifier knows signing epochs to {known}, of which this server has no documents: install a newer \
                     release by hand"
                ),
            )),
        }
    }

    /// The branch that a publication leaves behind, when it begins the next epoch: the documents that stood before it. Signed here,
    /// while no transaction is open.
    pub(super) async fn branch_end(
        &self,
        after: &ImageDocuments,
        before: &Current,
        now: Time,
    ) -> Result<Option<EndedEpoch>> {
        let (old, new) = (named_by(&before.documents)?.epoch, named_by(after)?);
        // On an empty server there is nobody yet who could be left behind.
        if old == 0 || new.epoch <= old || before.documents.targets.is_none() {
            return Ok(None);
        }
        let limits = self.limits();
        let invalid = |error: sluice_signer::VerifyError| Error::new(Kind::Unverified, error.to_string());
        let ending = ImageDocuments {
            targets: before.documents.targets.clone(),
            roles: before.documents.roles.clone(),
            ..after.to_epoch(old, &limits).map_err(invalid)?
        };
        let mut roles = Vec::new();
        for (repository, roots) in [(Repository::Image, &ending.roots), (Repository::Director, &ending.director_roots)]
        {
            roles.push((repository, "root".to_owned(), i64::try_from(roots.len()).map_err(Error::internal)?));
        }
        let signed_online = |role: &str| matches!(role, "root" | "snapshot" | "timestamp");
        for (role, version) in before.versions.iter().filter(|(role, _)| !signed_online(role)) {
            roles.push((Repository::Image, role.clone(), *version));
        }
        let named = new.of_epoch(old).ok_or_else(|| Error::internal(anyhow::anyhow!("epoch {old} has no keys")))?;
        let line = Line {
            documents: &ending,
            snapshot: before.snapshot.as_ref(),
            timestamp: before.timestamp.as_ref(),
            named,
        };
        let signed = self.sign_line(&line, true, now).await?;
        Ok(Some(EndedEpoch { epoch: i32::try_from(old).map_err(Error::internal)?, roles, signed }))
    }

    /// Signs what is due of every branch; whether there was anything. A branch that cannot be signed holds none of the others back.
    pub(super) async fn branches_tick(&self, replica: &str, now: Time) -> Result<bool> {
        let documents = self.live.documents_full();
        let (mut any, mut failed) = (false, None);
        for (&epoch, branch) in documents.branches().iter().filter(|(_, branch)| now < branch.until) {
            let seen = |role| branch.signed(role).map(|(_, body)| body);
            let due = self.due(seen("snapshot").as_deref(), seen("timestamp").as_deref(), now);
            let signed = match due {
                Ok(Due::Nothing) => Ok(false),
                Ok(_) => self.branch_tick(epoch, replica, now).await,
                Err(error) => Err(error),
            };
            match signed {
                Ok(signed) => any |= signed,
                Err(error) => {
                    tracing::error!(%error, cause = ?error.cause, "the timestamp of epoch {epoch} could not be signed again: {error}");
                    failed = failed.or(Some(error));
                }
            }
        }
        failed.map_or(Ok(any), Err)
    }

    async fn branch_tick(&self, epoch: u32, replica: &str, now: Time) -> Result<bool> {
        let seen = self.stored_now(epoch).await?;
        let body = |document: Option<&Document>| document.map(|document| document.body.clone());
        let due = self.due(body(seen.snapshot.as_ref()).as_deref(), body(seen.timestamp.as_ref()).as_deref(), now)?;
        let Some(named) = seen.named.of_epoch(u64::from(epoch)).filter(|_| due != Due::Nothing) else {
            return Ok(false);
        };
        let line = Line {
            documents: &seen.documents,
            snapshot: seen.snapshot.as_ref(),
            timestamp: seen.timestamp.as_ref(),
            named,
        };
        let signed = self.sign_line(&line, due == Due::Both, now).await?;
        let mut tx = self.store.begin().await?;
        // As for what is current: whoever signed meanwhile is seen below.
        tx.generation_raise("documents").await?;
        let stored = stored(&mut tx, epoch, &self.limits()).await?;
        if !stored.is(&seen) || !tx.lease_held(LEASE, replica, now).await? {
            return Ok(false);
        }
        write_line(&mut tx, i32::try_from(epoch).map_err(Error::internal)?, &signed, now).await?;
        failpoint("publisher.before_commit");
        tx.commit().await?;
        failpoint("publisher.after_commit");
        self.refresh().await?;
        Ok(true)
    }

    async fn stored_now(&self, epoch: u32) -> Result<Stored> {
        // A transaction that only reads gives one consistent state; it is rolled back.
        let mut tx = self.store.begin().await?;
        stored(&mut tx, epoch, &self.limits()).await
    }
}

/// A branch to be kept.
pub(super) struct EndedEpoch {
    pub epoch: i32,
    roles: Vec<(Repository, String, i64)>,
    signed: SignedLine,
}

impl EndedEpoch {
    /// Keeps it.
    pub(super) async fn write(&self, tx: &mut Tx, now: Time) -> Result<()> {
        for (repository, role, version) in &self.roles {
            tx.branch_role_add(self.epoch, *repository, role, *version).await?;
        }
        write_line(tx, self.epoch, &self.signed, now).await
    }
}

async fn write_line(tx: &mut Tx, epoch: i32, signed: &SignedLine, now: Time) -> Result<()> {
    if let Some((version, body)) = &signed.snapshot {
        tx.branch_document_add(epoch, "snapshot", *version, body, now).await?;
    }
    let (version, body) = &signed.timestamp;
    tx.branch_document_add(epoch, "timestamp", *version, body, now).await.map_err(Error::from)
}

async fn stored(tx: &mut Tx, epoch: u32, limits: &sluice_signer::Limits) -> Result<Stored> {
    let current = Current::read_in(tx).await?;
    let invalid = |error: sluice_signer::VerifyError| Error::new(Kind::Unverified, error.to_string());
    let of = |document: &BranchDocument| u32::try_from(document.signing_epoch) == Ok(epoch);
    let mut roles = BTreeMap::new();
    let mut targets = None;
    for BranchDocument { document, .. } in tx.branch_roles().await?.into_iter().filter(of) {
        match document.role.as_str() {
            "root" => {}
            "targets" => targets = Some(document.body),
            _ => drop(roles.insert(document.role, document.body)),
        }
    }
    let roots = current.documents.to_epoch(u64::from(epoch), limits).map_err(invalid)?;
    let named = named_by(&current.documents)?;
    let mut stored = Stored { documents: ImageDocuments { targets, roles, ..roots }, named, ..Stored::default() };
    for BranchDocument { document, .. } in tx.branch_signed().await?.into_iter().filter(of) {
        match document.role.as_str() {
            "snapshot" => stored.snapshot = Some(document),
            _ => stored.timestamp = Some(document),
        }
    }
    Ok(stored)
}
