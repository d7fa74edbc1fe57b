//! Key files as people make them.

use crate::sandbox::Sandbox;

#[test]
fn a_key_is_made_shown_and_never_overwritten() {
    let sandbox = Sandbox::new();
    sandbox.write("passphrase", b"correct horse battery\n");
    let made = sandbox.run("key new holder-a --out mine --passphrase-file passphrase --json").ok().json();
    let shown = sandbox.run("key show mine/holder-a.pub --json").ok().json();
    assert_eq!(made["keyid"], shown["keyid"]);
    let private = sandbox.run("key show mine/holder-a.key --passphrase-file passphrase --json").ok().json();
    assert_eq!(private["keyid"], shown["keyid"]);
    assert!(sandbox.read("mine/holder-a.key").starts_with(b"-----BEGIN ENCRYPTED PRIVATE KEY-----"));
    let again = sandbox.run("key new holder-a --out mine --no-passphrase");
    assert_eq!(again.code, 3, "{}", again.transcript());
    let other = sandbox.run("key new holder-b --out mine --no-passphrase --json").ok().json();
    assert_ne!(other["keyid"], made["keyid"]);
}

#[cfg(unix)]
#[test]
fn a_private_key_is_readable_by_its_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let sandbox = Sandbox::new();
    sandbox.run("key new holder-a --no-passphrase").ok();
    let mode = std::fs::metadata(sandbox.path("holder-a.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn an_encrypted_key_signs_with_its_passphrase_only() {
    let sandbox = Sandbox::new();
    sandbox.write("passphrase", b"correct horse battery\n");
    sandbox.write("wrong", b"incorrect horse\n");
    sandbox.write("short", b"short\n");
    sandbox.run("key new holder-a --out keys --passphrase-file passphrase").ok();
    sandbox.run(&Sandbox::INIT.replace("root-a.pub", "holder-a.pub")).ok();
    let wrong = sandbox.run("sign --repo repo --key keys/holder-a.key --passphrase-file wrong");
    assert_eq!(wrong.code, 6, "{}", wrong.transcript());
    assert!(wrong.stderr.contains("wrong passphrase"), "{}", wrong.stderr);
    let unattended = sandbox.run("sign --repo repo --key keys/holder-a.key");
    assert!(unattended.stderr.contains("--passphrase-file"), "{}", unattended.stderr);
    sandbox.run("sign --repo repo --key keys/holder-a.key --passphrase-file passphrase").ok();
    assert_eq!(sandbox.run("key new holder-b --passphrase-file short").code, 3);
}

#[test]
fn file_names_stay_in_their_folder() {
    let sandbox = Sandbox::new();
    let run = sandbox.run("key new ../holder-a --no-passphrase");
    assert_eq!(run.code, 3, "{}", run.transcript());
}

/// Runs OpenSSL, which holders have in a disaster when nothing of ours is at hand.
fn openssl(sandbox: &Sandbox, line: &str) -> Vec<u8> {
    let output = std::process::Command::new("openssl")
        .current_dir(sandbox.path("."))
        .args(line.split_whitespace())
        .output()
        .unwrap_or_else(|error| panic!("openssl: {error}; run `cargo xtask test`, or apt-get install openssl"));
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[test]
fn openssl_opens_our_key_files_and_we_take_in_those_it_makes() {
    let sandbox = Sandbox::new();
    sandbox.write("passphrase", b"correct horse battery\n");
    sandbox.write("other", b"another passphrase\n");
    let made = sandbox.run("key new holder-a --passphrase-file passphrase --json").ok().json();
    let der = openssl(&sandbox, "pkey -in holder-a.key -passin file:passphrase -pubout -outform DER");
    assert_eq!(made["key"]["keyval"]["public"], hex::encode(&der[der.len() - 32..]));

    openssl(&sandbox, "genpkey -algorithm ed25519 -out plain.pem");
    openssl(
        &sandbox,
        "pkcs8 -topk8 -in plain.pem -out locked.pem -v2 aes-256-cbc -v2prf hmacWithSHA256 -iter 600000 -passout file:other",
    );
    let plain = sandbox.run("key import plain.pem holder-b --passphrase-file passphrase --json").ok().json();
    let locked = sandbox
        .run("key import locked.pem holder-c --from-passphrase-file other --passphrase-file passphrase --json")
        .ok()
        .json();
    assert_eq!(plain["keyid"], locked["keyid"]);
    assert!(sandbox.read("holder-b.key").starts_with(b"-----BEGIN ENCRYPTED PRIVATE KEY-----"));
    // What it signs with is the key that OpenSSL made.
    let shown = sandbox.run("key show holder-c.key --passphrase-file passphrase --json").ok().json();
    assert_eq!(shown["keyid"], plain["keyid"]);
    let again = sandbox.run("key import plain.pem holder-b --passphrase-file passphrase");
    assert_eq!(again.code, 3, "{}", again.transcript());
    openssl(&sandbox, "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out p256.pem");
    let other = sandbox.run("key import p256.pem holder-d --passphrase-file passphrase");
    assert!(other.code == 6 && other.stderr.contains("is not ed25519"), "{}", other.transcript());
}
