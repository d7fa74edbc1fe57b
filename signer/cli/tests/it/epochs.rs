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
