//! The roots get other keys of the server: which are staged, who signs, and what is refused.

use crate::sandbox::Sandbox;
use insta::assert_snapshot;
use sluice_signer::{OnlineKeys, OnlineRole, SigningKey};

/// Writes the export of a server that has made keys to follow those of these roles.
fn export(sandbox: &Sandbox, roles: &[OnlineRole]) {
    let mut keys = OnlineKeys::from_bytes(&sandbox.read("online.json")).unwrap();
    for (seed, role) in (111u8..).zip(roles) {
        keys.next.insert(*role, SigningKey::from_seed(&[seed; 32]).unwrap().public().clone());
    }
    sandbox.write("next.json", &keys.to_json().to_bytes());
}

const ROTATE: &str = "root rotate --repo repo --online-keys next.json";

fn staged(sandbox: &Sandbox) -> Vec<String> {
    let report = sandbox.run(&format!("{ROTATE} --json")).ok().json();
    report["staged"].as_array().unwrap().iter().map(|one| one["role"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn snapshot_and_timestamp_stand_in_both_roots() {
    let sandbox = Sandbox::with_first_release();
    export(&sandbox, &[OnlineRole::Snapshot, OnlineRole::Timestamp]);
    assert_snapshot!("rotate_online", sandbox.run(ROTATE).transcript());
    sandbox.sign_by(&["root-b", "root-c", "director-a"]);
    assert_ne!(sandbox.run("verify --repo repo").code, 0, "one of the director's holders is missing");
    sandbox.sign_by(&["director-c"]);
    sandbox.run("verify --repo repo").ok();
    // The new keys stay when the roots are prolonged.
    sandbox.run("renew --repo repo --role root").ok();
    sandbox.sign_by(&["root-a", "root-c"]);
    sandbox.run("verify --repo repo").ok();
}

#[test]
fn director_and_entitlement_stand_in_the_director_root() {
    for role in [OnlineRole::Director, OnlineRole::Entitlement] {
        let sandbox = Sandbox::with_first_release();
        export(&sandbox, &[role]);
        assert_eq!(staged(&sandbox), ["director-root"]);
        sandbox.sign_by(&["director-a", "director-b"]);
        sandbox.run("verify --repo repo").ok();
    }
}

#[test]
fn what_names_nothing_new_or_cannot_be_is_refused_and_changes_nothing() {
    let sandbox = Sandbox::with_first_release();
    let before = sandbox.tree();
    let refused = |line: &str, reason: &str| {
        let run = sandbox.run(line);
        assert_eq!(run.code, 3, "{line}: {}", run.transcript());
        assert!(run.stderr.contains(reason), "{line}: {}", run.transcript());
        assert_eq!(sandbox.tree(), before, "{line}");
    };
    refused("root rotate --repo repo --online-keys online.json", "name these keys of the server already");
    // A holder's key is no key of the server.
    let mut keys = OnlineKeys::from_bytes(&sandbox.read("online.json")).unwrap();
    keys.next.insert(OnlineRole::Snapshot, SigningKey::from_seed(&[1; 32]).unwrap().public().clone());
    sandbox.write("next.json", &keys.to_json().to_bytes());
    refused(ROTATE, "every key may serve one role only");
    assert_eq!(sandbox.run("root rotate --repo repo --online-keys online.json --add keys/cam-a.pub").code, 2);
    assert_eq!(sandbox.run("root rotate --repo repo --online-keys keys/cam-a.pub").code, 6, "no list of keys");
}

#[test]
fn a_root_that_gathers_signatures_is_not_replaced_and_neither_is_the_other() {
    let sandbox = Sandbox::with_first_release();
    sandbox.run("renew --repo repo --role director-root").ok();
    sandbox.sign_by(&["director-a"]);
    export(&sandbox, &[OnlineRole::Snapshot]);
    let before = sandbox.tree();
    let run = sandbox.run(ROTATE);
    assert_eq!(run.code, 3, "{}", run.transcript());
    assert_eq!(sandbox.tree(), before);
    sandbox.run("discard --repo repo --role director-root").ok();
    assert_eq!(staged(&sandbox), ["root", "director-root"]);
}
