//! Keys in tokens, with SoftHSM for the tokens: a whole ceremony without a private key in any file.

use crate::sandbox::{HOLDERS, Sandbox};
use std::path::Path;
use std::process::Command;

const PIN: &str = "4711-0815";
/// Where Debian's package softhsm2 keeps its module, on one or on several architectures.
const MODULES: [&str; 2] = ["/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so"];

fn module() -> &'static str {
    let found = MODULES.into_iter().find(|path| Path::new(path).exists());
    found.unwrap_or_else(|| panic!("SoftHSM is missing: run `cargo xtask test`, or apt-get install softhsm2"))
}

/// A sandbox with one token for each of these holders.
fn with_tokens(holders: &[&str]) -> Sandbox {
    let sandbox = Sandbox::new();
    let folder = sandbox.path("tokens");
    std::fs::create_dir(&folder).unwrap();
    sandbox
        .write("softhsm2.conf", format!("directories.tokendir = {}\nlog.level = ERROR\n", folder.display()).as_bytes());
    sandbox.write("pin", PIN.as_bytes());
    for holder in holders {
        let output = Command::new("softhsm2-util")
            .env("SOFTHSM2_CONF", sandbox.path("softhsm2.conf"))
            .args(["--init-token", "--free", "--so-pin", "12345678", "--pin", PIN, "--label", &label(holder)])
            .output()
            .unwrap_or_else(|error| {
                panic!("softhsm2-util: {error}; run `cargo xtask test`, or apt-get install softhsm2")
            });
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        for kind in ["key", "pub"] {
            std::fs::remove_file(sandbox.path(&format!("keys/{holder}.{kind}"))).unwrap();
        }
    }
    sandbox
}

/// Labels have spaces and signs that URIs must escape.
fn label(holder: &str) -> String {
    format!("Acme; {holder}?")
}

fn uri(holder: &str) -> String {
    format!("pkcs11:token=Acme%3B%20{holder}%3F?module-path={}", module())
}

fn make(sandbox: &Sandbox, holder: &str, scheme: &str) {
    let line = format!("key new {holder} --out keys --passphrase-file pin --scheme {scheme} --token");
    sandbox.run_with(&line, &[&uri(holder)]).ok();
}

fn sign(sandbox: &Sandbox, holders: &[&str]) {
    for holder in holders {
        sandbox.run(&format!("sign --repo repo --passphrase-file pin --key keys/{holder}.key")).ok();
    }
}

#[test]
fn a_ceremony_with_every_key_in_a_token() {
    let sandbox = with_tokens(&HOLDERS);
    // Every role has keys of both kinds.
    for (index, holder) in HOLDERS.into_iter().enumerate() {
        make(&sandbox, holder, if index % 2 == 0 { "ed25519" } else { "ecdsa-p256" });
        let file = String::from_utf8(sandbox.read(&format!("keys/{holder}.key"))).unwrap();
        assert!(file.starts_with("pkcs11:token=Acme%3B%20") && !file.contains(PIN), "{file}");
    }
    for line in [Sandbox::INIT, Sandbox::DELEGATE, Sandbox::V1] {
        sandbox.run(line).ok();
    }
    sign(&sandbox, &["root-a", "root-b", "lead-b", "lead-c", "director-a", "director-b"]);
    assert_eq!(sandbox.run("verify --repo repo").code, 1, "the product's holders have not signed");
    // One of them is elsewhere, with a request and a token.
    sandbox.run("request --repo repo --out x.fwreq").ok();
    sandbox.run("sign --request x.fwreq --passphrase-file pin --key keys/cam-b.key --out cam-b.fwsig").ok();
    sandbox.run("merge --repo repo cam-b.fwsig").ok();
    sign(&sandbox, &["cam-a"]);
    sandbox.run("verify --repo repo").ok();

    // A token is lost: the others replace it.
    sandbox.holder("root-d", 41);
    sandbox.run("root rotate --repo repo --add keys/root-d.pub --remove root-c").ok();
    sign(&sandbox, &["root-a", "root-b"]);
    sandbox.run("verify --repo repo").ok();
    assert!(sandbox.path("repo/metadata/2.root.json").exists());
}

#[test]
fn signing_again_with_a_scheme_that_is_not_deterministic_keeps_one_signature() {
    let sandbox = with_tokens(&["root-a"]);
    make(&sandbox, "root-a", "ecdsa-p256");
    sandbox.run(Sandbox::INIT).ok();
    let staged = || {
        let document: serde_json::Value =
            serde_json::from_slice(&sandbox.read("repo/staged/image/1.root.json")).unwrap();
        document["signatures"].as_array().unwrap().clone()
    };
    sign(&sandbox, &["root-a"]);
    assert_eq!(staged().len(), 1);
    for _ in 0..4 {
        let before = staged()[0]["sig"].as_str().unwrap().to_owned();
        sign(&sandbox, &["root-a"]);
        assert_eq!(staged().len(), 1);
        assert!(
            staged()[0]["sig"].as_str().unwrap() <= &before[..],
            "the smallest stays, so that any order ends alike"
        );
    }
}

