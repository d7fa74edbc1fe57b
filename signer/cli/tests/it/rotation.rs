//! Holders come and go: what must be signed again, by whom, and what cannot be changed.

use crate::sandbox::Sandbox;
use insta::assert_snapshot;

fn with_new_holders() -> Sandbox {
    let sandbox = Sandbox::with_first_release();
    for (seed, name) in (41..).zip(["root-d", "root-e", "root-f", "lead-d", "lead-e", "cam-d", "cam-e"]) {
        sandbox.holder(name, seed);
    }
    sandbox
}

/// Whether everything is complete and devices take it.
fn verifies(sandbox: &Sandbox) -> bool {
    sandbox.run("verify --repo repo").code == 0
}

#[test]
fn one_holder_of_the_root_is_replaced() {
    let sandbox = with_new_holders();
    assert_snapshot!(
        "rotate_root",
        sandbox.run("root rotate --repo repo --add keys/root-d.pub --remove root-a").transcript()
    );
    // The one who leaves and the one who comes: one valid signature of each root's holders, two are needed.
    sandbox.sign_by(&["root-a", "root-d"]);
    assert!(!verifies(&sandbox));
    sandbox.sign_by(&["root-b"]);
    assert!(verifies(&sandbox));
    assert!(sandbox.path("repo/metadata/1.root.json").exists() && sandbox.path("repo/metadata/2.root.json").exists());
    // The next root knows nothing of the holder who left.
    sandbox.run("renew --repo repo --role root").ok();
    assert_eq!(sandbox.sign("root-a").code, 3);
    sandbox.sign_by(&["root-c", "root-d"]);
    assert!(verifies(&sandbox));
}

#[test]
fn all_holders_of_a_root_are_replaced_when_old_and_new_ones_sign() {
    let sandbox = with_new_holders();
    let line = "root rotate --repo repo --add keys/root-d.pub keys/root-e.pub keys/root-f.pub \
        --remove root-a root-b root-c --threshold 2";
    sandbox.run(line).ok();
    sandbox.sign_by(&["root-d", "root-e", "root-f", "root-c"]);
    assert!(!verifies(&sandbox), "three of the new holders and one of the old ones");
    sandbox.sign_by(&["root-a"]);
    assert!(verifies(&sandbox));
}

#[test]
fn what_new_holders_of_targets_have_not_signed_is_staged_again() {
    let sandbox = with_new_holders();
    let line =
        "root rotate --repo repo --role targets --add keys/lead-d.pub keys/lead-e.pub --remove lead-a lead-b --json";
    let staged = sandbox.run(line).ok().json();
    let roles: Vec<_> =
        staged["staged"].as_array().unwrap().iter().map(|one| (&one["role"], &one["version"])).collect();
    assert_eq!(roles, [(&"root".into(), &2.into()), (&"targets".into(), &2.into())]);
    sandbox.sign_by(&["lead-c", "lead-d", "root-a"]);
    assert!(!verifies(&sandbox), "the root that names the new holders is not complete");
    sandbox.sign_by(&["root-c"]);
    assert!(verifies(&sandbox));
    assert!(sandbox.path("repo/metadata/2.targets.json").exists());
}

#[test]
fn holders_of_a_product_are_replaced_and_sign_its_releases_again() {
    let sandbox = with_new_holders();
    assert_snapshot!(
        "rotate_product",
        sandbox
            .run("delegate rotate --repo repo --product acme-cam --add keys/cam-d.pub keys/cam-e.pub --remove cam-a cam-b")
            .transcript()
    );
    sandbox.sign_by(&["lead-a", "lead-b"]);
    assert_eq!(sandbox.sign("cam-a").code, 3, "a stolen key of a holder who left signs nothing any more");
    sandbox.sign_by(&["cam-d", "cam-c"]);
    assert!(verifies(&sandbox));
    // A change that the old signatures satisfy needs no new ones of the product.
    sandbox.holder("cam-f", 51);
    let line = "delegate rotate --repo repo --product acme-cam --add keys/cam-f.pub --json";
    assert_eq!(sandbox.run(line).ok().json()["staged"].as_array().unwrap().len(), 1);
    sandbox.sign_by(&["lead-a", "lead-c"]);
    assert!(verifies(&sandbox));
}

