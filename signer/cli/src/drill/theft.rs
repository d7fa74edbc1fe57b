//! A device of the rehearsal: what it takes from a thief, and that it takes nothing of him once the roots name other keys.

use super::rehearsal::Rehearsal;
use crate::edge;
use crate::status;
use anyhow::Context as _;
use jiff::{SignedDuration, Timestamp};
use sluice_signer::online::{SNAPSHOT_LIFETIME, TIMESTAMP_LIFETIME, sign_snapshot, sign_timestamp};
use sluice_signer::publish::Repository;
use sluice_signer::{
    Certificate, CertificateExpect, CertifiedCover, CertifiedState, DirectorDocument, DirectorExpect, DirectorTrust,
    FileMeta, ImageDocuments, OnlineRole, SigningKey, TrustedRepository, VerifyError,
};
use std::collections::BTreeMap;
use std::rc::Rc;

/// The version that the thief gives his documents: a device that took it refuses every honest one for ages.
const FAR_AHEAD: u64 = 1 << 40;
const DEVICE: &str = "drill-device";
const DEVICE_KEY: &str = "5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f5f";

type Signers = BTreeMap<OnlineRole, Rc<SigningKey>>;

/// Snapshot and timestamp.
struct Current {
    snapshot: Vec<u8>,
    timestamp: Vec<u8>,
}

pub struct Device {
    image: TrustedRepository,
    director: DirectorTrust,
    /// What the thief has made the device hold.
    last_director_version: u64,
    thiefs: Option<Current>,
    /// The certificate that it keeps.
    certificate: Option<Vec<u8>>,
}

impl Device {
    /// A device that has seen the first roots and an honest server.
    pub fn of(rehearsal: &Rehearsal, now: Timestamp) -> anyhow::Result<Self> {
        let limits = edge::limits();
        let first = |repository| rehearsal.stage.roots(repository).first().context("a root").cloned();
        let mut device = Self {
            image: TrustedRepository::from_root(&first(Repository::Image)?, &limits)?,
            director: DirectorTrust::from_root(&first(Repository::Director)?, &limits)?,
            last_director_version: 0,
            thiefs: None,
            certificate: None,
        };
        let honest = current(rehearsal, &rehearsal.online_signers()?, 1, 1, now)?;
        device.image.update_timestamp(&honest.timestamp, now)?;
        device.image.update_snapshot(&honest.snapshot, now)?;
        Ok(device)
    }

    /// Takes what the thief can sign.
    pub fn meets_the_thief(
        &mut self,
        rehearsal: &Rehearsal,
        stolen: &[OnlineRole],
        keys: &Signers,
        now: Timestamp,
        steps: &mut Vec<String>,
    ) -> anyhow::Result<()> {
        let has = |role| stolen.contains(&role);
        if has(OnlineRole::Timestamp) {
            let snapshot = if has(OnlineRole::Snapshot) { FAR_AHEAD } else { 1 };
            let thiefs = current(rehearsal, keys, snapshot, FAR_AHEAD, now)?;
            self.image.update_timestamp(&thiefs.timestamp, now)?;
            if self.image.wanted_snapshot().is_some() {
                self.image.update_snapshot(&thiefs.snapshot, now)?;
            }
            steps.push(format!("a device takes the thief's timestamp, version {FAR_AHEAD}, and refuses the server's"));
            self.thiefs = Some(thiefs);
        } else if has(OnlineRole::Snapshot) {
            let thiefs = current(rehearsal, keys, FAR_AHEAD, 1, now)?;
            anyhow::ensure!(self.image.update_snapshot(&thiefs.snapshot, now).is_err(), "a snapshot without timestamp");
            steps.push("a device refuses the thief's snapshot: no timestamp names it".to_owned());
            self.thiefs = Some(thiefs);
        }
        if has(OnlineRole::Director) {
            let document = director_document(rehearsal, keys, FAR_AHEAD, now)?;
            self.last_director_version = self.take(&document, now)?;
            steps.push(format!(
                "a device takes the thief's answer, version {FAR_AHEAD}: nothing that holders did not sign"
            ));
        }
        if has(OnlineRole::Entitlement) {
            let forged = certificate(rehearsal, keys, FAR_AHEAD, now)?;
            self.takes_certificate(&forged, now)?;
            self.certificate = Some(forged);
            steps.push(format!(
                "a device takes the thief's certificate, epoch {FAR_AHEAD}: cover that nobody sold, and no software"
            ));
        }
        Ok(())
    }

    fn takes_certificate(&self, bytes: &[u8], now: Timestamp) -> Result<(), VerifyError> {
        let expect = CertificateExpect {
            product: DEVICE,
            serial: DEVICE,
            device_key: DEVICE_KEY,
            now,
            kept: self.certificate.as_deref(),
        };
        self.director.verify_certificate(bytes, &expect).map(drop)
    }

    fn take(&self, document: &[u8], now: Timestamp) -> Result<u64, VerifyError> {
        let expect = DirectorExpect { device_id: DEVICE, nonce: None, now, last_version: self.last_director_version };
        self.director.verify_director(document, &expect).map(|answer| answer.document.version)
    }

