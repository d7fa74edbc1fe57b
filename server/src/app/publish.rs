//! Publishing: signed documents come in through the code that devices run, all or nothing.
//!
//! Blobs are there first. Then one transaction keeps the documents, enters releases and artifacts, signs the next
//! snapshot and timestamp, enqueues jobs and writes the audit entry; before it, nobody sees anything, after it, everybody
//! sees everything. The same publication again changes nothing and gives the same answer.

mod entries;
mod notes;

use std::collections::BTreeMap;

use serde_json::json;
use sluice_catalog::principal::Permission;
use sluice_catalog::wire::publish::{
    PublishOutcome, PublishRepository, PublishResponse, PublishedDocument, PublishedRelease,
};
use sluice_catalog::{Digest, Kind, Time};
use sluice_signer::publish::{Outcome, Repository as SignedRepository};
use sluice_signer::{Accepted, ImageDocuments, Limits, NewDocument, PublishContext, publish_check};

use super::{Actor, App};
use crate::error::{Error, Result};
use crate::failpoint::failpoint;
use crate::store::{Document, Repository, Store, Tx};

/// The snapshot lives a week and the timestamp a day, as the server re-signs them hourly; a device that has been cut off
/// from the truth for longer notices.
const SNAPSHOT_LIFETIME_S: i64 = 7 * 24 * 3600;
/// See [`SNAPSHOT_LIFETIME_S`].
const TIMESTAMP_LIFETIME_S: i64 = 24 * 3600;
/// The timestamp is signed again when it is this old.
const TIMESTAMP_RENEW_S: i64 = 3600;

/// The newest documents of an installation, and its chains of roots.
struct Current {
    documents: ImageDocuments,
    snapshot_version: i64,
    timestamp_version: i64,
}

impl App {
    /// Takes in a publication.
    pub async fn publish(&self, actor: &Actor, new: Vec<NewDocument>) -> Result<PublishResponse> {
        actor.need(Permission::Publish)?;
        let now = self.now();
        let current = Current::read(&self.store).await?;
        let accepted = self.check(&current.documents, &new, now)?;
        let entries = entries::entries(self, &accepted).await?;
        let changed = accepted.documents.iter().any(|document| document.outcome == Outcome::Published);
        if changed {
            failpoint("publish.before_transaction");
            self.publish_commit(actor, &new, &current, &accepted, &entries, now).await?;
            failpoint("publish.after_commit");
            self.refresh().await?;
            self.metrics.publications.inc();
        }
        Ok(self.publish_answer(&accepted, &entries))
    }

    fn check(&self, current: &ImageDocuments, new: &[NewDocument], now: Time) -> Result<Accepted> {
        let context = PublishContext { online_keys: &self.keys.online(), now: stamp(now)?, limits: &Limits::default() };
        publish_check(current, new, &context).map_err(|error| Error::new(Kind::Unverified, error.to_string()))
    }

    async fn publish_commit(
        &self,
        actor: &Actor,
        new: &[NewDocument],
        seen: &Current,
        accepted: &Accepted,
        entries: &entries::Entries,
        now: Time,
    ) -> Result<()> {
        let mut tx = self.store.begin().await?;
        // Raising the generation first locks its row: a second publication waits here and then sees this one.
        tx.generation_raise("documents").await?;
        tx.generation_raise("releases").await?;
        let current = Current::read_in(&mut tx).await?;
        if current.documents != seen.documents {
            return Err(Error::conflict("someone else published meanwhile; nothing was taken, publish again"));
        }
        for document in &accepted.documents {
            if document.outcome != Outcome::Published {
                continue;
            }
            let bytes = new
                .iter()
                .find(|candidate| {
                    candidate.repository == document.repository
                        && candidate.role == document.role
                        && candidate.version == document.version
                })
                .map(|candidate| candidate.bytes.as_slice())
                .ok_or_else(|| Error::internal(anyhow::anyhow!("accepted document {} was not sent", document.role)))?;
            let repository = repository(document.repository);
            tx.document_add(repository, &document.role, version(document.version)?, bytes, now).await?;
        }
        entries::write(self, &mut tx, entries, now).await?;
        self.sign_current(&mut tx, &accepted.documents_after, &current, now).await?;
        let detail = json!({
            "documents": accepted.documents.iter()
                .filter(|document| document.outcome == Outcome::Published)
                .map(|document| format!("{}/{} {}", repository(document.repository).as_str(), document.role, document.version))
                .collect::<Vec<_>>(),
            "releases": entries.releases.iter().map(|entry| format!("{} {}", entry.product.product.name, entry.release.version)).collect::<Vec<_>>(),
            "overrides": accepted.documents.iter()
                .flat_map(|document| document.overrides.iter().map(|(code, reason)| format!("{} {}: {code}: {reason}", document.role, document.version)))
                .collect::<Vec<_>>(),
            "withdrawn": entries.withdrawn.iter().map(|(name, _)| name).collect::<Vec<_>>(),
        });
        tx.audit_add(now, actor.name(), "publish", "repository", &detail).await?;
        failpoint("publish.before_commit");
        tx.commit().await?;
        Ok(())
    }

