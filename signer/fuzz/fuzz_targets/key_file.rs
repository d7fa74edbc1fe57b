//! Key files and key objects.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sluice_signer::{Json, OnlineKeys, PublicKey, key_file};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = key_file::from_pem(text, None);
        let _ = PublicKey::ecdsa_p256_pem(text);
    }
    let _ = OnlineKeys::from_bytes(bytes);
    if let Ok(object) = Json::parse(bytes, 1 << 16)
        && let Ok(key) = PublicKey::from_json(&object)
    {
        assert_eq!(PublicKey::from_json(key.to_json()), Ok(key));
    }
});
