//! `entitlement show`: a certificate as people read it, with and without the root that names its key.

use crate::sandbox::Sandbox;
use insta::assert_snapshot;
use sluice_signer::{Certificate, Envelope, Limits, SigningKey};

const FROZEN: &[u8] = include_bytes!("../../../../fixtures/frozen/entitlement-v1/active.json");

/// The frozen certificate, changed and signed by a key.
fn signed(change: impl FnOnce(&mut Certificate), seed: u8) -> Vec<u8> {
    let limits = Limits::default();
    let envelope = Envelope::parse("entitlement", FROZEN, limits.entitlement_bytes, &limits).unwrap();
    let mut certificate = Certificate::from_json(envelope.signed(), &limits).unwrap();
    certificate.repo_id = None;
    change(&mut certificate);
    certificate.unsigned(&limits).unwrap().signed_by(&SigningKey::from_seed(&[seed; 32]).unwrap())
}

#[test]
fn a_certificate_is_shown_and_held_against_the_folders_root() {
    let sandbox = Sandbox::with_first_release();
    sandbox.write("certificate.json", &signed(|_| (), 104));
    assert_snapshot!("show", sandbox.run("entitlement show certificate.json --repo repo").ok().transcript());
    let report =
        sandbox.run("entitlement show certificate.json --director-root repo/director/metadata/1.root.json --json").ok();
    let report = report.json();
    assert_eq!(report["holds"], true, "{report}");
    assert_eq!(report["certificate"]["device"]["serial"], "SN-0001", "{report}");
    let unchecked = sandbox.run("entitlement show certificate.json").ok();
    assert!(unchecked.stdout.contains("the signature was not checked"), "{}", unchecked.transcript());
}

#[test]
fn a_certificate_that_does_not_hold_exits_with_one() {
    let sandbox = Sandbox::with_first_release();
    let refused = |bytes: &[u8], why: &str| {
        sandbox.write("certificate.json", bytes);
        let run = sandbox.run("entitlement show certificate.json --repo repo");
        assert_eq!(run.code, 1, "{}", run.transcript());
        assert!(run.stdout.contains(why), "{}", run.transcript());
    };
    refused(&signed(|_| (), 105), "REFUSED: entitlement: 0 of 1 required signatures");
    let day = jiff::SignedDuration::from_hours(24);
    let old = |certificate: &mut Certificate| {
        (certificate.issued, certificate.expires) = (certificate.issued - day * 40, certificate.issued - day);
    };
    refused(&signed(old, 104), "REFUSED: entitlement: expired at");
}

#[test]
fn what_is_no_certificate_is_said_to_be_none() {
    let sandbox = Sandbox::with_first_release();
    for (name, bytes) in [("empty", &b""[..]), ("root", &sandbox.read("repo/metadata/1.root.json"))] {
        sandbox.write(name, bytes);
        assert_eq!(sandbox.run(&format!("entitlement show {name}")).code, 6, "{name}");
    }
    assert_eq!(sandbox.run("entitlement show nothing").code, 6);
}