    /// Signs the next snapshot and timestamp over what stands, and checks them as a device from a warehouse would before
    /// anyone sees them.
    async fn sign_current(&self, tx: &mut Tx, after: &ImageDocuments, current: &Current, now: Time) -> Result<()> {
        if after.roots.is_empty() || after.targets.is_none() {
            return Ok(());
        }
        let limits = Limits::default();
        let internal = |error: sluice_signer::VerifyError| Error::new(Kind::Unverified, error.to_string());
        let (snapshot_version, timestamp_version) = (current.snapshot_version + 1, current.timestamp_version + 1);
        let files = after.snapshot_files(&limits).map_err(internal)?;
        let repo_id = after.repo_id(&limits).map_err(internal)?;
        let snapshot = sluice_signer::online::sign_snapshot(
            snapshot_version.unsigned_abs(),
            stamp(now.plus_s(SNAPSHOT_LIFETIME_S))?,
            files,
            repo_id.clone(),
            &self.keys.snapshot,
        );
        let timestamp = self.sign_timestamp(timestamp_version, snapshot_version, &snapshot, repo_id, now)?;
        // A role that nobody signed anew is dead for its own product only: the others' devices must go on.
        let mut alive = after.clone();
        alive.roles.retain(|_, document| expiry(document).is_ok_and(|expires| now < expires));
        alive.verify_as_device(&snapshot, &timestamp, stamp(now)?, &limits).map_err(internal)?;
        tx.document_add(Repository::Image, "snapshot", snapshot_version, &snapshot, now).await?;
        tx.document_add(Repository::Image, "timestamp", timestamp_version, &timestamp, now).await?;
        Ok(())
    }

    fn sign_timestamp(
        &self,
        version: i64,
        snapshot_version: i64,
        snapshot: &[u8],
        repo_id: Option<String>,
        now: Time,
    ) -> Result<Vec<u8>> {
        Ok(sluice_signer::online::sign_timestamp(
            version.unsigned_abs(),
            stamp(now.plus_s(TIMESTAMP_LIFETIME_S))?,
            sluice_signer::roles::FileMeta::of(snapshot_version.unsigned_abs(), snapshot),
            repo_id,
            &self.keys.timestamp,
        ))
    }

    /// Signs snapshot and timestamp again when they have aged. Any replica may; the unique version lets one win.
    pub async fn publisher_tick(&self) -> Result<bool> {
        let now = self.now();
        let documents = self.live.documents_full();
        let Some((_, timestamp)) = documents.latest(Repository::Image, "timestamp") else { return Ok(false) };
        let expires = expiry(&timestamp)?;
        if now < expires.plus_s(TIMESTAMP_RENEW_S - TIMESTAMP_LIFETIME_S) {
            return Ok(false);
        }
        let mut tx = self.store.begin().await?;
        tx.generation_raise("documents").await?;
        let current = Current::read_in(&mut tx).await?;
        if current.timestamp_version
            != documents.latest(Repository::Image, "timestamp").map_or(0, |(version, _)| version)
        {
            // Another replica was faster.
            drop(tx);
            self.refresh().await?;
            return Ok(false);
        }
        self.sign_current(&mut tx, &current.documents, &current, now).await?;
        tx.commit().await?;
        self.refresh().await?;
        Ok(true)
    }

