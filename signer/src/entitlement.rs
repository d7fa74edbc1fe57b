//! Entitlement certificates: what one device may have by contract, signed by online key E, so that it can tell without the
//! server. A certificate brings no software and says nothing about safety: with a forged one a device installs nothing more.
//!
//! Rules and channels are names here. Who decides by them leaves out what it does not know, so that a new rule makes an old
//! device stricter and never blind.

use crate::director::DirectorTrust;
use crate::envelope::Envelope;
use crate::error::{VerifyError, quote};
use crate::fields::{Fields, Header, header_json};
use crate::json::{Json, JsonError};
use crate::limits::{Limits, MAX_EPOCH};
use crate::root::check_expiry;
use crate::time;
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeMap;

/// A certificate lives no longer: what was sold is told from it without asking, so a cover that was taken back lives as long.
pub const MAX_CERTIFICATE_LIFETIME: SignedDuration = SignedDuration::from_hours(90 * 24);
/// Days of grace that a cover may state: ten years, which no plan has; a wider number is a mistake of unit.
const MAX_GRACE_DAYS: u64 = 3_660;
/// Bytes that one signature adds to a file, so that none is signed that no device would read.
const SIGNATURE_ROOM: u64 = 1024;
/// The document's name in messages.
const ROLE: &str = "entitlement";

/// Where the device stood when the certificate was issued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CertifiedState {
    /// In service.
    Active,
    /// Another device took its place: security fixes only.
    Replaced,
    /// Stolen, counterfeit or abused: nothing.
    Blocked,
    /// Out of service: nothing.
    Retired,
}

impl CertifiedState {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Active, Self::Replaced, Self::Blocked, Self::Retired];

    /// The word in documents.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Replaced => "replaced",
            Self::Blocked => "blocked",
            Self::Retired => "retired",
        }
    }
}

/// One contract's cover of the device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertifiedCover {
    /// The contract's number.
    pub contract: String,
    /// The plan's name.
    pub plan: String,
    /// How the plan decides: `train-ga`, `live`, `release-date`, `fallback-N`, `open`.
    pub rule: String,
    /// Days of grace after each window.
    pub grace_days: u64,
    /// Codes with the least finished channel to which each is granted.
    pub codes: BTreeMap<String, String>,
    /// Windows in order, apart from each other: the first moment is covered, the second is not.
    pub windows: Vec<(Timestamp, Timestamp)>,
}

/// The signed part of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The device's id.
    pub device_id: String,
    /// Its product line.
    pub product: String,
    /// Its serial number.
    pub serial: String,
    /// Its public ed25519 key, 64 hexadecimal digits: a certificate copied to another device is worth nothing there.
    pub device_key: String,
    /// The device's epoch with the server: raised to revoke, never lowered.
    pub device_epoch: u64,
    /// Where the device stood.
    pub state: CertifiedState,
    /// When it counts as replaced, when that is to come.
    pub replaced_at: Option<Timestamp>,
    /// The last train that it was known to run: whose security fixes need no cover.
    pub confirmed_train: Option<String>,
    /// The signing epoch whose key E signed.
    pub signing_epoch: u64,
    /// What covers it. Empty when nothing does.
    pub covers: Vec<CertifiedCover>,
    /// When versions were published, for covers by the date of a release.
    pub published: BTreeMap<String, Timestamp>,
    /// When it was signed.
    pub issued: Timestamp,
    /// From then on it says nothing.
    pub expires: Timestamp,
    /// `custom.repo_id` of the director root, when that has one.
    pub repo_id: Option<String>,
}

/// What a device requires of a certificate.
#[derive(Debug, Clone, Copy)]
pub struct CertificateExpect<'a> {
    /// This device's product line.
    pub product: &'a str,
    /// This device's serial number.
    pub serial: &'a str,
    /// This device's public key in hexadecimal.
    pub device_key: &'a str,
    /// The device's time.
    pub now: Timestamp,
    /// The certificate that it keeps. It sets the floors, as long as the trusted root still names the key that signed it: what a
    /// thief of that key had it keep is void with the root that names another.
    pub kept: Option<&'a [u8]>,
}

impl Certificate {
    /// The document, to be signed. One that lives too long, or that its own reader would refuse, is not made.
    pub fn unsigned(&self, limits: &Limits) -> Result<Envelope, VerifyError> {
        self.check_lifetime()?;
        let envelope = Envelope::new(self.to_json());
        if Self::from_json(envelope.signed(), limits)? != *self {
            return Err(VerifyError::field(ROLE, "issued", "times of whole seconds", "a fraction"));
        }
        let length = (envelope.to_bytes().len() as u64).saturating_add(SIGNATURE_ROOM);
        if length > limits.entitlement_bytes {
            let source = JsonError::TooLarge { length, limit: limits.entitlement_bytes };
            return Err(VerifyError::Json { role: ROLE.to_owned(), source });
        }
        Ok(envelope)
    }

