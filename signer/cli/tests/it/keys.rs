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
