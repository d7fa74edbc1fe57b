//! Signing what is current: snapshot and timestamp, with each publication and, by the replica that has the lease, on
//! schedule.

use sluice_catalog::{Kind, Time};
use sluice_signer::roles::{FileMeta, SnapshotMetadata};
use sluice_signer::{Envelope, ImageDocuments, Limits, NamedKeys, OnlineRole, online};

use super::{Current, expiry, stamp};
use crate::app::App;
use crate::error::{Error, Result};
use crate::failpoint::failpoint;
use crate::store::{Document, Repository, Tx};

/// The snapshot lives a week and the timestamp a day, as the server re-signs the latter hourly; a device that has been cut
/// off from the truth for longer notices.
pub const SNAPSHOT_LIFETIME_S: i64 = 7 * 24 * 3600;
/// See [`SNAPSHOT_LIFETIME_S`].
const TIMESTAMP_LIFETIME_S: i64 = 24 * 3600;
/// The timestamp is signed again when it is this old.
const TIMESTAMP_RENEW_S: i64 = 3600;
/// The replica that signs on schedule renews its lease every half minute; one that missed three is gone, and another
/// takes over long before anything expires.
pub const LEASE_S: i64 = 90;
/// The lease of who signs on schedule.
pub const LEASE: &str = "publisher";

/// What this replica knows about who signs on schedule.
#[derive(Debug)]
pub struct Publisher {
    /// Names this process among the replicas.
    pub replica: String,
    /// Whether it had the lease when it last looked; nothing before.
    leads: std::sync::Mutex<Option<bool>>,
    /// Told when a moment has come for which something waits.
    pub moment: tokio::sync::Notify,
}

impl Publisher {
    /// Of the replica with this name, which must be another for each process.
    pub const fn new(replica: String) -> Self {
        Self { replica, leads: std::sync::Mutex::new(None), moment: tokio::sync::Notify::const_new() }
    }

    /// Tells once when the lease comes or goes.
    fn note(&self, leads: bool) {
        let mut before = self.leads.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if before.replace(leads) != Some(leads) {
            let who = if leads { "this replica" } else { "another replica" };
            tracing::info!(replica = self.replica, "{who} signs timestamp and snapshot on schedule");
        }
    }
}

/// What has to be signed again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::app) enum Due {
    Nothing,
    Timestamp,
    Both,
}

impl App {
    /// Publishes what waited and is due; then signs the timestamp when it is an hour old, and the snapshot when its configured share of
    /// life has gone. One replica does so: that which has the lease. Whether anything was signed.
    pub async fn publisher_tick(&self) -> Result<bool> {
        let (now, replica) = (self.now(), self.publisher.replica.as_str());
        if let Err(missing) = self.has_keys() {
            // Whoever has the keys must be able to sign.
            self.publisher_stop().await?;
            return Err(missing);
        }
        let leads = self.store.lease_take(LEASE, replica, now, now.plus_s(LEASE_S)).await?;
        self.publisher.note(leads);
        if !leads {
            return Ok(false);
        }
        failpoint("publisher.after_lease");
        // Whatever becomes of what waited, the timestamp must not grow old.
        let published = self.embargo_tick().await;
        let branches = self.branches_tick(replica, now).await;
        let signed = self.sign_when_due(now).await;
        let told = |error: &Error| error.is_told();
        if [published.as_ref().err(), branches.as_ref().err()].into_iter().flatten().any(told) {
            // Another replica may have a way to a token.
            self.publisher_stop().await?;
        }
        Ok(signed? | published? | branches?)
    }

