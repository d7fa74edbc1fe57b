//! Where an image was built: provenance statements of in-toto (Statement 1) with a predicate of SLSA, in DSSE envelopes, checked
//! against builders whose keys were pinned beforehand. A person signs a release; this says which machine made it, from what.
//!
//! DSSE 1.0 (signatures over the pre-authentication encoding), in-toto Statement 1.0 and 0.1, SLSA provenance 1 and 0.2.

use crate::digest::{Sha256Digest, parse_hex};
use crate::key::PublicKey;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use serde_json::Value;
use std::collections::BTreeSet;

/// Bytes of an envelope: a build with thousands of dependencies has a few megabytes.
pub const MAX_PROVENANCE_BYTES: usize = 16 << 20;
/// Signatures in one envelope: each costs a curve operation for each pinned builder.
const MAX_SIGNATURES: usize = 16;
/// Subjects of one statement.
const MAX_SUBJECTS: usize = 10_000;
const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
const STATEMENT_TYPES: [&str; 2] = ["https://in-toto.io/Statement/v1", "https://in-toto.io/Statement/v0.1"];
const SLSA_1: &str = "https://slsa.dev/provenance/v1";
const SLSA_02: &str = "https://slsa.dev/provenance/v0.2";

/// A builder whose statements are believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Builder {
    /// Its id, a URI.
    pub id: String,
    /// The key that it signs with.
    pub key: PublicKey,
}

/// A statement that a pinned builder signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provenance {
    /// Id of the builder.
    pub builder: String,
    /// The kind of build, a URI.
    pub build_type: String,
    /// SHA-256 of everything that was built.
    pub subjects: BTreeSet<Sha256Digest>,
}

/// Why a statement is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProvenanceError {
    /// More bytes than any statement has.
    #[error("provenance: {length} bytes are over the limit of {MAX_PROVENANCE_BYTES}")]
    TooLarge {
        /// Bytes given.
        length: usize,
    },
    /// No DSSE envelope with an in-toto statement.
    #[error("provenance: {field} is not {expected}")]
    Malformed {
        /// The field.
        field: &'static str,
        /// What it must be.
        expected: &'static str,
    },
    /// Nobody whose key is pinned signed it.
    #[error("provenance: none of its signatures is by a pinned builder ({})", pinned.join(", "))]
    UnknownBuilder {
        /// The builders that are pinned.
        pinned: Vec<String>,
    },
    /// The statement names another builder than the one whose key signed it.
    #[error("provenance: signed with the key of {signer}, yet it names {named:?} as the builder")]
    OtherBuilder {
        /// The builder whose key it is.
        signer: String,
        /// The builder that the statement names.
        named: String,
    },
    /// The statement is about something else.
    #[error("provenance: it is not about the image with SHA-256 {}", hex::encode(sha256))]
    OtherSubject {
        /// The image.
        sha256: Sha256Digest,
    },
}

impl Provenance {
    /// Reads an envelope that one of these builders signed.
    pub fn verify(bytes: &[u8], builders: &[Builder]) -> Result<Self, ProvenanceError> {
        if bytes.len() > MAX_PROVENANCE_BYTES {
            return Err(ProvenanceError::TooLarge { length: bytes.len() });
        }
        let envelope: Value =
            serde_json::from_slice(bytes).map_err(|_| malformed("the file", "a DSSE envelope in JSON"))?;
        if envelope.get("payloadType").and_then(Value::as_str) != Some(PAYLOAD_TYPE) {
            return Err(malformed("payloadType", PAYLOAD_TYPE));
        }
        let payload = envelope.get("payload").and_then(Value::as_str).and_then(decode);
        let payload = payload.ok_or(malformed("payload", "Base64"))?;
        let signed = pre_authentication_encoding(&payload);
        let signatures = match envelope.get("signatures") {
            Some(Value::Array(list)) if (1..=MAX_SIGNATURES).contains(&list.len()) => list,
            _ => return Err(malformed("signatures", "a list of 1 to 16 signatures")),
        };
        // The key id of a signature is a hint that anybody may write (DSSE, section "keyid"): every pinned key is tried.
        let signer = signatures
            .iter()
            .filter_map(|signature| signature.get("sig").and_then(Value::as_str).and_then(decode))
            .find_map(|sig| builders.iter().find(|builder| builder.key.verify(&signed, &sig)));
        let Some(signer) = signer else {
            return Err(ProvenanceError::UnknownBuilder {
                pinned: builders.iter().map(|builder| builder.id.clone()).collect(),
            });
        };
        let provenance = Self::read(&payload)?;
        if provenance.builder != signer.id {
            return Err(ProvenanceError::OtherBuilder {
                signer: signer.id.clone(),
                named: crate::error::quote(&provenance.builder),
            });
        }
        Ok(provenance)
    }

