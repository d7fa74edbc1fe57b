//! The two files that travel between machines: a request (`*.fwreq`) with whole documents, and signatures (`*.fwsig`).

use crate::documents::Documents;
use crate::edge;
use crate::failure::Failure;
use crate::folder::{DocumentId, read_limited, write_atomic};
use crate::output;
use crate::product::Registry;
use anyhow::Context as _;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sluice_signer::path::is_delegated_role_name;
use sluice_signer::publish::Repository;
use sluice_signer::{Envelope, Json, OnlineKeys, sha256, time};
use std::collections::BTreeMap;
use std::path::Path;

/// Bytes of a request: a few targets documents of the largest size.
const MAX_REQUEST_BYTES: u64 = 32 << 20;
/// Bytes of a signatures file.
const MAX_SIGNATURES_BYTES: u64 = 1 << 20;
/// Documents of a request: every root of both repositories, and what is staged.
const MAX_REQUEST_DOCUMENTS: usize = 1_024;
const REQUEST_FORMAT: &str = "sluice-signing-request-2";
const SIGNATURES_FORMAT: &str = "sluice-signatures-1";

/// Documents to be signed elsewhere, with everything that is needed to judge them.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    format: String,
    /// What whoever asks has to say.
    pub note: Option<String>,
    /// After it the request is void: what lies about for long may be used by somebody else.
    expires: String,
    /// Names of key ids, for messages.
    holders: BTreeMap<String, String>,
    /// What releases of each product must be like.
    products: Registry,
    /// The server's public keys.
    online_keys: Json,
    /// Complete documents that the ones to be signed follow or are judged by: all roots, the top targets document, the last of each
    /// role; with roots of a new epoch also what is shown of the other roles.
    standing: Vec<StandingDocument>,
    documents: Vec<RequestedDocument>,
}

/// A complete document.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StandingDocument {
    repository: Repository,
    role: String,
    version: u64,
    envelope: Json,
}

/// One document of a request.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RequestedDocument {
    repository: Repository,
    role: String,
    version: u64,
    /// Whether a signature is asked for; else it is there because another one refers to it.
    asked: bool,
    /// The document that it follows.
    base: Option<Base>,
    /// The value to sign. The signer's machine computes the canonical bytes itself.
    signed: Json,
}

/// The complete document before one.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Base {
    version: u64,
    /// SHA-256 of its canonical bytes.
    sha256: String,
}

impl Base {
    fn of(documents: &Documents, id: &DocumentId) -> anyhow::Result<Option<Self>> {
        let Some(signed) = documents.previous_signed(id)? else { return Ok(None) };
        let Some(&Json::Int(version)) = signed.get("version") else { anyhow::bail!("{}: no version", id.name()) };
        Ok(Some(Self { version: u64::try_from(version)?, sha256: hex::encode(sha256(&signed.canonical())) }))
    }
}