    fn check_lifetime(&self) -> Result<(), VerifyError> {
        let (found, limit) = (self.issued.duration_until(self.expires), MAX_CERTIFICATE_LIFETIME);
        if found > limit || found <= SignedDuration::ZERO {
            return Err(VerifyError::CertificateLifetime { found_s: found.as_secs(), limit_s: limit.as_secs() });
        }
        Ok(())
    }

    /// Everything but the times of this copy: equal bytes say that signing anew would say nothing new.
    pub fn contents(&self) -> Vec<u8> {
        let mut json = self.to_json();
        if let Json::Object(members) = &mut json {
            for member in ["version", "issued", "expires"] {
                members.remove(member);
            }
        }
        json.canonical()
    }

    /// When a third of its life is left: time for another.
    pub fn renew_at(&self) -> Timestamp {
        self.expires - self.issued.duration_until(self.expires) / 3
    }

    /// Writes the signed part.
    pub fn to_json(&self) -> Json {
        let mut members = header_json(ROLE, version_of(self.issued), self.expires);
        if let Some(repo_id) = &self.repo_id {
            members.insert("custom".to_owned(), Json::object([("repo_id", repo_id.clone().into())]));
        }
        let mut device = BTreeMap::from([
            ("id".to_owned(), Json::from(self.device_id.clone())),
            ("product".to_owned(), self.product.clone().into()),
            ("serial".to_owned(), self.serial.clone().into()),
            ("key".to_owned(), self.device_key.clone().into()),
            ("epoch".to_owned(), self.device_epoch.into()),
            ("state".to_owned(), self.state.as_str().into()),
        ]);
        if let Some(at) = self.replaced_at {
            device.insert("replaced_at".to_owned(), time::format(at).into());
        }
        if let Some(train) = &self.confirmed_train {
            device.insert("confirmed_train".to_owned(), train.clone().into());
        }
        members.insert("device".to_owned(), Json::Object(device));
        members.insert("issued".to_owned(), time::format(self.issued).into());
        members.insert("signing_epoch".to_owned(), self.signing_epoch.into());
        members.insert("covers".to_owned(), Json::List(self.covers.iter().map(CertifiedCover::to_json).collect()));
        if !self.published.is_empty() {
            let one = |(version, at): (&String, &Timestamp)| (version.clone(), Json::from(time::format(*at)));
            members.insert("published".to_owned(), Json::Object(self.published.iter().map(one).collect()));
        }
        Json::Object(members)
    }

    /// Reads the signed part.
    pub fn from_json(signed: &Json, limits: &Limits) -> Result<Self, VerifyError> {
        let fields = Fields::of(ROLE, "", signed)?;
        let header = Header::read(&fields, ROLE)?;
        let device = fields.object("device")?;
        let issued = fields.time("issued")?;
        // One moment in two forms: a reader that compares versions and one that compares times must agree.
        if header.version != version_of(issued) {
            return fields.refuse("version", "the Unix time of issued", &header.version.to_string());
        }
        let signing_epoch = match fields.positive("signing_epoch")? {
            epoch @ 1..=MAX_EPOCH => epoch,
            epoch => return fields.refuse("signing_epoch", "an integer from 1 to 1000", &epoch.to_string()),
        };
        let mut covers = Vec::new();
        for cover in fields.list("covers", limits.covers)? {
            covers.push(CertifiedCover::read(&Fields::of(ROLE, "covers", cover)?, limits)?);
        }
        let mut published = BTreeMap::new();
        if let Some(list) = fields.opt_object("published")? {
            list.count("", list.members().len(), limits.published)?;
            for version in list.members().keys() {
                published.insert(list.key(version)?, list.time(version)?);
            }
        }
        let state = device.text("state")?;
        let Some(state) = CertifiedState::ALL.into_iter().find(|known| known.as_str() == state) else {
            return device.refuse("state", "active, replaced, blocked or retired", state);
        };
        let opt_time = |name: &str| device.opt(name).map(|_| device.time(name)).transpose();
        Ok(Self {
            device_id: device.name("id")?,
            product: device.name("product")?,
            serial: device.name("serial")?,
            device_key: hex::encode(device.digest("key")?),
            device_epoch: device.uint("epoch")?,
            state,
            replaced_at: opt_time("replaced_at")?,
            confirmed_train: device.opt_name("confirmed_train")?,
            signing_epoch,
            covers,
            published,
            issued,
            expires: header.expires,
            repo_id: header.repo_id,
        })
    }

