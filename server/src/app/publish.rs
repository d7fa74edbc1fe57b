//! Publishing: signed documents come in through the code that devices run, all or nothing.
//!
//! Blobs are there first. The next snapshot and timestamp are signed. Then one transaction keeps all documents, enters releases
//! and artifacts, enqueues jobs and writes the audit entry; before it, nobody sees anything, after it, everybody
//! sees everything. The same publication again changes nothing and gives the same answer.

mod entries;
mod notes;
mod sign;

pub(super) use sign::{Due, Line, SignedLine, named_by, snapshot_left_s};
pub use sign::{LEASE, LEASE_S, Publisher};

use std::collections::BTreeMap;

use serde_json::json;
use sluice_catalog::principal::Permission;
use sluice_catalog::wire::publish::{
    PublishOutcome, PublishRepository, PublishResponse, PublishedDocument, PublishedRelease,
};
use sluice_catalog::{Digest, Kind, Time};
use sluice_signer::publish::{Outcome, Repository as SignedRepository};
use sluice_signer::{Accepted, ImageDocuments, NewDocument, PublishContext, publish_check};

use super::{Actor, App, embargo};
use crate::error::{Error, Result};
use crate::failpoint::failpoint;
use crate::poll::documents;
use crate::store::{Document, Repository, Store, Tx};

/// How often a publication is signed anew because somebody signed meanwhile.
const MAX_SIGNINGS: u32 = 3;

/// The newest documents of an installation, and its chains of roots.
pub(super) struct Current {
    pub(super) documents: ImageDocuments,
    /// Versions of the targets documents.
    pub(super) versions: BTreeMap<String, i64>,
    pub(super) snapshot: Option<Document>,
    pub(super) timestamp: Option<Document>,
}

impl App {
    /// Takes in a publication.
    pub async fn publish(&self, actor: &Actor, new: Vec<NewDocument>) -> Result<PublishResponse> {
        actor.need(Permission::Publish)?;
        // What another replica published a moment ago is in the catalogue, too.
        self.refresh().await?;
        let now = self.now();
        let current = Current::read(&self.store).await?;
        let accepted = self.check(&current.documents, &new, now)?;
        embargo::check_shown(&accepted)?;
        let entries = entries::entries(self, &accepted).await?;
        let changed = accepted.documents.iter().any(|document| document.outcome == Outcome::Published);
        if changed || accepted.documents_after.held != current.documents.held {
            if changed {
                self.new_keys_sign(&sign::named_by(&accepted.documents_after)?).await?;
            }
            failpoint("publish.before_transaction");
            self.publish_commit(actor, &new, &current, &accepted, &entries, now).await?;
            failpoint("publish.after_commit");
            self.refresh().await?;
            if changed {
                self.metrics.publications.inc();
            }
        }
        Ok(self.publish_answer(&accepted, &entries))
    }

    fn check(&self, current: &ImageDocuments, new: &[NewDocument], now: Time) -> Result<Accepted> {
        // Roots may name a key that was made since this server started.
        self.keys.reread().map_err(Error::internal)?;
        let online_keys = self.keys.online(&sign::named_by(current)?)?;
        let context = PublishContext { online_keys: &online_keys, now: stamp(now)?, limits: &self.limits() };
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
        let changed = accepted.documents.iter().any(|document| document.outcome == Outcome::Published);
        let mut newer = None;
        for _ in 0..MAX_SIGNINGS {
            let latest = newer.as_ref().unwrap_or(seen);
            // Before the transaction: a key may be in a token, which takes its time.
            let (mut signed, mut ended) = (None, None);
            if changed {
                signed = Some(self.sign_current(&accepted.documents_after, latest, true, now).await?);
                ended = self.branch_end(&accepted.documents_after, latest, now).await?;
            }
            let mut tx = self.store.begin().await?;
            // Raising the generation first locks its row: a second publication waits here and then sees this one.
            tx.generation_raise("documents").await?;
            if changed {
                tx.generation_raise("releases").await?;
            }
            let current = Current::read_in(&mut tx).await?;
            if current.documents != seen.documents {
                return Err(overtaken());
            }
            if signed.as_ref().is_none_or(|signed| signed.follows(&current)) {
                let parts = Parts { new, accepted, entries, signed, ended };
                return self.publish_write(actor, tx, &current, parts, now).await;
            }
            // Once an hour somebody may have signed the timestamp just now: signed again, with no transaction open.
            drop(tx);
            newer = Some(current);
        }
        Err(overtaken())
    }