    /// After the new roots it takes what the server signs with the new keys, and nothing of the old ones.
    pub fn recovers(
        mut self,
        rehearsal: &Rehearsal,
        stolen: &[OnlineRole],
        old: &Signers,
        now: Timestamp,
        steps: &mut Vec<String>,
    ) -> anyhow::Result<()> {
        let new = rehearsal.online_signers()?;
        for root in rehearsal.stage.roots(Repository::Image).iter().skip(1) {
            self.image.update_root(root)?;
        }
        for root in rehearsal.stage.roots(Repository::Director).iter().skip(1) {
            if self.director.update_root(root)?.rotated.contains("targets") {
                self.last_director_version = 0;
            }
        }
        if let Some(thiefs) = self.thiefs.take() {
            // On a device of its own: a timestamp that was not stolen may name the thief's snapshot.
            let mut other = TrustedRepository::from_state(&self.image.state(), &edge::limits())?;
            let refused = other.update_timestamp(&thiefs.timestamp, now).is_err()
                || other.update_snapshot(&thiefs.snapshot, now).is_err();
            anyhow::ensure!(refused, "a device still takes what the stolen key signed");
        }
        let honest = current(rehearsal, &new, 2, 2, now)?;
        self.image.update_timestamp(&honest.timestamp, now).context("the server's timestamp")?;
        self.image.update_snapshot(&honest.snapshot, now).context("the server's snapshot")?;
        if stolen.contains(&OnlineRole::Director) {
            let thiefs = director_document(rehearsal, old, FAR_AHEAD, now)?;
            anyhow::ensure!(self.take(&thiefs, now).is_err(), "a device still takes answers of the stolen key");
        }
        self.take(&director_document(rehearsal, &new, 1, now)?, now).context("the server's answer")?;
        if stolen.contains(&OnlineRole::Entitlement) {
            let thiefs = certificate(rehearsal, old, FAR_AHEAD, now)?;
            let still = self.takes_certificate(&thiefs, now).is_ok();
            anyhow::ensure!(!still, "a device still takes certificates of the stolen key");
        }
        self.takes_certificate(&certificate(rehearsal, &new, 1, now)?, now).context("the server's certificate")?;
        steps.push("the device takes the new roots, forgets what the thief signed, and works again".to_owned());
        Ok(())
    }
}

/// What the server, or the thief, says is current.
fn current(
    rehearsal: &Rehearsal,
    keys: &Signers,
    snapshot: u64,
    timestamp: u64,
    now: Timestamp,
) -> anyhow::Result<Current> {
    let limits = edge::limits();
    let key = |role| keys.get(&role).context("four keys");
    let accepted = status::check(&rehearsal.stage, status::complete(&rehearsal.stage)?, now)
        .map_err(|error| anyhow::anyhow!("{error}"))?;
    let documents: &ImageDocuments = &accepted.documents_after;
    let repo_id = documents.repo_id(&limits)?;
    let ends = |life: SignedDuration| in_seconds(now, life);
    let files = documents.snapshot_files(&limits)?;
    let bytes = sign_snapshot(snapshot, ends(SNAPSHOT_LIFETIME)?, files, repo_id.clone(), key(OnlineRole::Snapshot)?);
    let meta = FileMeta::of(snapshot, &bytes);
    let timestamp = sign_timestamp(timestamp, ends(TIMESTAMP_LIFETIME)?, meta, repo_id, key(OnlineRole::Timestamp)?);
    Ok(Current { snapshot: bytes, timestamp })
}

/// "Nothing for you", with this version.
fn director_document(rehearsal: &Rehearsal, keys: &Signers, version: u64, now: Timestamp) -> anyhow::Result<Vec<u8>> {
    let repo_id = rehearsal.director_repo_id()?;
    let server_time = edge::in_days(now, 0)?;
    let document = DirectorDocument {
        device_id: DEVICE.to_owned(),
        nonce: None,
        server_time,
        version,
        expires: in_seconds(now, SignedDuration::from_hours(1))?,
        rollout_id: None,
        reason: "UP_TO_DATE".to_owned(),
        targets: BTreeMap::new(),
        repo_id,
    };
    Ok(document.sign(keys.get(&OnlineRole::Director).context("four keys")?, &edge::limits())?)
}

/// A certificate of the device at this epoch, under a contract.
fn certificate(rehearsal: &Rehearsal, keys: &Signers, epoch: u64, now: Timestamp) -> anyhow::Result<Vec<u8>> {
    let issued = edge::in_days(now, 0)?;
    let cover = CertifiedCover {
        contract: DEVICE.to_owned(),
        plan: DEVICE.to_owned(),
        rule: "open".to_owned(),
        grace_days: 0,
        codes: BTreeMap::new(),
        windows: Vec::new(),
    };
    let certificate = Certificate {
        device_id: DEVICE.to_owned(),
        product: DEVICE.to_owned(),
        serial: DEVICE.to_owned(),
        device_key: DEVICE_KEY.to_owned(),
        device_epoch: epoch,
        state: CertifiedState::Active,
        replaced_at: None,
        confirmed_train: None,
        signing_epoch: rehearsal.stage.complete_epoch(Repository::Director)?,
        covers: vec![cover],
        published: BTreeMap::new(),
        issued,
        expires: edge::in_days(now, 30)?,
        repo_id: rehearsal.director_repo_id()?,
    };
    let key = keys.get(&OnlineRole::Entitlement).context("four keys")?;
    Ok(certificate.unsigned(&edge::limits())?.signed_by(key))
}

fn in_seconds(now: Timestamp, life: SignedDuration) -> anyhow::Result<Timestamp> {
    Ok(edge::in_days(now, 0)?.checked_add(life)?)
}
