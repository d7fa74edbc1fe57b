//! The verifier against vectors that nobody here made: Project Wycheproof, and the cases in which ed25519 verifiers differ.
//! `fixtures/vectors/README.md` names the sources.

use sluice_signer::PublicKey;

struct Case {
    name: String,
    key: Vec<u8>,
    message: Vec<u8>,
    signature: Vec<u8>,
    valid: bool,
}

fn cases(table: &str) -> Vec<Case> {
    let bytes = |field: &str| if field == "-" { Vec::new() } else { hex::decode(field).unwrap() };
    let lines = table.lines().filter(|line| !line.starts_with('#'));
    let case = |line| {
        let fields: Vec<&str> = str::split(line, '\t').collect();
        let [number, key, message, signature, result, text] = fields[..] else { panic!("{line}") };
        assert!(matches!(result, "valid" | "invalid"), "{line}");
        let (key, message, signature) = (bytes(key), bytes(message), bytes(signature));
        Case { name: format!("case {number}: {text}"), key, message, signature, valid: result == "valid" }
    };
    lines.map(case).collect()
}

/// Every case is decided as its line says.
fn hold(table: &str, count: usize, key: impl Fn(&[u8]) -> Option<PublicKey>) {
    let cases = cases(table);
    assert_eq!(cases.len(), count);
    assert!(cases.iter().any(|case| case.valid) && cases.iter().any(|case| !case.valid));
    for case in cases {
        // A key that is refused verifies nothing.
        let verified = key(&case.key).is_some_and(|key| key.verify(&case.message, &case.signature));
        assert_eq!(verified, case.valid, "{}", case.name);
    }
}

fn ed25519(key: &[u8]) -> Option<PublicKey> {
    PublicKey::ed25519(key.try_into().ok()?).ok()
}

#[test]
fn wycheproof_ed25519() {
    hold(include_str!("../../../fixtures/vectors/wycheproof-ed25519.tsv"), 151, ed25519);
}

#[test]
fn cases_in_which_ed25519_verifiers_differ() {
    hold(include_str!("../../../fixtures/vectors/ed25519-speccheck.tsv"), 12, ed25519);
}

#[test]
fn wycheproof_ecdsa_p256_sha256() {
    hold(include_str!("../../../fixtures/vectors/wycheproof-ecdsa-p256-sha256.tsv"), 484, |point| {
        Some(PublicKey::ecdsa_p256_point(point).expect("the points are on the curve"))
    });
}