#[test]
fn a_change_that_cannot_be_is_refused_and_changes_nothing() {
    let sandbox = with_new_holders();
    let before = sandbox.tree();
    for (line, reason) in [
        ("root rotate --repo repo --remove root-x", "root-x is no holder of root"),
        ("root rotate --repo repo --remove lead-a", "lead-a is no holder of root"),
        ("root rotate --repo repo --threshold 2", "nothing would change"),
        ("root rotate --repo repo --threshold 3", "threshold 3"),
        ("root rotate --repo repo --remove root-a", "holders"),
        ("root rotate --repo repo --add keys/root-b.pub", "is a holder of root already"),
        ("root rotate --repo repo --add keys/lead-a.pub", "is in both image root and image targets"),
        ("root rotate --repo repo --role snapshot --threshold 2", "has no holders in a root"),
        ("delegate rotate --repo repo --product acme-phone --threshold 2", "acme-phone has no holders yet"),
    ] {
        let run = sandbox.run(line);
        assert_eq!(run.code, 3, "{line}: {}", run.transcript());
        assert!(run.stderr.contains(reason), "{line}: {}", run.transcript());
        assert_eq!(sandbox.tree(), before, "{line}");
    }
    assert_eq!(sandbox.run("root rotate --repo repo").code, 2, "at least one change");
}

#[test]
fn a_product_line_is_revoked_and_given_to_others() {
    let sandbox = with_new_holders();
    sandbox.run("delegate revoke --repo repo --product acme-phone").transcript();
    assert_eq!(sandbox.run("delegate revoke --repo repo --product acme-phone").code, 3);
    let revoked = sandbox.run("delegate revoke --repo repo --product acme-cam").ok();
    assert!(revoked.stdout.contains("- product acme-cam"), "{}", revoked.stdout);
    sandbox.sign_by(&["lead-a", "lead-b"]);
    assert!(verifies(&sandbox), "the product's document stays, and nobody looks for it");
    assert_eq!(sandbox.run(Sandbox::V2).code, 3, "its holders make no release any more");
    let top: serde_json::Value = serde_json::from_slice(&sandbox.read("repo/metadata/2.targets.json")).unwrap();
    assert_eq!(
        top["signed"].get("delegations").and_then(|block| block["keys"].as_object()).map_or(0, serde_json::Map::len),
        0
    );
    // Others take it over: versions go on, releases begin anew.
    sandbox.holder("cam-f", 51);
    sandbox
        .run("delegate add --repo repo --product acme-cam --holder keys/cam-d.pub keys/cam-e.pub keys/cam-f.pub")
        .ok();
    sandbox.sign_by(&["lead-a", "lead-b", "cam-d", "cam-e"]);
    assert!(verifies(&sandbox));
    let role: serde_json::Value = serde_json::from_slice(&sandbox.read("repo/metadata/2.acme-cam.json")).unwrap();
    assert_eq!(role["signed"]["targets"], serde_json::json!({}));
}

#[test]
fn a_staged_release_stands_in_the_way_of_revoking_its_product() {
    let sandbox = with_new_holders();
    sandbox.run(Sandbox::V2).ok();
    let run = sandbox.run("delegate revoke --repo repo --product acme-cam");
    assert!(run.code == 3 && run.stderr.contains("discard --role acme-cam"), "{}", run.transcript());
    sandbox.run("discard --repo repo --role acme-cam").ok();
    sandbox.run("delegate revoke --repo repo --product acme-cam").ok();
}

#[test]
fn a_release_is_withdrawn_by_its_holders() {
    let sandbox = Sandbox::with_first_release();
    sandbox.run(Sandbox::V2).ok();
    sandbox.sign_by(&["cam-a", "cam-b"]);
    let floor = sandbox.run("release withdraw --repo repo --product acme-cam --version 2.4.0");
    assert!(floor.code == 3 && floor.stderr.contains("names min_installed 2.4.0"), "{}", floor.transcript());
    assert_eq!(sandbox.run("release withdraw --repo repo --product acme-cam --version 2.4").code, 3);
    let run = sandbox.run("release withdraw --repo repo --product acme-cam --version 2.4.1").ok();
    assert!(run.stdout.contains("- acme-cam/2.4.1/main.bin"), "{}", run.stdout);
    sandbox.sign_by(&["cam-a", "cam-c"]);
    assert!(verifies(&sandbox));
}

#[test]
fn what_former_holders_signed_comes_back_only_when_somebody_says_so() {
    let sandbox = with_new_holders();
    sandbox.run("delegate revoke --repo repo --product acme-cam").ok();
    sandbox.sign_by(&["lead-a", "lead-b"]);
    sandbox.holder("cam-f", 51);
    let add = "delegate add --repo repo --product acme-cam --holder keys/cam-d.pub keys/cam-e.pub keys/cam-f.pub";
    sandbox.run(add).ok();
    sandbox.sign_by(&["lead-a", "lead-b"]);
    // The empty document is dropped, and the complete one before it is that of the holders who lost the product.
    sandbox.run("discard --repo repo --role acme-cam").ok();
    let run = sandbox.run(Sandbox::V2);
    assert!(run.code == 3 && run.stderr.contains("signed by former holders"), "{}", run.transcript());
    sandbox.run("renew --repo repo --role acme-cam").ok();
    let signed = sandbox.sign("cam-d").ok();
    assert!(signed.stderr.contains("today's holders have not signed the document before it"), "{}", signed.stderr);
}
