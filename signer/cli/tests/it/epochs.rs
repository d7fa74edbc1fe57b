//! Opening a signing epoch: what is asked before, who signs, and what is shown after.

use crate::sandbox::Sandbox;
use sluice_signer::{OnlineKeys, OnlineRole, PublicKey, SigningKey};

fn public(seed: u8) -> PublicKey {
    SigningKey::from_seed(&[seed; 32]).unwrap().public().clone()
}

/// The server's export with keys that wait to follow: all of them but those left out.
fn export(sandbox: &Sandbox, without: &[OnlineRole]) {
    let keys = OnlineKeys {
        snapshot: public(101),
        timestamp: public(102),
        director: public(103),
        entitlement: public(104),
        next: (111..)
            .zip(OnlineRole::ALL)
            .filter(|(_, role)| !without.contains(role))
            .map(|(seed, role)| (role, public(seed)))
            .collect(),
    };
    sandbox.write("next.json", &keys.to_json().to_bytes());
}

/// Everything of the first epoch is signed, for 400 days.
fn lasting() -> Sandbox {
    let mut sandbox = Sandbox::with_first_release();
    sandbox.newest_epoch = 2;
    export(&sandbox, &[]);
    for role in ["root", "director-root", "targets"] {
        sandbox.run(&format!("renew --repo repo --role {role} --expires-days 400")).ok();
    }
    let reason = ["--override", "lifetime=The last document of epoch 1."];
    sandbox.run_with("renew --repo repo --role acme-cam --expires-days 400", &reason).ok();
    sandbox.sign_by(&["root-a", "root-b", "director-a", "director-b", "lead-a", "lead-b"]);
    agree(&sandbox, &["cam-a", "cam-b"], "lifetime");
    sandbox
}

/// They sign what overrides a lint.
fn agree(sandbox: &Sandbox, holders: &[&str], code: &str) {
    for holder in holders {
        sandbox.run(&format!("sign --repo repo --key keys/{holder}.key --agree-to-override {code}")).ok();
    }
}

const BEGIN: &str = "root rotate --repo repo --online-keys next.json --new-epoch";

#[test]
fn an_epoch_is_opened_step_by_step() {
    let mut sandbox = lasting();
    let transcript = sandbox.run(BEGIN).ok().transcript();
    assert!(transcript.contains("! signing epoch 2 (was 1)"), "{transcript}");
    assert_eq!(sandbox.run("verify --repo repo").code, 1);
    sandbox.sign_by(&["root-a", "root-c"]);
    assert_eq!(sandbox.run("verify --repo repo").code, 1, "one repository alone");
    sandbox.sign_by(&["director-b", "director-c"]);
    let verified = sandbox.run("verify --repo repo").ok().stdout;
    let ends = "epoch 1 ends at 2027-07-06T12:00:00Z (400 days): until then older devices must have its newest release";
    assert!(verified.contains("signing epoch 2\n") && verified.contains(ends), "{verified}");
    let status = sandbox.run("status --repo repo").ok().stdout;
    assert!(status.contains(ends), "{status}");
    let json = sandbox.run("status --repo repo --json").ok().json();
    assert_eq!((&json["epoch"], &json["branches"][0]["epoch"]), (&2.into(), &1.into()));
    sandbox.run("audit --repo repo").ok();
    sandbox.run("drill online --repo repo").ok();
    sandbox.now = "2027-08-01T12:00:00Z";
    let status = sandbox.run("status --repo repo").ok().stdout;
    assert!(status.contains("epoch 1 is over since 2027-07-06T12:00:00Z"), "{status}");
    // A program of the first epoch cannot read what it finds, and says so.
    sandbox.newest_epoch = 1;
    let run = sandbox.run("verify --repo repo");
    assert!(run.stdout.contains("is of signing epoch 2, this verifier knows epochs to 1"), "{}", run.transcript());
}

/// A holder on a machine without the repository sees and judges the same.
#[test]
fn holders_elsewhere_judge_what_the_old_epoch_is_left_with() {
    let sandbox = lasting();
    sandbox.run(BEGIN).ok();
    sandbox.run("request --repo repo --role root --out root.fwreq").ok();
    let signed = sandbox.run("sign --request root.fwreq --key keys/root-b.key --out root-b.fwsig").ok();
    assert!(signed.stderr.contains("! signing epoch 2 (was 1)"), "{}", signed.transcript());
    sandbox.run("merge --repo repo root-b.fwsig").ok();
    sandbox.sign_by(&["root-a", "director-a", "director-b"]);
    sandbox.run("verify --repo repo").ok();
}