impl Request {
    /// Asks for signatures to the staged documents that `asked` names.
    pub fn new(
        from: &Documents,
        asked: impl Fn(&DocumentId) -> bool,
        note: Option<String>,
        (now, expires): (Timestamp, Timestamp),
    ) -> anyhow::Result<Self> {
        let mut standing = Vec::new();
        let mut stand = |id: DocumentId, bytes: &[u8]| {
            let envelope = Json::parse(bytes, from.limit(&id.role))?;
            let DocumentId { repository, role, version } = id;
            standing.push(StandingDocument { repository, role, version, envelope });
            anyhow::Ok(())
        };
        for (repository, roots) in
            [(Repository::Image, &from.image_roots), (Repository::Director, &from.director_roots)]
        {
            for (version, bytes) in (1..).zip(roots) {
                stand(DocumentId { repository, role: "root".to_owned(), version }, bytes)?;
            }
        }
        // What is not announced travels to those alone who are to sign it.
        let mut documents = Vec::new();
        for (id, envelope) in &from.staged {
            if !asked(id) && from.is_for_holders_alone(id, envelope, now)? {
                continue;
            }
            documents.push(RequestedDocument {
                repository: id.repository,
                role: id.role.clone(),
                version: id.version,
                asked: asked(id),
                base: Base::of(from, id)?,
                signed: envelope.signed().clone(),
            });
        }
        // What the ending epoch is left with is judged by every holder.
        let opens_epoch = from.opens_epoch()?;
        for (role, (id, bytes)) in &from.sealed {
            let travels = |one: &RequestedDocument| one.repository == Repository::Image && one.role == *role;
            if role == "targets" || documents.iter().any(travels) || from.is_public_peer(role, now)? {
                stand(id.clone(), bytes)?;
            } else if let Some((id, bytes)) = from.announced(role, now)?.filter(|_| opens_epoch) {
                stand(id.clone(), bytes)?;
            }
        }
        Ok(Self {
            format: REQUEST_FORMAT.to_owned(),
            note,
            expires: time::format(expires),
            holders: from.holders.clone(),
            products: from.products.clone(),
            online_keys: from.online_keys.to_json(),
            documents,
            standing,
        })
    }

    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let bytes = read_limited(path, MAX_REQUEST_BYTES)?;
        Self::from_bytes(&bytes).with_context(|| path.display().to_string())
    }

    pub fn from_bytes(bytes: &[u8]) -> anyhow::Result<Self> {
        check_format(bytes, REQUEST_FORMAT)?;
        Ok(serde_json::from_slice(bytes)?)
    }

    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        write_atomic(path, &serde_json::to_vec(self)?)
    }

    /// Refuses a request that lay about for too long.
    pub fn check_expiry(&self, now: Timestamp) -> anyhow::Result<()> {
        let expires = time::parse(&self.expires).with_context(|| format!("expires {:?} is no time", self.expires))?;
        if now < expires {
            return Ok(());
        }
        Err(Failure::refused(format!("the request was void from {} on", self.expires), "ask for a new one"))
    }

    /// Whether a signature to this document is asked for.
    pub fn asks_for(&self, id: &DocumentId) -> bool {
        self.documents.iter().any(|one| one.asked && one.repository == id.repository && one.role == id.role)
    }

    /// The documents of the repository as the request tells them. Nothing of it is trusted yet.
    pub fn documents(&self) -> anyhow::Result<Documents> {
        if self.documents.len() + self.standing.len() > MAX_REQUEST_DOCUMENTS {
            return Err(lie(format!("more than {MAX_REQUEST_DOCUMENTS} documents")));
        }
        let mut documents = Documents {
            limits: edge::limits(),
            online_keys: OnlineKeys::from_bytes(&self.online_keys.to_bytes())?,
            // Names are the sender's word: the ids beside them are what counts.
            holders: self.holders.iter().map(|(keyid, name)| (keyid.clone(), named(keyid, name))).collect(),
            products: self.products.clone(),
            image_roots: Vec::new(),
            director_roots: Vec::new(),
            sealed: BTreeMap::new(),
            earlier: BTreeMap::new(),
            staged: Vec::new(),
        };
        let known = |role: &str| matches!(role, "root" | "targets") || is_delegated_role_name(role);
        let mut roles = self.standing.iter().map(|one| &one.role).chain(self.documents.iter().map(|one| &one.role));
        if let Some(odd) = roles.find(|role| !known(role)) {
            return Err(lie(format!("{:?} is no role", output::plain(odd))));
        }
        for one in &self.standing {
            let bytes = one.envelope.to_bytes();
            let envelope = Envelope::parse(&one.role, &bytes, documents.limit(&one.role), &documents.limits)?;
            let id = DocumentId { repository: one.repository, role: one.role.clone(), version: one.version };
            if envelope.signed().get("version") != Some(&id.version.into()) {
                return Err(lie(format!(
                    "{}: the request says version {}, the document another",
                    id.name(),
                    id.version
                )));
            }
            match (one.role.as_str(), one.repository) {
                ("root", Repository::Image) => documents.image_roots.push(bytes),
                ("root", Repository::Director) => documents.director_roots.push(bytes),
                (_, Repository::Director) => {
                    return Err(lie(format!("director-{}: no such document is signed offline", one.role)));
                }
                _ => drop(documents.sealed.insert(one.role.clone(), (id, bytes))),
            }
        }
        for one in &self.documents {
            let id = DocumentId { repository: one.repository, role: one.role.clone(), version: one.version };
            if Base::of(&documents, &id)? != one.base {
                return Err(lie(format!("{}: the request does not carry the document that it follows", id.name())));
            }
            let follows = one.base.as_ref().map_or(1, |base| base.version.saturating_add(1));
            if id.version != follows {
                return Err(lie(format!("{} version {}: version {follows} would follow", id.name(), id.version)));
            }
            documents.staged.push((id, Envelope::new(one.signed.clone())));
        }
        Ok(documents)
    }
}

fn named(keyid: &str, name: &str) -> String {
    format!("{} ({})", output::plain(name), output::long_id(keyid))
}

/// A request that contradicts itself.
fn lie(message: String) -> anyhow::Error {
    Failure::refused(message, "do not sign this request; ask for a new one")
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
        let bytes = read_limited(path, MAX_SIGNATURES_BYTES)?;
        Self::from_bytes(&bytes).with_context(|| path.display().to_string())
    }

    fn from_bytes(bytes: &[u8]) -> anyhow::Result<Self> {
        check_format(bytes, SIGNATURES_FORMAT)?;
        Ok(serde_json::from_slice(bytes)?)
    }

    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        write_atomic(path, &serde_json::to_vec(self)?)
    }
}

/// How many signatures a signatures file has, when it is one.
pub fn signatures_in(bytes: &[u8]) -> anyhow::Result<usize> {
    Ok(Signatures::from_bytes(bytes)?.signatures.len())
}

/// The format is looked at first: a file of another one has other fields.
fn check_format(bytes: &[u8], expected: &str) -> anyhow::Result<()> {
    #[derive(Deserialize)]
    struct Formatted {
        format: String,
    }
    let Formatted { format: found } = serde_json::from_slice(bytes)?;
    if found == expected {
        return Ok(());
    }
    let message = format!("format {found:?} is not {expected:?}");
    Err(Failure::file(
        message,
        "requests are made by `sluice-sign request`, signatures by `sluice-sign sign --request`",
    ))
}
