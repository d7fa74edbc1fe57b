//! The product registry, and what comes with a release: bills of materials and provenance, looked at before anybody signs.

use crate::sandbox::{Run, Sandbox};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use insta::assert_snapshot;
use serde_json::json;
use sluice_signer::{SigningKey, sha256};

const BUILDER: &str = "https://builds.example.org/runner@v2";
const WITH_BOTH: &str = "--sbom bom.json --provenance provenance.json";

fn sandbox() -> Sandbox {
    let sandbox = Sandbox::with_first_release();
    sandbox.holder("builder", 61);
    sandbox.write("bom.json", &bill("1.6"));
    sandbox.write("provenance.json", &provenance(61, BUILDER, &sandbox.read("cam-2.4.1.bin")));
    sandbox
}

fn bill(version: &str) -> Vec<u8> {
    let components = [json!({"type": "library", "name": "zlib"}), json!({"type": "library", "name": "musl"})];
    let product = json!({"component": {"type": "firmware", "name": "acme-cam"}});
    let bill = json!({"bomFormat": "CycloneDX", "specVersion": version, "metadata": product, "components": components});
    bill.to_string().into_bytes()
}

/// What the builder with the key of this seed says of an image.
fn provenance(seed: u8, builder: &str, image: &[u8]) -> Vec<u8> {
    let kind = "application/vnd.in-toto+json";
    let statement = json!({
        "_type": "https://in-toto.io/Statement/v1", "predicateType": "https://slsa.dev/provenance/v1",
        "subject": [{"name": "cam.bin", "digest": {"sha256": hex::encode(sha256(image))}}],
        "predicate": {
            "buildDefinition": {"buildType": "https://builds.example.org/make"},
            "runDetails": {"builder": {"id": builder}},
        },
    })
    .to_string();
    let signed = format!("DSSEv1 {} {kind} {} {statement}", kind.len(), statement.len());
    let sig = SigningKey::from_seed(&[seed; 32]).unwrap().sign(signed.as_bytes());
    let signatures = [json!({"sig": STANDARD.encode(sig)})];
    json!({"payloadType": kind, "payload": STANDARD.encode(statement), "signatures": signatures})
        .to_string()
        .into_bytes()
}

fn pin(sandbox: &Sandbox) -> Run {
    let line = "product set --repo repo --product acme-cam --hw-id cam-r3 --hw-id cam-r4 --security-counter 7 \
        --support-end 2031-05-31 --require sbom --require provenance --builder";
    sandbox.run_with(line, &[&format!("{BUILDER}=keys/builder.pub")]).ok()
}

fn refused(sandbox: &Sandbox, line: &str, reason: &str) {
    let before = sandbox.tree();
    let run = sandbox.run(line);
    assert_eq!(run.code, 3, "{line}: {}", run.transcript());
    assert!(run.stderr.contains(reason), "{reason}: {}", run.transcript());
    assert_eq!(sandbox.tree(), before, "{reason}");
}

#[test]
fn a_release_with_all_that_is_required_is_shown_and_signed() {
    let sandbox = sandbox();
    assert_snapshot!("set", pin(&sandbox).transcript());
    sandbox.run(&format!("{} {WITH_BOTH}", Sandbox::V2)).ok();
    assert_snapshot!("sign", sandbox.sign("cam-a").ok().transcript());
    // Elsewhere the same is looked at when the files are there, and said when they are not.
    sandbox.run("request --repo repo --out x.fwreq").ok();
    let line = "sign --request x.fwreq --key keys/cam-b.key --out y.fwsig";
    let blind = sandbox.run(line).ok();
    assert!(blind.stderr.contains("acme-cam/2.4.1/provenance.dsse.json was not looked at"), "{}", blind.stderr);
    std::fs::create_dir(sandbox.path("mine")).unwrap();
    for file in ["cam-2.4.1.bin", "notes.md", "bom.json", "provenance.json"] {
        std::fs::copy(sandbox.path(file), sandbox.path("mine").join(file)).unwrap();
    }
    let run = sandbox.run(&format!("{line} --images mine")).ok();
    assert!(run.stderr.contains(&format!("built by {BUILDER}")), "{}", run.stderr);
    sandbox.run("merge --repo repo y.fwsig").ok();
    sandbox.run("verify --repo repo").ok();
}

#[test]
fn the_registry_is_held_against_every_release() {
    let sandbox = sandbox();
    pin(&sandbox);
    let with = |from: &str, to: &str| format!("{} {WITH_BOTH}", Sandbox::V2.replace(from, to));
    refused(&sandbox, Sandbox::V2, "product acme-cam requires sbom");
    refused(&sandbox, &format!("{} --sbom bom.json", Sandbox::V2), "product acme-cam requires provenance");
    refused(&sandbox, &with("cam-r3", "cam-r5"), "hardware cam-r5 is not in the registry");
    sandbox.run("product set --repo repo --product acme-cam --security-counter 9").ok();
    refused(&sandbox, &with("", ""), "security counter 8 is below the registry's 9");
    refused(&sandbox, "product set --repo repo --product acme-cam --security-counter 8", "it never goes down");
    let mut late = sandbox;
    late.now = "2031-06-01T00:00:00Z";
    refused(
        &late,
        &with("--security-counter 8", "--security-counter 9").replace("security --", "feature --"),
        "support ended on 2031-05-31",
    );
}

#[test]
fn provenance_is_believed_of_a_pinned_builder_and_for_its_own_image() {
    let sandbox = sandbox();
    let line = format!("{} {WITH_BOTH}", Sandbox::V2);
    refused(&sandbox, &line, "none of its signatures is by a pinned builder ()");
    pin(&sandbox);
    let image = sandbox.read("cam-2.4.1.bin");
    for (statement, reason) in [
        (provenance(62, BUILDER, &image), "none of its signatures is by a pinned builder"),
        (provenance(61, "https://elsewhere.example", &image), "yet it names \"https://elsewhere.example\""),
        (provenance(61, BUILDER, b"another image"), "it is not about the image with SHA-256"),
        (b"{}".to_vec(), "payloadType is not"),
    ] {
        sandbox.write("provenance.json", &statement);
        refused(&sandbox, &line, reason);
    }
}

#[test]
fn a_bill_that_nobody_could_read_is_refused() {
    let sandbox = sandbox();
    for (bytes, reason) in [
        (bill("0.9"), "neither CycloneDX"),
        (b"<bom/>".to_vec(), "neither CycloneDX"),
        (bill("1.5").strip_suffix(b"}").unwrap().to_vec(), "neither CycloneDX"),
    ] {
        sandbox.write("bom.json", &bytes);
        refused(&sandbox, &format!("{} --sbom bom.json", Sandbox::V2), reason);
    }
}

#[test]
fn what_is_staged_is_looked_at_again_before_it_is_signed() {
    let sandbox = sandbox();
    pin(&sandbox);
    sandbox.run(&format!("{} {WITH_BOTH}", Sandbox::V2)).ok();
    // The registry learned meanwhile that the builder was broken into, and pins its new key.
    sandbox.holder("builder", 63);
    pin(&sandbox);
    let run = sandbox.sign("cam-a");
    assert_eq!(run.code, 3, "{}", run.transcript());
    assert!(run.stderr.contains("none of its signatures is by a pinned builder"), "{}", run.stderr);
}