    async fn sign_when_due(&self, now: Time) -> Result<bool> {
        let documents = self.live.documents_full();
        let seen = |role| documents.latest(Repository::Image, role).map(|(_, body)| body);
        if self.due(seen("snapshot").as_deref(), seen("timestamp").as_deref(), now)? == Due::Nothing {
            return Ok(false);
        }
        let seen = Current::read(&self.store).await?;
        let due = self.due(body(seen.snapshot.as_ref()), body(seen.timestamp.as_ref()), now)?;
        if due == Due::Nothing {
            self.refresh().await?;
            return Ok(false);
        }
        let signed = match self.sign_current(&seen.documents, &seen, due == Due::Both, now).await {
            Err(down) if down.is_told() => {
                // Another replica may have a way to a token.
                self.publisher_stop().await?;
                return Err(down);
            }
            other => other?,
        };
        let mut tx = self.store.begin().await?;
        // Raising the generation locks its row: whoever signed meanwhile is seen below.
        tx.generation_raise("documents").await?;
        let current = Current::read_in(&mut tx).await?;
        let is_next = current.documents == seen.documents && signed.follows(&current);
        if !is_next || !tx.lease_held(LEASE, &self.publisher.replica, now).await? {
            drop(tx);
            self.refresh().await?;
            return Ok(false);
        }
        signed.write(&mut tx, now).await?;
        failpoint("publisher.before_commit");
        tx.commit().await?;
        failpoint("publisher.after_commit");
        self.refresh().await?;
        Ok(true)
    }

    /// Wakes who publishes when a moment has come for which something waits.
    pub fn wake_at_the_moment(&self) {
        if self.live.documents().next_moment().is_some_and(|moment| moment <= self.now()) {
            self.publisher.moment.notify_one();
        }
    }

    /// Gives the lease back, so that another replica signs at once when this one stops.
    pub async fn publisher_stop(&self) -> Result<()> {
        Ok(self.store.lease_give(LEASE, &self.publisher.replica).await?)
    }

    pub(in crate::app) fn due(&self, snapshot: Option<&[u8]>, timestamp: Option<&[u8]>, now: Time) -> Result<Due> {
        let (Some(snapshot), Some(timestamp)) = (snapshot, timestamp) else { return Ok(Due::Nothing) };
        if now >= expiry(snapshot)?.plus_s(-snapshot_left_s(self.rules.snapshot_renew_percent)) {
            return Ok(Due::Both);
        }
        let renew = expiry(timestamp)?.plus_s(TIMESTAMP_RENEW_S - TIMESTAMP_LIFETIME_S);
        Ok(if now >= renew { Due::Timestamp } else { Due::Nothing })
    }

    /// Signs, with the keys that the newest roots name, the next timestamp over what stands, before it the next snapshot when it must be another one, and checks both as
    /// a device from a warehouse would before anyone sees them. Versions only rise. A key may take its time, so no transaction is
    /// open meanwhile: what is signed follows `current`, and is written when that is still current.
    pub(super) async fn sign_current(
        &self,
        after: &ImageDocuments,
        current: &Current,
        snapshot_due: bool,
        now: Time,
    ) -> Result<Signed> {
        let mut signed = Signed { after: versions(current), line: None };
        if after.roots.is_empty() || after.targets.is_none() {
            return Ok(signed);
        }
        let line = Line {
            documents: after,
            snapshot: current.snapshot.as_ref(),
            timestamp: current.timestamp.as_ref(),
            named: named_by(after)?,
        };
        signed.line = Some(self.sign_line(&line, snapshot_due, now).await?);
        Ok(signed)
    }