    /// Sets the metric that warns before the timestamp expires.
    pub fn timestamp_gauge(&self) {
        if let Some((_, timestamp)) = self.live.documents().latest(Repository::Image, "timestamp")
            && let Ok(expires) = expiry(&timestamp)
        {
            self.metrics.timestamp_expires_s.set(expires.as_s() - self.now().as_s());
        }
    }

    fn publish_answer(&self, accepted: &Accepted, entries: &entries::Entries) -> PublishResponse {
        let outcome = |outcome| match outcome {
            Outcome::Published => PublishOutcome::Published,
            Outcome::Unchanged => PublishOutcome::Unchanged,
        };
        let documents = accepted
            .documents
            .iter()
            .map(|document| PublishedDocument {
                repository: match document.repository {
                    SignedRepository::Image => PublishRepository::Image,
                    SignedRepository::Director => PublishRepository::Director,
                },
                role: document.role.clone(),
                version: document.version,
                outcome: outcome(document.outcome),
            })
            .collect();
        let mut releases: BTreeMap<(String, String), PublishedRelease> = BTreeMap::new();
        let products = self.live.products();
        for target in &accepted.targets {
            let Some(custom) = &target.release else { continue };
            let new = entries.releases.iter().any(|entry| {
                entry.product.product.name.as_str() == custom.product
                    && entry.release.version.as_str() == custom.version
            });
            let id = products
                .by_name(&custom.product)
                .and_then(|product| {
                    product.releases().iter().find(|view| view.release.version.as_str() == custom.version)
                })
                .map(|view| view.release.id.to_string())
                .unwrap_or_default();
            releases.insert(
                (custom.product.clone(), custom.version.clone()),
                PublishedRelease {
                    product: custom.product.clone(),
                    version: custom.version.clone(),
                    release_id: id,
                    outcome: if new { PublishOutcome::Published } else { PublishOutcome::Unchanged },
                },
            );
        }
        PublishResponse { releases: releases.into_values().collect(), documents }
    }
}

/// The expiry that a document of ours states.
fn expiry(document: &[u8]) -> Result<Time> {
    #[derive(serde::Deserialize)]
    struct Signed {
        signed: Expires,
    }
    #[derive(serde::Deserialize)]
    struct Expires {
        expires: Time,
    }
    serde_json::from_slice::<Signed>(document).map(|document| document.signed.expires).map_err(Error::internal)
}

fn stamp(time: Time) -> Result<jiff::Timestamp> {
    jiff::Timestamp::from_second(time.as_s()).map_err(Error::internal)
}

const fn repository(repository: SignedRepository) -> Repository {
    match repository {
        SignedRepository::Image => Repository::Image,
        SignedRepository::Director => Repository::Director,
    }
}

fn version(version: u64) -> Result<i64> {
    i64::try_from(version).map_err(|_| Error::invalid("version", "at most 2^53 - 1"))
}

impl Current {
    async fn read(store: &Store) -> Result<Self> {
        // A transaction that only reads gives one consistent state on both engines; it is rolled back.
        let mut tx = store.begin().await?;
        Self::read_in(&mut tx).await
    }

    async fn read_in(tx: &mut Tx) -> Result<Self> {
        let mut documents = ImageDocuments {
            roots: bodies(tx.document_chain(Repository::Image, "root").await?),
            director_roots: bodies(tx.document_chain(Repository::Director, "root").await?),
            ..ImageDocuments::default()
        };
        let (mut snapshot_version, mut timestamp_version) = (0, 0);
        for document in tx.document_latest(Repository::Image).await? {
            match document.role.as_str() {
                "root" => {}
                "snapshot" => snapshot_version = document.version,
                "timestamp" => timestamp_version = document.version,
                "targets" => documents.targets = Some(document.body),
                _ => {
                    documents.roles.insert(document.role, document.body);
                }
            }
        }
        Ok(Self { documents, snapshot_version, timestamp_version })
    }
}

fn bodies(documents: Vec<Document>) -> Vec<Vec<u8>> {
    documents.into_iter().map(|document| document.body).collect()
}

/// The digest that a target's blob has.
fn digest(target: &sluice_signer::RepositoryTarget) -> Digest {
    Digest(target.sha256)
}