    fn read(payload: &[u8]) -> Result<Self, ProvenanceError> {
        let statement: Value = serde_json::from_slice(payload).map_err(|_| malformed("payload", "JSON"))?;
        if !statement.get("_type").and_then(Value::as_str).is_some_and(|kind| STATEMENT_TYPES.contains(&kind)) {
            return Err(malformed("_type", "an in-toto statement"));
        }
        let (builder, build_type) = match statement.get("predicateType").and_then(Value::as_str) {
            Some(SLSA_1) => ("/predicate/runDetails/builder/id", "/predicate/buildDefinition/buildType"),
            Some(SLSA_02) => ("/predicate/builder/id", "/predicate/buildType"),
            _ => return Err(malformed("predicateType", "SLSA provenance 1 or 0.2")),
        };
        let text = |pointer: &str| statement.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        let list = match statement.get("subject") {
            Some(Value::Array(list)) if (1..=MAX_SUBJECTS).contains(&list.len()) => list,
            _ => return Err(malformed("subject", "a list of 1 to 10000 subjects")),
        };
        let digest = |subject: &Value| subject.pointer("/digest/sha256").and_then(Value::as_str).and_then(parse_hex);
        Ok(Self {
            builder: text(builder).ok_or(malformed("builder.id", "a text"))?,
            build_type: text(build_type).ok_or(malformed("buildType", "a text"))?,
            subjects: list.iter().filter_map(digest).collect(),
        })
    }

    /// Refuses an image that the statement is not about.
    pub fn check(&self, sha256: &Sha256Digest) -> Result<(), ProvenanceError> {
        if self.subjects.contains(sha256) {
            return Ok(());
        }
        Err(ProvenanceError::OtherSubject { sha256: *sha256 })
    }
}

const fn malformed(field: &'static str, expected: &'static str) -> ProvenanceError {
    ProvenanceError::Malformed { field, expected }
}

/// Base64 of either alphabet, as DSSE allows.
fn decode(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).or_else(|_| URL_SAFE.decode(text)).ok()
}