/// OpenSC's tool, which knows nothing of ours, on the token of a holder.
fn pkcs11_tool(sandbox: &Sandbox, holder: &str, args: &[&str]) -> String {
    let output = Command::new("pkcs11-tool")
        .env("SOFTHSM2_CONF", sandbox.path("softhsm2.conf"))
        .args(["--module", module(), "--token-label", &label(holder), "--login", "--pin", PIN])
        .args(args)
        .output()
        .unwrap_or_else(|error| panic!("pkcs11-tool: {error}; run `cargo xtask test`, or apt-get install opensc"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_private_key_cannot_leave_the_token() {
    let sandbox = with_tokens(&["root-a", "root-b"]);
    for (holder, scheme) in [("root-a", "ed25519"), ("root-b", "ecdsa-p256")] {
        make(&sandbox, holder, scheme);
        let listed = pkcs11_tool(&sandbox, holder, &["--list-objects", "--type", "privkey"]);
        assert!(listed.contains("Access:     sensitive, always sensitive, never extractable, local"), "{listed}");
        assert!(listed.contains("Usage:      sign\n"), "it signs and does nothing else: {listed}");
    }
}

#[test]
fn what_cannot_be_done_with_a_token_says_what_to_do() {
    let sandbox = with_tokens(&["root-a", "root-b"]);
    make(&sandbox, "root-a", "ed25519");
    sandbox.write("wrong", b"0000\n");
    let place = uri("root-a");
    for (line, more, code, reason) in [
        ("key show keys/root-a.key --passphrase-file wrong", None, 6, "wrong PIN for token \"Acme; root-a?\""),
        ("key show keys/root-a.key", None, 6, "--passphrase-file"),
        ("key show --passphrase-file pin pkcs11:token=Acme", None, 6, "SLUICE_PKCS11_MODULE"),
        (
            "key show --passphrase-file pin",
            Some(format!("pkcs11:token=nobody?module-path={}", module())),
            6,
            "no such token is there; found: ",
        ),
        (
            "key show --passphrase-file pin",
            Some(format!("pkcs11:object=root-a?module-path={}", module())),
            6,
            "2 tokens are meant",
        ),
        ("key show --passphrase-file pin pkcs11:?module-path=/nowhere.so", None, 6, "the PKCS#11 module /nowhere.so"),
        ("key show --passphrase-file pin pkcs11:slot-id=1", None, 6, "\"slot-id\" of PKCS#11 URIs is not supported"),
        ("key show --passphrase-file pin", Some(uri("root-b")), 6, "no such private key in the token"),
        (
            "key new root-a --out elsewhere --passphrase-file pin --token",
            Some(place.clone()),
            3,
            "a key with the label \"root-a\" already",
        ),
        ("key new root-a --out keys --passphrase-file pin --token", Some(place), 3, "root-a.key exists"),
        ("key new x --scheme ecdsa-p256", None, 2, "--token"),
        ("key import keys/root-a.key x --passphrase-file pin", None, 3, "a key in a token, which it cannot leave"),
    ] {
        let line = line.replace("key import", "key import --from-passphrase-file pin");
        let run = sandbox.run_with(&line, &more.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(run.code, code, "{line}: {}", run.transcript());
        assert!(run.stderr.contains(reason), "{line}: {}", run.transcript());
    }
}

#[test]
fn the_public_half_of_a_key_in_a_token_is_written_out() {
    let sandbox = with_tokens(&["root-a"]);
    make(&sandbox, "root-a", "ecdsa-p256");
    sandbox.run_with("key export --passphrase-file pin --out again", &[&uri("root-a"), "root-a"]).ok();
    assert_eq!(sandbox.read("again/root-a.pub"), sandbox.read("keys/root-a.pub"));
    assert_eq!(sandbox.read("again/root-a.key"), sandbox.read("keys/root-a.key"));
    // A run that was cut after the key was made: the same name takes it up, and again changes nothing.
    std::fs::remove_file(sandbox.path("again/root-a.pub")).unwrap();
    for _ in 0..2 {
        sandbox.run_with("key export --passphrase-file pin --out again", &[&uri("root-a"), "root-a"]).ok();
        assert_eq!(sandbox.read("again/root-a.pub"), sandbox.read("keys/root-a.pub"));
    }
    sandbox.write("again/root-a.pub", b"another one");
    let other = sandbox.run_with("key export --passphrase-file pin --out again", &[&uri("root-a"), "root-a"]);
    assert_eq!(other.code, 3, "{}", other.transcript());
    // In PEM, as other programs tell a P-256 key, it is the same key.
    let shown = sandbox.run("key show keys/root-a.pub --json").ok().json();
    sandbox.write("root-a.pem", shown["key"]["keyval"]["public"].as_str().unwrap().as_bytes());
    assert_eq!(sandbox.run("key show root-a.pem --json").ok().json()["keyid"], shown["keyid"]);
}

#[test]
fn a_file_of_somebody_else_does_not_choose_the_library_that_runs() {
    use std::os::unix::fs::PermissionsExt as _;
    let sandbox = with_tokens(&["root-a"]);
    make(&sandbox, "root-a", "ed25519");
    // A copy that anybody could have put there, as on a stick.
    let library = sandbox.path("x.so");
    std::fs::copy(module(), &library).unwrap();
    std::fs::set_permissions(&library, std::fs::Permissions::from_mode(0o666)).unwrap();
    let text = String::from_utf8(sandbox.read("keys/root-a.key")).unwrap();
    sandbox.write("stick.pub", text.replace(module(), library.to_str().unwrap()).as_bytes());
    for line in ["key show stick.pub", "key import --from-passphrase-file pin stick.pub y", "key export stick.pub y"] {
        let run = sandbox.run(&format!("{line} --passphrase-file pin"));
        assert_eq!(run.code, 3, "{line}: {}", run.transcript());
        assert!(run.stderr.contains("not one that the system installed"), "{line}: {}", run.stderr);
    }
    // Who types it means it.
    sandbox
        .run_with(
            "key show --passphrase-file pin",
            &[text.trim().replace(module(), library.to_str().unwrap()).as_str()],
        )
        .ok();
}