/// A role whose shown document, the empty one, lives as long as the others', and whose newest is held.
fn with_a_held_release() -> Sandbox {
    let sandbox = lasting();
    for (seed, name) in (71..).zip(["early-a", "early-b", "early-c"]) {
        sandbox.holder(name, seed);
    }
    let holders = "--holder keys/early-a.pub keys/early-b.pub keys/early-c.pub --expires-days 400";
    sandbox.run(&format!("delegate add --repo repo --product acme-cam --embargo {holders}")).ok();
    sandbox.sign_by(&["lead-a", "lead-b", "early-a", "early-b"]);
    let reason = ["--override", "lifetime=The last document of epoch 1."];
    sandbox.run_with(&format!("renew --repo repo --role {} --expires-days 400", embargo_role(&sandbox)), &reason).ok();
    agree(&sandbox, &["early-a", "early-b"], "lifetime");
    hold(&sandbox, "2.5.7-secret", 20507, "2026-07-01T09:00:00Z");
    sandbox
}

/// The name of the embargo role, which is random.
fn embargo_role(sandbox: &Sandbox) -> String {
    let names = std::fs::read_dir(sandbox.path("repo/metadata")).unwrap();
    let mut names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let name = names.find(|name| name.starts_with("1.embargo-")).unwrap();
    name.trim_start_matches("1.").trim_end_matches(".json").to_owned()
}

fn hold(sandbox: &Sandbox, version: &str, order: u64, moment: &str) {
    let line = Sandbox::V2.replace("2.4.1 --order 20401", &format!("{version} --order {order}"));
    sandbox.run(&format!("{line} --embargo-until {moment}")).ok();
    sandbox.sign_by(&["early-a", "early-b"]);
}

/// What is held is in no branch, and no business of the holders of the roots.
#[test]
fn a_release_that_is_held_neither_hinders_an_epoch_nor_travels_with_its_roots() {
    let mut sandbox = with_a_held_release();
    // Put off: its first moment passes, and it was shown to nobody.
    hold(&sandbox, "2.5.8-secret", 20508, "2026-08-01T09:00:00Z");
    sandbox.now = "2026-07-05T12:00:00Z";
    sandbox.run(BEGIN).ok();
    let shown = format!("\"role\":\"{}\",\"version\":2,", embargo_role(&sandbox));
    for role in ["root", "director-root"] {
        sandbox.run(&format!("request --repo repo --role {role} --out {role}.fwreq")).ok();
        let request = String::from_utf8(sandbox.read(&format!("{role}.fwreq"))).unwrap();
        // What the ending epoch is left with is there for the holders who judge it.
        assert_eq!(request.contains(&shown), role == "root", "{role}");
        for secret in ["2.5.7", "2.5.8", "not_before"] {
            assert!(!request.contains(secret), "{role}: {secret}");
        }
        let holder = if role == "root" { "root" } else { "director" };
        for one in ["a", "b"] {
            let line = format!("sign --request {role}.fwreq --key keys/{holder}-{one}.key --out {role}-{one}.fwsig");
            sandbox.run(&line).ok();
            sandbox.run(&format!("merge --repo repo {role}-{one}.fwsig")).ok();
        }
    }
    let verified = sandbox.run("verify --repo repo").ok().stdout;
    assert!(verified.contains("signing epoch 2\n"), "{verified}");
}

/// What the product's own role has taken over was announced, whatever waits in the role since.
#[test]
fn a_role_in_which_something_waits_is_judged_by_what_was_surely_shown() {
    let mut sandbox = with_a_held_release();
    sandbox.now = "2026-07-02T12:00:00Z";
    hold(&sandbox, "2.5.8-secret", 20508, "2026-08-01T09:00:00Z");
    sandbox.run("release adopt --repo repo --product acme-cam --version 2.5.7-secret --expires-days 130").ok();
    sandbox.sign_by(&["cam-a", "cam-b", "early-a", "early-b"]);
    let run = sandbox.run(BEGIN);
    assert_eq!(run.code, 3);
    let role = embargo_role(&sandbox);
    assert!(run.stderr.contains(&format!("{role}: expires in 89 days")), "{}", run.stderr);
}