/// What DSSE signatures are over: type and payload, each with its length.
fn pre_authentication_encoding(payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {PAYLOAD_TYPE} {} ", PAYLOAD_TYPE.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::SigningKey;
    use serde_json::json;

    const ID: &str = "https://builds.example.org/runner@v2";
    const IMAGE: Sha256Digest = [7; 32];

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_seed(&[seed; 32]).unwrap()
    }

    fn pinned(seed: u8) -> Vec<Builder> {
        vec![Builder { id: ID.to_owned(), key: key(seed).public().clone() }]
    }

    fn statement() -> Value {
        json!({
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"name": "cam.bin", "digest": {"sha256": hex::encode(IMAGE)}}],
            "predicateType": SLSA_1,
            "predicate": {
                "buildDefinition": {"buildType": "https://builds.example.org/make", "externalParameters": {"share": 0.5}},
                "runDetails": {"builder": {"id": ID}},
            },
        })
    }

    fn envelope(statement: &Value, seed: u8) -> Value {
        let payload = statement.to_string();
        let sig = key(seed).sign(&pre_authentication_encoding(payload.as_bytes()));
        json!({
            "payloadType": PAYLOAD_TYPE, "payload": STANDARD.encode(payload),
            "signatures": [{"keyid": "whatever", "sig": STANDARD.encode(sig)}],
        })
    }

    fn verify(envelope: &Value, builders: &[Builder]) -> Result<Provenance, ProvenanceError> {
        Provenance::verify(envelope.to_string().as_bytes(), builders)
    }

    #[test]
    fn the_encoding_is_that_of_the_specification() {
        // The example of DSSE's protocol document, with our payload type.
        let encoded = pre_authentication_encoding(b"hello world");
        assert_eq!(encoded, b"DSSEv1 28 application/vnd.in-toto+json 11 hello world");
    }

    #[test]
    fn a_statement_of_a_pinned_builder_is_believed() {
        let provenance = verify(&envelope(&statement(), 1), &pinned(1)).unwrap();
        assert_eq!((provenance.builder.as_str(), provenance.subjects.len()), (ID, 1));
        assert_eq!(provenance.check(&IMAGE), Ok(()));
        assert!(matches!(provenance.check(&[8; 32]), Err(ProvenanceError::OtherSubject { .. })));
        let old = json!({
            "_type": "https://in-toto.io/Statement/v0.1", "predicateType": SLSA_02, "subject": statement()["subject"],
            "predicate": {"builder": {"id": ID}, "buildType": "x"},
        });
        assert_eq!(verify(&envelope(&old, 1), &pinned(1)).unwrap().builder, ID);
    }

    #[test]
    fn another_key_another_builder_and_another_text_are_refused() {
        let unknown = |result| matches!(result, Err(ProvenanceError::UnknownBuilder { .. }));
        assert!(unknown(verify(&envelope(&statement(), 2), &pinned(1))));
        assert!(unknown(verify(&envelope(&statement(), 1), &[])));
        let mut forged = envelope(&statement(), 1);
        let mut other = statement();
        other["subject"][0]["digest"]["sha256"] = hex::encode([8; 32]).into();
        forged["payload"] = STANDARD.encode(other.to_string()).into();
        assert!(unknown(verify(&forged, &pinned(1))));
        let mut named = statement();
        named["predicate"]["runDetails"]["builder"]["id"] = "https://elsewhere.example".into();
        let error = verify(&envelope(&named, 1), &pinned(1)).unwrap_err();
        assert!(matches!(error, ProvenanceError::OtherBuilder { .. }), "{error}");
    }

    #[test]
    fn what_is_no_statement_names_the_field() {
        let field = |change: fn(&mut Value)| {
            let mut changed = statement();
            change(&mut changed);
            match verify(&envelope(&changed, 1), &pinned(1)) {
                Err(ProvenanceError::Malformed { field, .. }) => field,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(field(|statement| statement["_type"] = "x".into()), "_type");
        assert_eq!(field(|statement| statement["predicateType"] = "x".into()), "predicateType");
        assert_eq!(field(|statement| statement["subject"] = json!([])), "subject");
        assert_eq!(field(|statement| statement["predicate"]["runDetails"] = json!(1)), "builder.id");
        assert_eq!(field(|statement| statement["predicate"]["buildDefinition"] = json!({})), "buildType");
        for (bytes, field) in [("{}", "payloadType"), ("[", "the file")] {
            let error = Provenance::verify(bytes.as_bytes(), &pinned(1)).unwrap_err();
            assert!(error.to_string().contains(field), "{error}");
        }
        let large = vec![b' '; MAX_PROVENANCE_BYTES + 1];
        assert!(matches!(Provenance::verify(&large, &pinned(1)), Err(ProvenanceError::TooLarge { .. })));
    }
}