    /// Signs the next snapshot, when it must be another one, and the next timestamp of a line of documents.
    pub(in crate::app) async fn sign_line(&self, line: &Line<'_>, snapshot_due: bool, now: Time) -> Result<SignedLine> {
        let limits = self.limits();
        let internal = |error: sluice_signer::VerifyError| Error::new(Kind::Unverified, error.to_string());
        let files = line.documents.snapshot_files(&limits).map_err(internal)?;
        let repo_id = line.documents.repo_id(&limits).map_err(internal)?;
        let snapshot_key = self.keys.current(OnlineRole::Snapshot, &line.named)?;
        let timestamp_key = self.keys.current(OnlineRole::Timestamp, &line.named)?;
        let kept = line
            .snapshot
            .filter(|kept| !snapshot_due && lists(&kept.body, &files, snapshot_key.public().keyid()).unwrap_or(false));
        let snapshot_version = kept.map_or(next_version(line.snapshot), |kept| kept.version);
        let snapshot = match kept {
            Some(kept) => kept.body.clone(),
            None => {
                let expires = stamp(now.plus_s(SNAPSHOT_LIFETIME_S))?;
                let document =
                    online::snapshot(snapshot_version.unsigned_abs(), expires, files.clone(), repo_id.clone());
                self.sign(OnlineRole::Snapshot, &snapshot_key, document).await?
            }
        };
        let timestamp_version = next_version(line.timestamp);
        let document = online::timestamp(
            timestamp_version.unsigned_abs(),
            stamp(now.plus_s(TIMESTAMP_LIFETIME_S))?,
            FileMeta::of(snapshot_version.unsigned_abs(), &snapshot),
            repo_id,
        );
        let timestamp = self.sign(OnlineRole::Timestamp, &timestamp_key, document).await?;
        // A role that nobody signed anew is dead for its own product only: the others' devices must go on.
        let mut alive = line.documents.clone();
        alive.roles.retain(|_, document| expiry(document).is_ok_and(|expires| now < expires));
        alive.verify_as_device(&snapshot, &timestamp, stamp(now)?, &limits).map_err(internal)?;
        let snapshot = kept.is_none().then_some((snapshot_version, snapshot));
        Ok(SignedLine { snapshot, timestamp: (timestamp_version, timestamp) })
    }
}

/// Documents over which snapshots and timestamps are signed: the current ones, or those of a branch.
pub(in crate::app) struct Line<'a> {
    pub documents: &'a ImageDocuments,
    pub snapshot: Option<&'a Document>,
    pub timestamp: Option<&'a Document>,
    /// The keys that sign.
    pub named: NamedKeys,
}

/// What was signed, with versions. No snapshot when the one before stands.
pub(in crate::app) struct SignedLine {
    pub snapshot: Option<(i64, Vec<u8>)>,
    pub timestamp: (i64, Vec<u8>),
}

/// What the server has signed over what is current, and what that follows. Nothing on an empty server.
pub(super) struct Signed {
    after: [i64; 2],
    line: Option<SignedLine>,
}

impl Signed {
    /// Whether nobody has signed a snapshot or timestamp meanwhile.
    pub(super) fn follows(&self, current: &Current) -> bool {
        self.after == versions(current)
    }

    /// Keeps it.
    pub(super) async fn write(&self, tx: &mut Tx, now: Time) -> Result<()> {
        let Some(SignedLine { snapshot, timestamp }) = &self.line else { return Ok(()) };
        if let Some((version, body)) = snapshot {
            tx.document_add(Repository::Image, "snapshot", *version, body, now).await?;
        }
        let (version, body) = timestamp;
        Ok(tx.document_add(Repository::Image, "timestamp", *version, body, now).await?)
    }
}

/// Versions of snapshot and timestamp.
fn versions(current: &Current) -> [i64; 2] {
    [&current.snapshot, &current.timestamp].map(|document| document.as_ref().map_or(0, |document| document.version))
}

/// Which online keys the roots name.
pub(in crate::app) fn named_by(documents: &ImageDocuments) -> Result<NamedKeys> {
    NamedKeys::of(&documents.roots, &documents.director_roots, &Limits::default()).map_err(Error::internal)
}

fn body(document: Option<&Document>) -> Option<&[u8]> {
    document.map(|document| document.body.as_slice())
}

fn next_version(document: Option<&Document>) -> i64 {
    document.map_or(1, |document| document.version + 1)
}

/// Whether a snapshot lists exactly these files under this key's signature.
fn lists(
    snapshot: &[u8],
    files: &std::collections::BTreeMap<String, FileMeta>,
    keyid: &str,
) -> Result<bool, sluice_signer::VerifyError> {
    let limits = Limits::default();
    let envelope = Envelope::parse("snapshot", snapshot, limits.snapshot_bytes, &limits)?;
    let metadata = SnapshotMetadata::from_json(envelope.signed(), &limits)?;
    Ok(metadata.roles == *files && envelope.signatures().any(|(signer, _)| signer == keyid))
}

/// Seconds of a snapshot's life that are left when it is signed again.
pub const fn snapshot_left_s(renew_percent: u8) -> i64 {
    SNAPSHOT_LIFETIME_S / 100 * (100 - renew_percent as i64)
}