    /// Writes a publication, and what was signed for it, in the transaction that found nothing changed since.
    async fn publish_write(
        &self,
        actor: &Actor,
        mut tx: Tx,
        current: &Current,
        Parts { new, accepted, entries, signed, ended }: Parts<'_>,
        now: Time,
    ) -> Result<()> {
        let waited = embargo::write(self, &mut tx, actor, &current.documents, accepted).await?;
        let Some(signed) = signed else {
            // Nothing that anybody is shown has changed, and the next snapshot would tell that something was given to the server.
            failpoint("publish.before_commit");
            return Ok(tx.commit().await?);
        };
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
        signed.write(&mut tx, now).await?;
        if let Some(ended) = &ended {
            ended.write(&mut tx, now).await?;
        }
        let detail = json!({
            "documents": accepted.documents.iter()
                .filter(|document| document.outcome == Outcome::Published)
                .map(|document| format!("{}/{} {}", repository(document.repository).as_str(), document.role, document.version))
                .collect::<Vec<_>>(),
            "releases": entries.releases.iter().map(|entry| format!("{} {}", entry.product.product.name, entry.release.version)).collect::<Vec<_>>(),
            "overrides": accepted.documents.iter()
                .flat_map(|document| document.overrides.iter().map(|(code, reason)| format!("{} {}: {code}: {reason}", document.role, document.version)))
                .collect::<Vec<_>>(),
            "ended_epoch": ended.as_ref().map(|ended| ended.epoch),
            "withdrawn": entries.withdrawn.iter().map(|(name, _)| name).collect::<Vec<_>>(),
            "waited": waited.iter()
                .map(|held| format!("image/{} {}, given by {} at {}", held.role, held.version, held.held_by, held.held_at))
                .collect::<Vec<_>>(),
        });
        tx.audit_add(now, actor.name(), "publish", "repository", &detail).await?;
        failpoint("publish.before_commit");
        tx.commit().await?;
        Ok(())
    }

    fn publish_answer(&self, accepted: &Accepted, entries: &entries::Entries) -> PublishResponse {
        let outcome = |outcome| match outcome {
            Outcome::Published => PublishOutcome::Published,
            Outcome::Unchanged => PublishOutcome::Unchanged,
            Outcome::Held => PublishOutcome::Held,
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
                held_until: document.held_until.map(|at| Time::from_ms(at.as_millisecond())),
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
        for target in &accepted.held {
            let Some(custom) = &target.release else { continue };
            let known = products.by_name(&custom.product).is_some_and(|product| {
                product.releases().iter().any(|view| view.release.version.as_str() == custom.version)
            });
            if !known {
                let (product, version) = (custom.product.clone(), custom.version.clone());
                let held = PublishOutcome::Held;
                releases.entry((product.clone(), version.clone())).or_insert(PublishedRelease {
                    product,
                    version,
                    release_id: String::new(),
                    outcome: held,
                });
            }
        }
        PublishResponse { releases: releases.into_values().collect(), documents }
    }
}

/// What a publication writes.
struct Parts<'a> {
    new: &'a [NewDocument],
    accepted: &'a Accepted,
    entries: &'a entries::Entries,
    /// Nothing when all of it is only held.
    signed: Option<sign::Signed>,
    ended: Option<super::branches::EndedEpoch>,
}

fn overtaken() -> Error {
    Error::conflict("someone else published meanwhile; nothing was taken, publish again")
}

/// The expiry that a document of ours states.
pub(super) fn expiry(document: &[u8]) -> Result<Time> {
    documents::expiry(document).map_err(Error::internal)
}

pub(super) fn stamp(time: Time) -> Result<jiff::Timestamp> {
    jiff::Timestamp::from_second(time.as_s()).map_err(Error::internal)
}

const fn repository(repository: SignedRepository) -> Repository {
    match repository {
        SignedRepository::Image => Repository::Image,
        SignedRepository::Director => Repository::Director,
    }
}

pub(super) fn version(version: u64) -> Result<i64> {
    i64::try_from(version).map_err(|_| Error::invalid("version", "at most 2^53 - 1"))
}

impl Current {
    async fn read(store: &Store) -> Result<Self> {
        // A transaction that only reads gives one consistent state on both engines; it is rolled back.
        let mut tx = store.begin().await?;
        Self::read_in(&mut tx).await
    }

    pub(super) async fn read_in(tx: &mut Tx) -> Result<Self> {
        let mut documents = ImageDocuments {
            roots: bodies(tx.document_chain(Repository::Image, "root").await?),
            director_roots: bodies(tx.document_chain(Repository::Director, "root").await?),
            ..ImageDocuments::default()
        };
        documents.held = tx.held_all().await?.into_iter().map(|held| (held.role, held.body)).collect();
        let (mut snapshot, mut timestamp) = (None, None);
        let mut versions = BTreeMap::new();
        for document in tx.document_latest(Repository::Image).await? {
            versions.insert(document.role.clone(), document.version);
            match document.role.as_str() {
                "root" => {}
                "snapshot" => snapshot = Some(document),
                "timestamp" => timestamp = Some(document),
                "targets" => documents.targets = Some(document.body),
                _ => {
                    documents.roles.insert(document.role, document.body);
                }
            }
        }
        Ok(Self { documents, versions, snapshot, timestamp })
    }
}

fn bodies(documents: Vec<Document>) -> Vec<Vec<u8>> {
    documents.into_iter().map(|document| document.body).collect()
}

/// The digest that a target's blob has.
fn digest(target: &sluice_signer::RepositoryTarget) -> Digest {
    Digest(target.sha256)
}
