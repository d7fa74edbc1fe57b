//! Advisories: a role of their own, quick to sign, that can install nothing.

use crate::sandbox::Sandbox;
use serde_json::{Value, json};

fn csaf(id: &str, version: &str) -> Vec<u8> {
    let day = "2026-06-01T12:00:00Z";
    json!({"document": {
        "csaf_version": "2.0", "category": "csaf_security_advisory", "title": "Stream parser overflow",
        "publisher": {"category": "vendor", "name": "Acme", "namespace": "https://acme.example"},
        "tracking": {
            "id": id, "status": "final", "version": version, "initial_release_date": day, "current_release_date": day,
        },
    }})
    .to_string()
    .into_bytes()
}

fn sandbox() -> Sandbox {
    let sandbox = Sandbox::with_first_release();
    for (seed, name) in (71..).zip(["psirt-a", "psirt-b"]) {
        sandbox.holder(name, seed);
    }
    sandbox
        .run("delegate add --repo repo --product acme-cam --advisories --holder keys/psirt-a.pub keys/psirt-b.pub")
        .ok();
    sandbox.sign_by(&["lead-a", "lead-b", "psirt-a"]);
    sandbox.write("advisory.json", &csaf("ACME-2026-0012", "1"));
    sandbox
}

const ADD: &str = "advisory add --repo repo --product acme-cam --id ACME-2026-0012 --file advisory.json";

#[test]
fn one_holder_signs_an_advisory_and_its_revision() {
    let sandbox = sandbox();
    let added = sandbox.run(ADD).ok();
    assert!(added.stderr.contains("CSAF, final: Stream parser overflow"), "{}", added.stderr);
    assert!(added.stdout.contains("+ advisories/acme-cam/ACME-2026-0012.json"), "{}", added.stdout);
    sandbox.sign_by(&["psirt-b"]);
    sandbox.run("verify --repo repo").ok();
    // What stands under the path of an advisory may change; that of an image may not.
    sandbox.write("advisory.json", &csaf("ACME-2026-0012", "2"));
    assert!(sandbox.run(ADD).ok().stdout.contains("~ advisories/acme-cam/ACME-2026-0012.json"));
    sandbox.sign_by(&["psirt-a"]);
    sandbox.run("verify --repo repo").ok();
    sandbox.run("audit --repo repo").ok();
    let document: Value = serde_json::from_slice(&sandbox.read("repo/metadata/3.acme-cam-advisories.json")).unwrap();
    assert_eq!(document["signed"]["expires"], "2026-07-01T12:00:00Z", "thirty days");
    sandbox.run("renew --repo repo --role acme-cam-advisories").ok();
    assert_eq!(sandbox.sign("cam-a").code, 3, "the holders of the product have no say here");
}

#[test]
fn what_is_no_advisory_of_the_product_is_refused() {
    let sandbox = sandbox();
    let before = sandbox.tree();
    sandbox.write("other.json", &csaf("ACME-2026-0099", "1"));
    sandbox.write("none.json", b"{}");
    for (line, reason) in [
        (ADD.replace("acme-cam", "acme-phone"), "nobody signs advisories of product acme-phone"),
        (ADD.replace("advisory.json", "other.json"), "its id is \"ACME-2026-0099\", not \"ACME-2026-0012\""),
        (ADD.replace("advisory.json", "none.json"), "neither CSAF (2.0, 2.1) nor OpenVEX"),
        (format!("{ADD} --expires-days 90"), "at most 40 are allowed [lifetime]"),
        (
            Sandbox::DELEGATE.replace("--product acme-cam", "--product acme-cam-advisories"),
            "no '-advisories' at the end",
        ),
        (
            "delegate add --repo repo --product acme-phone --advisories --holder keys/psirt-a.pub".to_owned(),
            "1 holders; 2 at least are required",
        ),
    ] {
        let run = sandbox.run(&line);
        assert_eq!(run.code, 3, "{line}: {}", run.transcript());
        assert!(run.stderr.contains(reason), "{line}: {}", run.transcript());
        assert_eq!(sandbox.tree(), before, "{line}");
    }
}
