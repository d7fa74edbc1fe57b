//! The help of every noun: what can be typed is an interface too.

use insta::assert_snapshot;

use crate::script::program;

fn help(arguments: &[&str]) -> String {
    let home = tempfile::tempdir().unwrap();
    let output = program(home.path()).args(arguments).arg("--help").output().unwrap();
    assert!(output.status.success(), "{arguments:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn every_noun_explains_itself() {
    assert_snapshot!("help", help(&[]));
    for noun in [
        "bootstrap",
        "login",
        "product",
        "release",
        "held",
        "customer",
        "plan",
        "contract",
        "device",
        "why",
        "swap",
        "policy",
        "site",
        "enrol-token",
        "rollout",
        "principal",
        "token",
        "job",
        "audit",
        "online-keys",
    ] {
        assert_snapshot!(format!("help_{noun}"), help(&[noun]));
    }
}

#[test]
fn every_creation_explains_itself() {
    for noun in ["product", "customer", "plan", "contract", "device", "enrol-token", "rollout", "principal", "token"] {
        assert_snapshot!(format!("help_{noun}_create"), help(&[noun, "create"]));
    }
    assert_snapshot!("help_rollout_watch", help(&["rollout", "watch"]));
    assert_snapshot!("help_audit_verify", help(&["audit", "verify"]));
}

#[test]
fn completion_knows_the_nouns() {
    let home = tempfile::tempdir().unwrap();
    for shell in ["bash", "fish", "zsh"] {
        let output = program(home.path()).args(["completion", shell]).output().unwrap();
        assert!(output.status.success());
        assert!(String::from_utf8(output.stdout).unwrap().contains("enrol-token"), "{shell}");
    }
}