    /// Refuses a certificate of another device.
    fn check_device(&self, expect: &CertificateExpect<'_>) -> Result<(), VerifyError> {
        let bound = [
            ("product", &self.product, expect.product),
            ("serial", &self.serial, expect.serial),
            ("key", &self.device_key, expect.device_key),
        ];
        for (field, found, expected) in bound {
            if found != expected {
                return Err(VerifyError::WrongHolder { field, expected: quote(expected), found: quote(found) });
            }
        }
        Ok(())
    }
}

fn version_of(issued: Timestamp) -> u64 {
    u64::try_from(issued.as_second()).unwrap_or(0)
}

impl CertifiedCover {
    fn to_json(&self) -> Json {
        let codes = self.codes.iter().map(|(code, channel)| (code.clone(), Json::from(channel.clone())));
        let window = |&(from, to): &(Timestamp, Timestamp)| {
            Json::object([("from", time::format(from).into()), ("to", time::format(to).into())])
        };
        Json::object([
            ("contract", self.contract.clone().into()),
            ("plan", self.plan.clone().into()),
            ("rule", self.rule.clone().into()),
            ("grace_days", self.grace_days.into()),
            ("codes", Json::Object(codes.collect())),
            ("windows", Json::List(self.windows.iter().map(window).collect())),
        ])
    }

    fn read(fields: &Fields<'_>, limits: &Limits) -> Result<Self, VerifyError> {
        let list = fields.object("codes")?;
        list.count("", list.members().len(), limits.list_entries)?;
        let mut codes = BTreeMap::new();
        for code in list.members().keys() {
            codes.insert(list.key(code)?, list.name(code)?);
        }
        let mut windows: Vec<(Timestamp, Timestamp)> = Vec::new();
        for window in fields.list("windows", limits.windows)? {
            let window = Fields::of(ROLE, "covers.windows", window)?;
            let (from, to) = (window.time("from")?, window.time("to")?);
            if from >= to || windows.last().is_some_and(|&(_, before)| from <= before) {
                return window.refuse("from", "windows in order and apart", &time::format(from));
            }
            windows.push((from, to));
        }
        let grace_days = fields.uint("grace_days")?;
        if grace_days > MAX_GRACE_DAYS {
            return fields.refuse("grace_days", "at most 3660 days", &grace_days.to_string());
        }
        Ok(Self {
            contract: fields.name("contract")?,
            plan: fields.name("plan")?,
            rule: fields.name("rule")?,
            grace_days,
            codes,
            windows,
        })
    }
}

impl DirectorTrust {
    /// A certificate that key E of the trusted root signed for this repository and epoch, of whatever device and time.
    pub fn signed_certificate(&self, bytes: &[u8]) -> Result<Certificate, VerifyError> {
        let limits = self.limits();
        let envelope = Envelope::parse(ROLE, bytes, limits.entitlement_bytes, limits)?;
        let root = self.root();
        let signers = format!("director root version {}", root.version);
        let Some(role) = &root.entitlement else {
            return Err(VerifyError::NotDelegated { role: ROLE.to_owned(), parent: signers });
        };
        envelope.verify_threshold(ROLE, &signers, &root.keys, role)?;
        let certificate = Certificate::from_json(envelope.signed(), limits)?;
        self.check_repository(ROLE, certificate.repo_id.as_ref())?;
        certificate.check_lifetime()?;
        if certificate.signing_epoch != root.epoch {
            return Err(VerifyError::CertificateEpoch { trusted: root.epoch, found: certificate.signing_epoch });
        }
        Ok(certificate)
    }

    /// Verifies a certificate that is new to a device.
    pub fn verify_certificate(&self, bytes: &[u8], expect: &CertificateExpect<'_>) -> Result<Certificate, VerifyError> {
        self.check_root_expiry(expect.now)?;
        let certificate = self.signed_certificate(bytes)?;
        certificate.check_device(expect)?;
        if let Some(kept) = expect.kept.and_then(|kept| self.signed_certificate(kept).ok())
            && kept.check_device(expect).is_ok()
        {
            if certificate.device_epoch < kept.device_epoch {
                return Err(VerifyError::OldDeviceEpoch { kept: kept.device_epoch, found: certificate.device_epoch });
            }
            if certificate.issued < kept.issued {
                let (trusted, found) = (version_of(kept.issued), version_of(certificate.issued));
                return Err(VerifyError::Rollback { role: ROLE.to_owned(), trusted, found });
            }
        }
        check_expiry(ROLE, certificate.expires, expect.now)?;
        Ok(certificate)
    }
}
