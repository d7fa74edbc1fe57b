//! The director: targets metadata that the server signs for one device and one moment (Uptane's director repository).
//!
//! It chooses among what offline keys signed, and says which encodings of the chosen image are at hand. It can
//! create nothing: [`agree`](mod@crate::agree) refuses whatever the image repository does not confirm.

use crate::digest::Sha256Digest;
use crate::envelope::Envelope;
use crate::error::{VerifyError, quote};
use crate::fields::{Fields, Header, header_json};
use crate::json::Json;
use crate::key::SigningKey;
use crate::limits::Limits;
use crate::path::is_target_path;
use crate::root::{RootChain, RootMetadata, RootUpdate, check_expiry};
use crate::time;
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeMap;

/// An offer lives an hour at most: what it offers may be paused, withdrawn or lose cover.
pub const MAX_OFFER_LIFETIME: SignedDuration = SignedDuration::from_hours(1);
/// "Nothing for you" lives a day at most: a captured one must not silence a device for longer.
pub const MAX_NOTHING_LIFETIME: SignedDuration = SignedDuration::from_hours(24);

/// How a full image is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FullEncoding {
    /// The image itself.
    Raw,
    /// One zstd frame.
    Zstd,
}

impl FullEncoding {
    /// The word in documents.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Zstd => "zstd",
        }
    }
}

/// The full image as it can be downloaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FullImage {
    /// Its encoding.
    pub encoding: FullEncoding,
    /// Bytes to download.
    pub length: u64,
    /// SHA-256 of the downloaded bytes.
    pub sha256: Sha256Digest,
}

/// A patch from the image that the device runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delta {
    /// SHA-256 of the image that the patch applies to.
    pub from_sha256: Sha256Digest,
    /// Name of the patch format.
    pub format: String,
    /// Bytes to download.
    pub length: u64,
    /// SHA-256 of the patch.
    pub sha256: Sha256Digest,
    /// Bytes of the header and segment table, which are checked before any segment is decoded.
    pub head_length: u64,
    /// SHA-256 of these first bytes.
    pub head_sha256: Sha256Digest,
    /// Bytes of memory that applying needs.
    pub ram: u64,
    /// Bytes of scratch storage that applying needs.
    pub scratch: u64,
}

/// One image for one component of the device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectorTarget {
    /// Target path, the same as in the image repository.
    pub path: String,
    /// Length of the raw image.
    pub length: u64,
    /// SHA-256 of the raw image.
    pub sha256: Sha256Digest,
    /// Hardware id that the director believes this device has.
    pub hw_id: String,
    /// A patch, when one was built.
    pub delta: Option<Delta>,
    /// The full image, always.
    pub full: FullImage,
}

/// What the director says to one device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectorDocument {
    /// The device.
    pub device_id: String,
    /// The nonce of the request, when it had one.
    pub nonce: Option<String>,
    /// The server's time: a time source for devices without a clock.
    pub server_time: Timestamp,
    /// Never goes backwards; see [`next_version`].
    pub version: u64,
    /// Expiry.
    pub expires: Timestamp,
    /// The rollout that brought the offer.
    pub rollout_id: Option<String>,
    /// The reason code of the decision.
    pub reason: String,
    /// Images by target path; empty says "nothing for you".
    pub targets: BTreeMap<String, DirectorTarget>,
    /// `custom.repo_id` of the director root, when that has one.
    pub repo_id: Option<String>,
}

/// The version of the next document for a device: the time in Unix seconds, or one more than the last, so that neither a
/// database restored from a backup nor a replica's slow clock goes backwards.
pub fn next_version(now: Timestamp, last: u64) -> u64 {
    u64::try_from(now.as_second()).unwrap_or(0).max(last.saturating_add(1))
}

impl DirectorDocument {
    /// How long this kind of document may live.
    pub fn max_lifetime(&self) -> SignedDuration {
        if self.targets.is_empty() { MAX_NOTHING_LIFETIME } else { MAX_OFFER_LIFETIME }
    }

    fn check_lifetime(&self) -> Result<(), VerifyError> {
        let (found, limit) = (self.server_time.duration_until(self.expires), self.max_lifetime());
        if found > limit || found <= SignedDuration::ZERO {
            return Err(VerifyError::DirectorLifetime { found_s: found.as_secs(), limit_s: limit.as_secs() });
        }
        Ok(())
    }

    /// The document, to be signed. One that lives too long, or that its own reader would refuse, is not made.
    pub fn unsigned(&self, limits: &Limits) -> Result<Envelope, VerifyError> {
        self.check_lifetime()?;
        let envelope = Envelope::new(self.to_json());
        let read = Self::from_json(envelope.signed(), limits)?;
        if read.device_id != self.device_id || read.targets != self.targets {
            return Err(VerifyError::field("director", "targets", "keys equal to their target paths", "others"));
        }
        Ok(envelope)
    }