/// Nor when the next document of the role waits for signatures meanwhile.
#[test]
fn a_request_for_roots_carries_nothing_that_is_staged_in_secret_or_follows_a_secret() {
    let sandbox = with_a_held_release();
    sandbox.holder("early-d", 74);
    sandbox.run(BEGIN).ok();
    for (line, holder) in [
        ("release withdraw --repo repo --product acme-cam --version 2.5.7-secret", "root-a"),
        (
            "delegate rotate --repo repo --product acme-cam --embargo --go-on-from 2 --add keys/early-d.pub --remove early-c",
            "root-b",
        ),
    ] {
        sandbox.run(line).ok();
        sandbox.run("request --repo repo --role root --out root.fwreq").ok();
        let request = String::from_utf8(sandbox.read("root.fwreq")).unwrap();
        assert!(!request.contains("2.5.7"), "{line}");
        sandbox.run(&format!("sign --request root.fwreq --key keys/{holder}.key --out {holder}.fwsig")).ok();
        sandbox.run(&format!("merge --repo repo {holder}.fwsig")).ok();
        sandbox.run(&format!("discard --repo repo --role {}", embargo_role(&sandbox))).ok();
    }
}

#[test]
fn the_documents_of_an_embargo_role_that_are_shown_must_live_as_long_as_others() {
    let sandbox = lasting();
    for (seed, name) in (71..).zip(["early-a", "early-b", "early-c"]) {
        sandbox.holder(name, seed);
    }
    let holders = "--holder keys/early-a.pub keys/early-b.pub keys/early-c.pub --expires-days 400";
    sandbox.run(&format!("delegate add --repo repo --product acme-cam --embargo {holders}")).ok();
    sandbox.sign_by(&["lead-a", "lead-b", "early-a", "early-b"]);
    let run = sandbox.run(BEGIN);
    assert_eq!(run.code, 3);
    assert!(run.stderr.contains(": expires in ") && run.stderr.contains("embargo-"), "{}", run.stderr);
    assert!(!run.stderr.contains("no floor") && !run.stderr.contains("there is none"), "{}", run.stderr);
}

#[test]
fn documents_that_end_soon_are_refused_or_argued_for() {
    let mut sandbox = Sandbox::with_first_release();
    sandbox.newest_epoch = 2;
    export(&sandbox, &[]);
    let before = sandbox.tree();
    let run = sandbox.run(BEGIN);
    assert_eq!(run.code, 3);
    assert!(run.stderr.contains("acme-cam: expires in 120 days, 365 at least are required"), "{}", run.stderr);
    assert!(run.stderr.contains("[epoch-short]"), "{}", run.stderr);
    assert_eq!(sandbox.tree(), before, "nothing was staged");
    sandbox.run_with(BEGIN, &["--override", "epoch-short=No device of epoch 1 was ever sold."]).ok();
    agree(&sandbox, &["root-a", "root-b"], "epoch-short");
    sandbox.sign_by(&["director-a", "director-b"]);
    let audit = sandbox.run("audit --repo repo").ok().stdout;
    assert!(audit.contains("epoch-short"), "{audit}");
}

#[test]
fn without_a_release_that_could_be_a_floor_it_is_refused() {
    let mut sandbox = lasting();
    sandbox.holder("bar-a", 51);
    sandbox.holder("bar-b", 52);
    sandbox.holder("bar-c", 53);
    let line = "delegate add --repo repo --product acme-bar --holder keys/bar-a.pub keys/bar-b.pub keys/bar-c.pub \
        --expires-days 400";
    sandbox.run(line).ok();
    sandbox.sign_by(&["lead-a", "lead-b", "bar-a", "bar-b"]);
    let run = sandbox.run(BEGIN);
    assert_eq!(run.code, 3);
    assert!(run.stderr.contains("acme-bar: no release could be a floor: there is none"), "{}", run.stderr);
    sandbox.newest_epoch = 1;
    let run = sandbox.run(BEGIN);
    assert_eq!(run.code, 3);
    assert!(run.stderr.contains("this program knows epochs to 1"), "{}", run.stderr);
}

#[test]
fn every_epoch_has_its_own_keys_of_the_server() {
    let sandbox = lasting();
    export(&sandbox, &[OnlineRole::Timestamp]);
    let run = sandbox.run(BEGIN);
    assert_eq!(run.code, 3);
    assert!(run.stderr.contains("sluice-server keys rotate timestamp"), "{}", run.stderr);
    // E signs for no repository: it may stay.
    export(&sandbox, &[OnlineRole::Entitlement]);
    sandbox.run(BEGIN).ok();
    let run = sandbox.run("root rotate --repo repo --new-epoch --add keys/root-a.pub");
    assert_eq!(run.code, 2, "{}", run.transcript());
}
