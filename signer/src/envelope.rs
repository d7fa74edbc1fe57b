//! The envelope of a document: its signed value and signatures that people add in any order, on any machine.

use crate::digest::parse_hex_bytes;
use crate::error::VerifyError;
use crate::fields::Fields;
use crate::json::Json;
use crate::key::{PublicKey, SigningKey};
use crate::legacy::{self, Spelling};
use crate::limits::{Limits, MAX_NAME_BYTES};
use crate::root::RoleKeys;
use std::collections::{BTreeMap, BTreeSet};

/// Bytes of one signature: a DER signature over P-256 needs 72.
const MAX_SIGNATURE_BYTES: usize = 512;

/// One signature and the id of the key that made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// Id of the key, as the document that authorises the key spells it.
    pub keyid: String,
    /// The signature's bytes.
    pub sig: Vec<u8>,
}

/// A signed value with its signatures, sorted by key id and unique in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    signed: Json,
    /// The signed value as our readers know it, where its makers spell it otherwise.
    read_as: Option<Json>,
    signatures: BTreeMap<String, Vec<u8>>,
}

/// Why two sets of signatures cannot be merged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MergeError {
    /// The signatures are over something else.
    #[error("the signatures belong to a different document")]
    DifferentDocument,
    /// A signature that is not by the key it names.
    #[error("the signature of key {keyid} is not valid for this document")]
    Invalid {
        /// The key.
        keyid: String,
    },
    /// More signatures than an envelope may carry.
    #[error("more than {limit} signatures")]
    TooMany {
        /// Signatures allowed.
        limit: usize,
    },
}

impl Envelope {
    /// An unsigned document.
    pub fn new(signed: Json) -> Self {
        Self { signed, read_as: None, signatures: BTreeMap::new() }
    }

    /// Parses a document of `role` of at most `limit` bytes.
    pub fn parse(role: &str, bytes: &[u8], limit: u64, limits: &Limits) -> Result<Self, VerifyError> {
        Self::parse_as(Spelling::Tuf, role, bytes, limit, limits)
    }

    pub(crate) fn parse_as(
        spelling: Spelling,
        role: &str,
        bytes: &[u8],
        limit: u64,
        limits: &Limits,
    ) -> Result<Self, VerifyError> {
        let value = Json::parse(bytes, limit).map_err(|source| VerifyError::Json { role: role.to_owned(), source })?;
        let fields = Fields::of(role, "", &value)?;
        let signed = fields.object("signed")?;
        let mut signatures = BTreeMap::new();
        for entry in fields.list("signatures", limits.signatures)? {
            let entry = Fields::of(role, "signatures", entry)?;
            let keyid = entry.name("keyid")?;
            let text = entry.text("sig")?;
            let known = parse_hex_bytes(text).or_else(|| match spelling {
                Spelling::Tuf => None,
                Spelling::Legacy => legacy::parse_base64(text),
            });
            let sig = match known {
                Some(bytes) if bytes.len() <= MAX_SIGNATURE_BYTES => bytes,
                _ => return entry.refuse("sig", "lower-case hexadecimal of at most 512 bytes", text),
            };
            if signatures.insert(keyid.clone(), sig).is_some() {
                return entry.refuse("keyid", "one signature for each key id", &keyid);
            }
        }
        let signed = Json::Object(signed.members().clone());
        let read_as = (spelling == Spelling::Legacy).then(|| legacy::read_as(&signed));
        Ok(Self { signed, read_as, signatures })
    }

    /// The signed value.
    pub fn signed(&self) -> &Json {
        self.read_as.as_ref().unwrap_or(&self.signed)
    }

    /// The signatures, sorted by key id.
    pub fn signatures(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.signatures.iter().map(|(keyid, sig)| (keyid.as_str(), sig.as_slice()))
    }

    /// The canonical bytes that signatures are over.
    pub fn payload(&self) -> Vec<u8> {
        self.signed.canonical()
    }

    /// Signs with a key; the same key again changes nothing, because ed25519 signatures are deterministic.
    pub fn sign(&mut self, key: &SigningKey) {
        self.attach(self.detached(key));
    }

    /// The bytes of the file, signed by this key.
    pub fn signed_by(mut self, key: &SigningKey) -> Vec<u8> {
        self.sign(key);
        self.to_bytes()
    }

    /// Adds a signature that the caller has just had made and checked; one from elsewhere goes through [`Self::merge`].
    pub fn attach(&mut self, signature: Signature) {
        self.signatures.insert(signature.keyid, signature.sig);
    }

    /// A signature apart from the document, to be merged elsewhere.
    pub fn detached(&self, key: &SigningKey) -> Signature {
        Signature { keyid: key.public().keyid().to_owned(), sig: key.sign(&self.payload()) }
    }

    /// Adds a detached signature after checking it. Merging is idempotent and its order does not matter: among
    /// different valid signatures of one key (ECDSA allows them) the smallest stays.
    pub fn merge(&mut self, key: &PublicKey, keyid: &str, sig: &[u8], limits: &Limits) -> Result<(), MergeError> {
        if keyid.len() > MAX_NAME_BYTES || !key.verify(&self.payload(), sig) {
            return Err(MergeError::Invalid { keyid: crate::error::quote(keyid) });
        }
        if !self.signatures.contains_key(keyid) && self.signatures.len() >= limits.signatures {
            return Err(MergeError::TooMany { limit: limits.signatures });
        }
        let kept = self.signatures.entry(keyid.to_owned()).or_insert_with(|| sig.to_vec());
        if sig < kept.as_slice() || !key.verify(&self.signed.canonical(), kept) {
            *kept = sig.to_vec();
        }
        Ok(())
    }

    /// The bytes of the file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let signatures = self
            .signatures
            .iter()
            .map(|(keyid, sig)| Json::object([("keyid", keyid.clone().into()), ("sig", hex::encode(sig).into())]))
            .collect();
        Json::object([("signatures", Json::List(signatures)), ("signed", self.signed.clone())]).to_bytes()
    }

    /// The ids of those keys of a role whose signatures are valid, one for each key *material*.
    pub fn valid_signers(&self, keys: &BTreeMap<String, PublicKey>, role_keys: &RoleKeys) -> BTreeSet<String> {
        let payload = self.payload();
        let mut materials = BTreeSet::new();
        let mut valid = BTreeSet::new();
        for (keyid, sig) in &self.signatures {
            let Some(key) = role_keys.keyids.contains(keyid).then(|| keys.get(keyid)).flatten() else { continue };
            let material = key.material();
            if !materials.contains(&material) && key.verify(&payload, sig) {
                materials.insert(material);
                valid.insert(keyid.clone());
            }
        }
        valid
    }

    /// Requires as many valid signatures by different keys as the role's threshold says.
    pub fn verify_threshold(
        &self,
        role: &str,
        signers: &str,
        keys: &BTreeMap<String, PublicKey>,
        role_keys: &RoleKeys,
    ) -> Result<(), VerifyError> {
        let valid = u32::try_from(self.valid_signers(keys, role_keys).len()).unwrap_or(u32::MAX);
        // Zero is refused on reading; checked again because a threshold of zero would accept anything.
        if role_keys.threshold == 0 || valid < role_keys.threshold {
            return Err(VerifyError::Threshold {
                role: role.to_owned(),
                signers: signers.to_owned(),
                needed: role_keys.threshold,
                valid,
            });
        }
        Ok(())
    }
}