    /// Signs the document, as [`Self::unsigned`] makes it.
    pub fn sign(&self, key: &SigningKey, limits: &Limits) -> Result<Vec<u8>, VerifyError> {
        Ok(self.unsigned(limits)?.signed_by(key))
    }

    /// Writes the signed part.
    pub fn to_json(&self) -> Json {
        let mut members = header_json("targets", self.version, self.expires);
        let mut custom = BTreeMap::from([
            ("device_id".to_owned(), Json::from(self.device_id.clone())),
            ("server_time".to_owned(), time::format(self.server_time).into()),
            ("reason".to_owned(), self.reason.clone().into()),
        ]);
        for (name, value) in [("nonce", &self.nonce), ("rollout_id", &self.rollout_id), ("repo_id", &self.repo_id)] {
            if let Some(value) = value {
                custom.insert(name.to_owned(), value.clone().into());
            }
        }
        members.insert("custom".to_owned(), Json::Object(custom));
        let targets = self.targets.iter().map(|(path, target)| (path.clone(), target.to_json(&self.device_id)));
        members.insert("targets".to_owned(), Json::Object(targets.collect()));
        Json::Object(members)
    }

    /// Reads the signed part.
    pub fn from_json(signed: &Json, limits: &Limits) -> Result<Self, VerifyError> {
        let fields = Fields::of("director", "", signed)?;
        let header = Header::read(&fields, "targets")?;
        let custom = fields.object("custom")?;
        let device_id = custom.name("device_id")?;
        let entries = fields.object("targets")?;
        entries.count("", entries.members().len(), limits.director_targets)?;
        let mut targets = BTreeMap::new();
        for path in entries.members().keys() {
            targets.insert(path.clone(), DirectorTarget::read(path, &device_id, &entries.object(path)?)?);
        }
        Ok(Self {
            nonce: custom.opt_name("nonce")?,
            server_time: custom.time("server_time")?,
            version: header.version,
            expires: header.expires,
            rollout_id: custom.opt_name("rollout_id")?,
            reason: custom.name("reason")?,
            targets,
            repo_id: header.repo_id,
            device_id,
        })
    }
}

impl DirectorTarget {
    fn to_json(&self, device_id: &str) -> Json {
        let ecu = Json::object([("hw_id", self.hw_id.clone().into())]);
        let full = Json::object([
            ("encoding", self.full.encoding.as_str().into()),
            ("length", self.full.length.into()),
            ("sha256", hex::encode(self.full.sha256).into()),
        ]);
        let mut custom = BTreeMap::from([
            ("ecu".to_owned(), Json::Object(BTreeMap::from([(device_id.to_owned(), ecu)]))),
            ("full".to_owned(), full),
        ]);
        if let Some(delta) = &self.delta {
            custom.insert("delta".to_owned(), delta.to_json());
        }
        Json::object([
            ("length", self.length.into()),
            ("hashes", Json::object([("sha256", hex::encode(self.sha256).into())])),
            ("custom", Json::Object(custom)),
        ])
    }

    fn read(path: &str, device_id: &str, fields: &Fields<'_>) -> Result<Self, VerifyError> {
        if !is_target_path(path) {
            return Err(VerifyError::field("director", "targets", "relative ASCII target paths", path));
        }
        let custom = fields.object("custom")?;
        let full = custom.object("full")?;
        let encoding = match full.text("encoding")? {
            "raw" => FullEncoding::Raw,
            "zstd" => FullEncoding::Zstd,
            other => return full.refuse("encoding", "raw or zstd", other),
        };
        Ok(Self {
            path: path.to_owned(),
            length: fields.uint("length")?,
            sha256: fields.object("hashes")?.digest("sha256")?,
            hw_id: custom.object("ecu")?.object(device_id)?.name("hw_id")?,
            delta: custom.opt_object("delta")?.map(|delta| Delta::read(&delta)).transpose()?,
            full: FullImage { encoding, length: full.uint("length")?, sha256: full.digest("sha256")? },
        })
    }
}

impl Delta {
    fn to_json(&self) -> Json {
        Json::object([
            ("from_sha256", hex::encode(self.from_sha256).into()),
            ("format", self.format.clone().into()),
            ("length", self.length.into()),
            ("sha256", hex::encode(self.sha256).into()),
            ("head_length", self.head_length.into()),
            ("head_sha256", hex::encode(self.head_sha256).into()),
            ("ram", self.ram.into()),
            ("scratch", self.scratch.into()),
        ])
    }

