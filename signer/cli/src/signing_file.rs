//! The two files that travel between machines: a request (`*.fwreq`) with whole documents, and signatures (`*.fwsig`).

use crate::failure::Failure;
use crate::folder::{DocumentId, read_limited, write_atomic};
use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use sluice_signer::Json;
use sluice_signer::publish::Repository;
use std::collections::BTreeMap;
use std::path::Path;

/// Bytes of a request: a few targets documents of the largest size.
const MAX_REQUEST_BYTES: u64 = 32 << 20;
/// Bytes of a signatures file.
const MAX_SIGNATURES_BYTES: u64 = 1 << 20;
const REQUEST_FORMAT: &str = "sluice-signing-request-1";
const SIGNATURES_FORMAT: &str = "sluice-signatures-1";

/// Documents to be signed elsewhere.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    format: String,
    /// Names of key ids, for messages.
    pub holders: BTreeMap<String, String>,
    pub documents: Vec<RequestedDocument>,
}

/// One document of a request.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestedDocument {
    pub repository: Repository,
    pub role: String,
    pub version: u64,
    /// The value to sign. The signer's machine computes the canonical bytes itself.
    pub signed: Json,
    /// Ids of the keys that may sign.
    pub keyids: Vec<String>,
    /// The signed part of the document before it, for showing what changes.
    pub previous: Option<Json>,
}

impl RequestedDocument {
    pub fn id(&self) -> DocumentId {
        DocumentId { repository: self.repository, role: self.role.clone(), version: self.version }
    }
}

impl Request {
    pub fn new(holders: BTreeMap<String, String>, documents: Vec<RequestedDocument>) -> Self {
        Self { format: REQUEST_FORMAT.to_owned(), holders, documents }
    }

    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let request: Self = read(path, MAX_REQUEST_BYTES)?;
        check_format(path, &request.format, REQUEST_FORMAT)?;
        Ok(request)
    }

    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        write_atomic(path, &serde_json::to_vec(self)?)
    }
}

/// Signatures made elsewhere.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signatures {
    format: String,
    pub signatures: Vec<DetachedSignature>,
}

/// One signature over one document.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DetachedSignature {
    pub repository: Repository,
    pub role: String,
    pub version: u64,
    /// SHA-256 of the canonical bytes that were signed.
    pub payload_sha256: String,
    pub keyid: String,
    pub sig: String,
}

impl Signatures {
    pub fn new(signatures: Vec<DetachedSignature>) -> Self {
        Self { format: SIGNATURES_FORMAT.to_owned(), signatures }
    }

    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let signatures: Self = read(path, MAX_SIGNATURES_BYTES)?;
        check_format(path, &signatures.format, SIGNATURES_FORMAT)?;
        Ok(signatures)
    }

    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        write_atomic(path, &serde_json::to_vec(self)?)
    }
}

fn read<T: for<'de> Deserialize<'de>>(path: &Path, limit: u64) -> anyhow::Result<T> {
    let bytes = read_limited(path, limit)?;
    serde_json::from_slice(&bytes).with_context(|| path.display().to_string())
}

fn check_format(path: &Path, found: &str, expected: &str) -> anyhow::Result<()> {
    if found == expected {
        return Ok(());
    }
    let message = format!("{}: format {found:?} is not {expected:?}", path.display());
    Err(Failure::file(
        message,
        "requests are made by `sluice-sign request`, signatures by `sluice-sign sign --request`",
    ))
}
