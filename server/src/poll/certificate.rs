//! Entitlement certificates: what a device may have by contract, for when the server is away. Made of what is in memory, like
//! every answer; key E signs only for a device that holds none which says the same and lives long enough.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use sha2::{Digest as _, Sha256};
use sluice_catalog::Time;
use sluice_catalog::decide::ProductView;
use sluice_catalog::device::DeviceState;
use sluice_catalog::offline::{Certified, certify};
use sluice_signer::{Certificate, CertifiedCover, CertifiedState, Envelope, Limits, PublicKey};

use super::devices::CachedDevice;
use crate::error::{Error, Result};

/// Days that a certificate may live at most, and so long is what was sold told from it.
pub const MAX_DAYS: u32 = 90;

/// A certificate as it would be signed now.
#[derive(Debug)]
pub struct Draft {
    certificate: Certificate,
    /// Says which contents by which key; equal tags, equal certificates but for their times.
    pub tag: String,
}

/// A signed certificate.
#[derive(Debug)]
pub struct SignedCertificate {
    /// The envelope.
    pub body: Vec<u8>,
    /// `ETag`: when it expires and what it says. Stateless: any replica can confirm it.
    pub etag: String,
}

impl Draft {
    /// What a certificate of the device says. `None` while it waits to be accepted.
    pub fn new(
        device: &CachedDevice,
        product: &ProductView,
        (signing_epoch, repo_id): (u64, Option<String>),
        key: &PublicKey,
        days: u32,
        now: Time,
    ) -> Result<Option<Self>> {
        let (record, Some(certified)) = (&device.view.device, certify(&device.view, product, now)) else {
            return Ok(None);
        };
        let Some(device_key) = record.public_key.clone() else { return Ok(None) };
        let issued = second(now)?;
        let certificate = Certificate {
            device_id: record.id.to_string(),
            product: product.product.name.to_string(),
            serial: record.serial.to_string(),
            device_key,
            device_epoch: u64::try_from(record.epoch).map_err(Error::internal)?,
            signing_epoch,
            issued,
            expires: issued + SignedDuration::from_hours(24 * i64::from(days)),
            repo_id,
            ..contents(certified)?
        };
        let mut hasher = Sha256::new();
        hasher.update(key.keyid().as_bytes());
        hasher.update(certificate.contents());
        let tag = hex::encode(hasher.finalize()).chars().take(32).collect();
        Ok(Some(Self { certificate, tag }))
    }

    /// The tag of a copy that is signed now.
    pub fn etag(&self) -> String {
        format!("\"{:x}.{}\"", self.certificate.expires.as_second(), self.tag)
    }

    /// Whether a copy with this tag says the same, and has more than a third of its life left.
    pub fn confirms(&self, held: &str) -> bool {
        let Some((expires, tag)) = held.trim().trim_matches('"').split_once('.') else { return false };
        let Ok(expires) = i64::from_str_radix(expires, 16) else { return false };
        let (now, end) = (self.certificate.issued.as_second(), self.certificate.expires.as_second());
        // No copy outlives one that is signed now, whatever its tag claims.
        tag == self.tag && expires <= end && expires.saturating_sub(now) > (end - now) / 3
    }

    /// The document, to be signed.
    pub fn document(&self) -> Result<Envelope> {
        self.certificate.unsigned(&Limits::default()).map_err(Error::internal)
    }
}

fn second(at: Time) -> Result<Timestamp> {
    Timestamp::from_second(at.as_s()).map_err(Error::internal)
}

/// What the catalogue certifies, in the words of the document. Whose it is and how long it lives is filled in by the caller.
fn contents(certified: Certified) -> Result<Certificate> {
    let mut covers = Vec::new();
    for cover in certified.covers {
        let windows = cover.windows.iter().map(|(from, to)| Ok((second(from)?, second(to)?)));
        covers.push(CertifiedCover {
            windows: windows.collect::<Result<_>>()?,
            contract: cover.contract.to_string(),
            plan: cover.plan.to_string(),
            rule: cover.rule.to_string(),
            grace_days: u64::try_from(cover.grace_days).unwrap_or(0),
            codes: cover.codes.iter().map(|(code, channel)| (code.to_string(), channel.as_str().to_owned())).collect(),
        });
    }
    let published = certified.published.iter().map(|(version, at)| Ok((version.to_string(), second(*at)?)));
    Ok(Certificate {
        device_id: String::new(),
        product: String::new(),
        serial: String::new(),
        device_key: String::new(),
        device_epoch: 0,
        state: match certified.state {
            DeviceState::Replaced => CertifiedState::Replaced,
            DeviceState::Blocked => CertifiedState::Blocked,
            DeviceState::Retired => CertifiedState::Retired,
            DeviceState::Active | DeviceState::RmaPending | DeviceState::Pending => CertifiedState::Active,
        },
        replaced_at: certified.replaced_at.map(second).transpose()?,
        confirmed_train: certified.confirmed_train.map(String::from),
        signing_epoch: 1,
        covers,
        published: published.collect::<Result<BTreeMap<_, _>>>()?,
        issued: Timestamp::UNIX_EPOCH,
        expires: Timestamp::UNIX_EPOCH,
        repo_id: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_catalogue_certifies_no_more_than_a_document_holds() {
        use sluice_catalog::offline::{MAX_CODES, MAX_COVERS, MAX_PUBLISHED, MAX_WINDOWS};
        let limits = Limits::default();
        assert_eq!(
            (MAX_COVERS, MAX_WINDOWS, MAX_CODES, MAX_PUBLISHED),
            (limits.covers, limits.windows, limits.list_entries, limits.published)
        );
        assert_eq!(
            SignedDuration::from_hours(24 * i64::from(MAX_DAYS)),
            sluice_signer::entitlement::MAX_CERTIFICATE_LIFETIME
        );
    }
}
