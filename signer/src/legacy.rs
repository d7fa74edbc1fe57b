//! Uptane documents as they were written before the TUF specification settled: those of the public Uptane test vectors and of
//! the vehicles that are tested with them. They are read by the same verifier, under the spelling that this module knows.
//!
//! What they spell otherwise: types with a capital (`Targets`), no `spec_version`, keys without `scheme` and in capitals,
//! signatures in base64 too, a director's root with root and targets only, a snapshot that lists the root, digests and lengths
//! of the canonical form of a whole envelope, delegated roles under `delegations/`, and other content under a version that
//! was seen before.
//!
//! [`trust`] is the only way in. Devices never call it, and `cargo xtask tidy` holds that only the `uptane` command does.

use crate::error::VerifyError;
use crate::json::Json;
use crate::limits::Limits;
use crate::repository::TrustedRepository;
use std::collections::BTreeMap;

/// The types as they were written, and as they are read.
const TYPES: [(&str, &str); 4] =
    [("Root", "root"), ("Targets", "targets"), ("Snapshot", "snapshot"), ("Timestamp", "timestamp")];

/// Whether a root document is written in the old way. Its signatures are not looked at: this decides how it is read, not
/// whether it is trusted.
pub fn is_legacy(root: &[u8], limits: &Limits) -> bool {
    let Ok(document) = Json::parse(root, limits.root_bytes) else { return false };
    document.get("signed").and_then(|signed| signed.get("_type")).and_then(Json::as_str) == Some("Root")
}

/// Starts from a root that is trusted because it was provisioned, in the old or the present spelling. What follows is read as
/// the root is written.
pub fn trust(root: &[u8], limits: &Limits) -> Result<TrustedRepository, VerifyError> {
    let spelling = if is_legacy(root, limits) { Spelling::Legacy } else { Spelling::Tuf };
    TrustedRepository::start(root, spelling, limits)
}

/// How the documents of a repository are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spelling {
    /// As the TUF specification has it.
    Tuf,
    /// As this module has it.
    Legacy,
}

/// The signed value as the readers of typed documents know it. Signatures are over what was written.
pub(crate) fn read_as(signed: &Json) -> Json {
    let mut signed = signed.clone();
    let Json::Object(members) = &mut signed else { return signed };
    let written = members.get("_type").and_then(Json::as_str);
    let kind = TYPES.iter().find(|(old, _)| written == Some(old)).map(|&(_, kind)| kind);
    if let Some(kind) = kind {
        members.insert("_type".to_owned(), kind.into());
    }
    members.entry("spec_version".to_owned()).or_insert_with(|| "1.0".into());
    if let Some(Json::Object(keys)) = members.get_mut("keys") {
        keys.values_mut().for_each(read_key);
    }
    if let Some(Json::Object(delegations)) = members.get_mut("delegations")
        && let Some(Json::Object(keys)) = delegations.get_mut("keys")
    {
        keys.values_mut().for_each(read_key);
    }
    if kind == Some("root")
        && let Some(Json::Object(roles)) = members.get_mut("roles")
    {
        // A role without keys: nothing that it signs is ever taken.
        let nobody = Json::object([("keyids", Json::List(Vec::new())), ("threshold", 1u64.into())]);
        for role in ["snapshot", "timestamp"] {
            roles.entry(role.to_owned()).or_insert_with(|| nobody.clone());
        }
    }
    if kind == Some("snapshot")
        && let Some(Json::Object(files)) = members.get_mut("meta")
    {
        // The chain of roots vouches for itself.
        files.remove("root.json");
    }
    signed
}

/// Gives a key object the scheme that its type implies. What is left as it was is an unknown kind of key, or a malformed one.
fn read_key(key: &mut Json) {
    let Json::Object(members) = key else { return };
    let Some(keytype) = members.get("keytype").and_then(Json::as_str).map(str::to_ascii_lowercase) else { return };
    let scheme = match keytype.as_str() {
        "ed25519" => "ed25519",
        "ecdsa" => "ecdsa-sha2-nistp256",
        _ => "rsassa-pss-sha256",
    };
    members.insert("keytype".to_owned(), keytype.as_str().into());
    members.entry("scheme".to_owned()).or_insert_with(|| scheme.into());
    if let Some(Json::Object(value)) = members.get_mut("keyval")
        && let Some(public) = value.get("public").and_then(Json::as_str).map(|public| public.trim().to_owned())
    {
        *value = BTreeMap::from([("public".to_owned(), public.into())]);
    }
}

/// Reads standard base64 with its padding; `None` for anything else.
pub(crate) fn parse_base64(text: &str) -> Option<Vec<u8>> {
    if text.is_empty() || !text.len().is_multiple_of(4) {
        return None;
    }
    let body = text.strip_suffix("==").or_else(|| text.strip_suffix('=')).unwrap_or(text);
    let mut bytes = Vec::with_capacity(body.len());
    let (mut bits, mut count) = (0u32, 0u32);
    for byte in body.bytes() {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff).ok()?);
            bits &= (1 << count) - 1;
        }
    }
    // What is left over are zeroes, or the text is not the one spelling of its bytes.
    (bits == 0).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_has_one_spelling() {
        for (text, bytes) in [("QQ==", &b"A"[..]), ("QUI=", b"AB"), ("QUJD", b"ABC"), ("+/+/", &[0xfb, 0xff, 0xbf])] {
            assert_eq!(parse_base64(text).as_deref(), Some(bytes), "{text}");
        }
        for text in ["", "QQ", "QR==", "QUK=", "QQ=A", "Q===", "Q-_=", "QUJD\n"] {
            assert_eq!(parse_base64(text), None, "{text:?}");
        }
    }

    #[test]
    fn only_the_four_types_are_read_otherwise() {
        for (written, read) in
            [("Root", "root"), ("Targets", "targets"), ("root", "root"), ("ROOT", "ROOT"), ("x", "x")]
        {
            let signed = Json::object([("_type", written.into())]);
            assert_eq!(read_as(&signed).get("_type").and_then(Json::as_str), Some(read));
        }
    }
}
