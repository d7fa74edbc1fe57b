//! Key objects: ids, material, and the two schemes.

use sluice_signer::{Json, KeyError, PublicKey, SigningKey, sha256};

const P256: &str = include_str!("../openssl/p256.pub.pem");

#[test]
fn a_key_id_is_the_hash_of_the_canonical_key_object() {
    let key = SigningKey::from_seed(&[1; 32]).unwrap();
    let hex = hex::encode(key.public().ed25519_bytes().unwrap());
    let canonical = format!(r#"{{"keytype":"ed25519","keyval":{{"public":"{hex}"}},"scheme":"ed25519"}}"#);
    assert_eq!(key.public().keyid(), hex::encode(sha256(canonical.as_bytes())));
    // RFC 8032 arithmetic, seed of all ones: a change here would orphan every key in the field.
    assert_eq!(hex, "8a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c");
}

#[test]
fn a_further_field_makes_another_id_but_not_another_key() {
    let key = SigningKey::from_seed(&[1; 32]).unwrap();
    let Json::Object(mut object) = key.public().to_json().clone() else { panic!("an object") };
    object.insert("comment".into(), "twin".into());
    let twin = PublicKey::from_json(&Json::Object(object)).unwrap();
    assert_ne!(twin.keyid(), key.public().keyid());
    assert_eq!(twin.material(), key.public().material());
}

#[test]
fn ed25519_is_checked_strictly() {
    let key = SigningKey::from_seed(&[1; 32]).unwrap();
    let signature = key.sign(b"message");
    assert!(key.public().verify(b"message", &signature));
    assert!(!key.public().verify(b"massage", &signature));
    assert!(!key.public().verify(b"message", &signature[..63]));
    assert!(!key.public().verify(b"message", &[]));

    // The same signature with the group order added to s: some verifiers accept it.
    let order = hex::decode("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010").unwrap();
    let mut malleable = signature.clone();
    let mut carry = 0u16;
    for (byte, add) in malleable[32..].iter_mut().zip(order) {
        let sum = u16::from(*byte) + u16::from(add) + carry;
        *byte = sum.to_le_bytes()[0];
        carry = sum >> 8;
    }
    assert_ne!(malleable, signature);
    assert!(!key.public().verify(b"message", &malleable));
}

#[test]
fn weak_and_malformed_keys_are_refused() {
    let invalid = Err(KeyError::Invalid { scheme: "ed25519" });
    let mut neutral = [0u8; 32];
    neutral[0] = 1;
    assert_eq!(PublicKey::ed25519(&neutral), invalid, "a point of small order verifies almost anything");
    assert_eq!(PublicKey::ed25519(&[0; 32]), invalid);
    let object = |keytype: &str, scheme: &str, public: &str| {
        Json::object([
            ("keytype", keytype.into()),
            ("scheme", scheme.into()),
            ("keyval", Json::object([("public", public.into())])),
        ])
    };
    assert_eq!(PublicKey::from_json(&object("ed25519", "ed25519", "AB")), invalid);
    assert!(matches!(PublicKey::from_json(&object("rsa", "rsassa-pss-sha256", "")), Err(KeyError::Unsupported { .. })));
    assert!(matches!(
        PublicKey::from_json(&object("ecdsa", "ecdsa-sha2-nistp256", "no PEM")),
        Err(KeyError::Invalid { .. })
    ));
    assert_eq!(PublicKey::from_json(&Json::Null), Err(KeyError::Malformed { field: "keytype" }));
}

#[test]
fn signatures_that_openssl_made_with_p256_verify() {
    let key = PublicKey::ecdsa_p256_pem(P256).unwrap();
    assert_eq!(key.scheme(), "ecdsa-sha2-nistp256");
    let low = "304402206cb7d270e2b46f38c557d9efbf9b54478c571ce63a1500f2b135a6a67fd07de7022012d2bb77914a168d4c2982ce6245cd00cdfbed728ff00364c4b6582bbadbac9f";
    let high = "3046022100c25a037623ae4d1aca903aecc8f6a9d233863f554269661df420fb873816218c0221008438f70a96e75e7adeb86c2c615c886062aacd6f53c8e2e9f26cc009d36f1ce0";
    for signature in [low, high] {
        let signature = hex::decode(signature).unwrap();
        assert!(key.verify(b"signed by a token", &signature));
        assert!(!key.verify(b"signed by a thief", &signature));
    }
    assert!(!key.verify(b"signed by a token", &[0x30, 0x00]));
    assert!(!key.verify(b"signed by a token", &[]));
}

#[test]
fn a_private_key_is_not_printed() {
    let key = SigningKey::from_seed(&[7; 32]).unwrap();
    assert_eq!(format!("{key:?}"), format!("SigningKey({})", key.public().keyid()));
}
