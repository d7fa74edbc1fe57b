//! SHA-256 digests: 32 bytes in memory, 64 lower-case hexadecimal digits in documents.

use sha2::{Digest, Sha256};

/// A SHA-256 digest.
pub type Sha256Digest = [u8; 32];

/// Hashes a whole buffer.
pub fn sha256(bytes: &[u8]) -> Sha256Digest {
    Sha256::digest(bytes).into()
}

/// Reads exactly 64 lower-case hexadecimal digits. Upper case is refused so that one digest has one spelling.
pub fn parse_hex(text: &str) -> Option<Sha256Digest> {
    let bytes = parse_hex_bytes(text)?;
    bytes.try_into().ok()
}

/// Reads lower-case hexadecimal of any length.
pub(crate) fn parse_hex_bytes(text: &str) -> Option<Vec<u8>> {
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return None;
    }
    hex::decode(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_has_one_spelling() {
        let digest = sha256(b"");
        let text = hex::encode(digest);
        assert_eq!(text, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert_eq!(parse_hex(&text), Some(digest));
        assert_eq!(parse_hex(&text.to_uppercase()), None);
        assert_eq!(parse_hex("e3"), None);
        assert_eq!(parse_hex(""), None);
    }
}
