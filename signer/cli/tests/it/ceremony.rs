//! The whole way: roots, product, first and second release, each signed by two of three holders.

use crate::sandbox::Sandbox;
use insta::assert_snapshot;

#[test]
fn the_whole_story() {
    let sandbox = Sandbox::new();
    assert_snapshot!("root_init", sandbox.run(Sandbox::INIT).transcript());
    assert_snapshot!("delegate_add", sandbox.run(Sandbox::DELEGATE).transcript());
    assert_snapshot!("release_new", sandbox.run(Sandbox::V1).transcript());
    assert_snapshot!("verify_unsigned", sandbox.run("verify --repo repo").transcript());
    assert_snapshot!("sign_first_holder", sandbox.sign("cam-a").transcript());
    sandbox.sign_by(&["cam-b", "root-a", "lead-c", "director-a", "lead-a"]);
    assert_snapshot!("status_half_signed", sandbox.run("status --repo repo").transcript());
    // The last signature of the root completes everything that waited for it.
    assert_snapshot!("sign_last_root_holder", sandbox.sign("root-c").transcript());
    sandbox.sign_by(&["director-c"]);
    assert_snapshot!("verify_first_release", sandbox.run("verify --repo repo").transcript());

    assert_snapshot!("release_new_second", sandbox.run(Sandbox::V2).transcript());
    assert_eq!(sandbox.run("verify --repo repo").code, 1, "one release is not signed yet");
    sandbox.sign_by(&["cam-c", "cam-a"]);
    assert_snapshot!("status_complete", sandbox.run("status --repo repo").transcript());
    let verified = sandbox.run("verify --repo repo --json").ok().json();
    assert_eq!((&verified["ok"], &verified["releases"]), (&true.into(), &2.into()));
    assert!(sandbox.path("repo/metadata/1.acme-cam.json").exists(), "the earlier version is kept");
    assert!(sandbox.path("repo/metadata/2.acme-cam.json").exists());
}

#[test]
fn images_are_kept_by_digest() {
    let sandbox = Sandbox::with_first_release();
    let digest = hex::encode(sluice_signer::sha256(&sandbox.read("cam-2.4.0.bin")));
    assert_eq!(sandbox.read(&format!("repo/targets/{digest}")), sandbox.read("cam-2.4.0.bin"));
}

#[test]
fn signing_again_changes_nothing() {
    let sandbox = Sandbox::new();
    sandbox.run(Sandbox::INIT).ok();
    sandbox.sign("root-a").ok();
    let before = sandbox.tree();
    sandbox.sign("root-a").ok();
    assert_eq!(sandbox.tree(), before);
}

#[test]
fn one_role_can_be_signed_alone() {
    let sandbox = Sandbox::new();
    sandbox.run(Sandbox::INIT).ok();
    let run = sandbox.run("sign --repo repo --key keys/root-a.key --role director-root");
    assert_eq!(run.code, 3, "{}", run.transcript());
    sandbox.run("sign --repo repo --key keys/root-a.key --role root").ok();
}

#[test]
fn a_release_joins_the_one_that_is_staged_and_not_signed() {
    let sandbox = Sandbox::with_first_release();
    sandbox.run(Sandbox::V2).ok();
    let third = Sandbox::V2.replace("2.4.1 --order 20401", "2.4.2 --order 20402");
    let staged = sandbox.run(&format!("{third} --json")).ok().json();
    assert_eq!(staged["staged"][0]["version"], 2);
    let changes = staged["staged"][0]["changes"].as_array().unwrap().len();
    assert_eq!(changes, 5, "two images, two release notes, one line for what stays: {staged}");
}

#[test]
fn an_expired_document_fails_verification() {
    let mut sandbox = Sandbox::with_first_release();
    sandbox.run("verify --repo repo").ok();
    sandbox.now = "2027-06-02T00:00:00Z";
    assert_snapshot!("verify_expired", sandbox.run("verify --repo repo").transcript());
}

/// Expiry is the classic outage: every role can be prolonged, a root by its own holders.
#[test]
fn every_role_can_be_renewed() {
    let mut sandbox = Sandbox::with_first_release();
    sandbox.now = "2027-05-20T12:00:00Z";
    for (role, holders) in [
        ("root", ["root-b", "root-c"]),
        ("director-root", ["director-a", "director-c"]),
        ("targets", ["lead-b", "lead-a"]),
        ("acme-cam", ["cam-c", "cam-b"]),
    ] {
        let staged = sandbox.run(&format!("renew --repo repo --role {role} --json")).ok().json();
        assert_eq!((&staged["staged"][0]["role"], &staged["staged"][0]["version"]), (&role.into(), &2.into()));
        assert_eq!(sandbox.run(&format!("renew --repo repo --role {role}")).code, 3, "{role} is staged already");
        sandbox.sign_by(&holders);
    }
    sandbox.now = "2027-06-10T12:00:00Z";
    sandbox.run("verify --repo repo").ok();
    assert_eq!(sandbox.run("renew --repo repo --role acme-phone").code, 3);
}

#[test]
fn completion_scripts_are_printed() {
    let sandbox = Sandbox::new();
    for shell in ["bash", "zsh", "fish"] {
        assert!(sandbox.run(&format!("completion {shell}")).ok().stdout.contains("sluice-sign"));
    }
}