    fn read(fields: &Fields<'_>) -> Result<Self, VerifyError> {
        let delta = Self {
            from_sha256: fields.digest("from_sha256")?,
            format: fields.name("format")?,
            length: fields.uint("length")?,
            sha256: fields.digest("sha256")?,
            head_length: fields.uint("head_length")?,
            head_sha256: fields.digest("head_sha256")?,
            ram: fields.uint("ram")?,
            scratch: fields.uint("scratch")?,
        };
        if delta.head_length > delta.length {
            return fields.refuse("head_length", "no more than length", &delta.head_length.to_string());
        }
        Ok(delta)
    }
}

/// What a device requires of the director's answer.
#[derive(Debug, Clone, Copy)]
pub struct DirectorExpect<'a> {
    /// This device.
    pub device_id: &'a str,
    /// The nonce just sent, if one was. Without it an old, unexpired answer may be replayed.
    pub nonce: Option<&'a str>,
    /// The device's time.
    pub now: Timestamp,
    /// Version of the last accepted document, zero at first.
    pub last_version: u64,
}

/// A verified answer of the director.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectorAnswer {
    /// The document.
    pub document: DirectorDocument,
    /// The server's time, attested by the nonce; never beyond the trusted root's expiry, so that a stolen director key
    /// cannot push a device's clock so far that nothing is ever valid again. `None` without a nonce.
    pub attested_time: Option<Timestamp>,
}

/// The director root that a device trusts.
#[derive(Debug, Clone)]
pub struct DirectorTrust {
    limits: Limits,
    chain: RootChain,
}

impl DirectorTrust {
    /// Starts from a root that is trusted because it was provisioned, or from the one kept by [`Self::root_bytes`].
    pub fn from_root(bytes: &[u8], limits: &Limits) -> Result<Self, VerifyError> {
        Ok(Self { limits: limits.clone(), chain: RootChain::start(bytes, limits)? })
    }

    /// Takes the next root. When `rotated` has `targets` (the director key), forget the last version and the attested
    /// time: the old key may have set both to anything.
    pub fn update_root(&mut self, bytes: &[u8]) -> Result<RootUpdate, VerifyError> {
        self.chain.advance(bytes, &self.limits)
    }

    /// From now on roots are taken to this epoch and no further; see
    /// [`TrustedRepository::set_newest_epoch`](crate::TrustedRepository::set_newest_epoch).
    pub fn set_newest_epoch(&mut self, epoch: u64) {
        self.limits.newest_epoch = epoch;
    }

    /// Refuses an expired root.
    pub fn check_root_expiry(&self, now: Timestamp) -> Result<(), VerifyError> {
        self.chain.check_expiry(now)
    }

    /// The trusted root.
    pub fn root(&self) -> &RootMetadata {
        &self.chain.root
    }

    /// Version of the trusted root; fetch `{version + 1}.root.json` next.
    pub fn root_version(&self) -> u64 {
        self.chain.root.version
    }

    /// The trusted root's bytes, for keeping.
    pub fn root_bytes(&self) -> &[u8] {
        &self.chain.bytes
    }

    pub(crate) const fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(crate) fn check_repository(&self, role: &str, repo_id: Option<&String>) -> Result<(), VerifyError> {
        self.chain.check_repository(role, repo_id)
    }

    /// Verifies the director's answer.
    pub fn verify_director(&self, bytes: &[u8], expect: &DirectorExpect<'_>) -> Result<DirectorAnswer, VerifyError> {
        self.chain.check_expiry(expect.now)?;
        let envelope = Envelope::parse("director", bytes, self.limits.director_bytes, &self.limits)?;
        let root = &self.chain.root;
        let signers = format!("director root version {}", root.version);
        envelope.verify_threshold("director", &signers, &root.keys, root.role("targets")?)?;
        let document = DirectorDocument::from_json(envelope.signed(), &self.limits)?;
        self.chain.check_repository("director", document.repo_id.as_ref())?;
        if document.device_id != expect.device_id {
            return Err(VerifyError::WrongDevice {
                expected: expect.device_id.to_owned(),
                found: quote(&document.device_id),
            });
        }
        if let Some(expected) = expect.nonce
            && document.nonce.as_deref() != Some(expected)
        {
            return Err(VerifyError::WrongNonce {
                expected: quote(expected),
                found: quote(document.nonce.as_deref().unwrap_or_default()),
            });
        }
        if document.version < expect.last_version {
            return Err(VerifyError::Rollback {
                role: "director".to_owned(),
                trusted: expect.last_version,
                found: document.version,
            });
        }
        document.check_lifetime()?;
        check_expiry("director", document.expires, expect.now)?;
        let attested_time = expect.nonce.map(|_| document.server_time.min(root.expires));
        Ok(DirectorAnswer { document, attested_time })
    }
}
