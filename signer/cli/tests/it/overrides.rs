//! Lints that people override: with a reason, in the signed document, and by every holder.

use crate::sandbox::Sandbox;
use insta::assert_snapshot;

const LONG: &str = "--expires-days 300";
const REASON: &[&str] = &["--override", "lifetime=The factory is closed until spring."];

fn staged() -> Sandbox {
    let sandbox = Sandbox::with_first_release();
    let line = format!("{} {LONG}", Sandbox::V2);
    let refused = sandbox.run(&line);
    assert_eq!(refused.code, 3, "{}", refused.transcript());
    assert!(refused.stderr.contains("at most 130 are allowed [lifetime]"), "{}", refused.stderr);
    assert_snapshot!("staged", sandbox.run_with(&line, REASON).ok().transcript());
    sandbox
}

#[test]
fn every_holder_agrees_to_what_is_overridden() {
    let sandbox = staged();
    assert_snapshot!("not_agreed", sandbox.sign("cam-a").transcript());
    sandbox.run("sign --repo repo --key keys/cam-a.key --agree-to-override lifetime").ok();
    assert_eq!(sandbox.sign("cam-b").code, 3, "one holder agrees for himself alone");
    sandbox.run("request --repo repo --out x.fwreq").ok();
    let line = "sign --request x.fwreq --key keys/cam-c.key --out y.fwsig";
    assert_eq!(sandbox.run(line).code, 3);
    sandbox.run(&format!("{line} --agree-to-override lifetime")).ok();
    sandbox.run("merge --repo repo y.fwsig").ok();
    sandbox.run("verify --repo repo").ok();
    let document: serde_json::Value = serde_json::from_slice(&sandbox.read("repo/metadata/2.acme-cam.json")).unwrap();
    assert_eq!(document["signed"]["custom"]["overrides"]["lifetime"], "The factory is closed until spring.");
    // It holds for this document alone.
    sandbox.run("renew --repo repo --role acme-cam").ok();
    sandbox.sign_by(&["cam-a", "cam-b"]);
    let document: serde_json::Value = serde_json::from_slice(&sandbox.read("repo/metadata/3.acme-cam.json")).unwrap();
    assert_eq!(document["signed"]["custom"].get("overrides"), None);
}

#[test]
fn a_request_cannot_slip_an_override_away() {
    let sandbox = staged();
    sandbox.run("request --repo repo --out x.fwreq").ok();
    let mut request: serde_json::Value = serde_json::from_slice(&sandbox.read("x.fwreq")).unwrap();
    request["documents"][0]["signed"]["custom"].as_object_mut().unwrap().remove("overrides");
    sandbox.write("x.fwreq", &serde_json::to_vec(&request).unwrap());
    let run = sandbox.run("sign --request x.fwreq --key keys/cam-a.key --out y.fwsig");
    assert!(run.code == 3 && run.stderr.contains("[lifetime]"), "{}", run.transcript());
}

#[test]
fn nothing_else_is_overridden_and_what_is_not_needed_is_not_recorded() {
    let sandbox = Sandbox::with_first_release();
    let before = sandbox.tree();
    for (text, reason) in [
        ("content-changed=because", "names no lint that can be overridden"),
        ("lifetime", "the reason to override lifetime"),
        ("lifetime=", "the reason to override lifetime"),
        ("security-counter=because", "[lifetime]"),
    ] {
        let run = sandbox.run_with(&format!("{} {LONG}", Sandbox::V2), &["--override", text]);
        assert_eq!(run.code, 3, "{text}: {}", run.transcript());
        assert!(run.stderr.contains(reason), "{text}: {}", run.transcript());
    }
    // The images are kept by digest before anything is staged; no document is.
    let documents = |tree: Vec<(std::path::PathBuf, Vec<u8>)>| -> Vec<_> {
        tree.into_iter().filter(|(path, _)| path.extension().is_some_and(|end| end == "json")).collect()
    };
    assert_eq!(documents(sandbox.tree()), documents(before));
    sandbox.run_with(Sandbox::V2, REASON).ok();
    sandbox.sign_by(&["cam-a", "cam-b"]);
    let document: serde_json::Value = serde_json::from_slice(&sandbox.read("repo/metadata/2.acme-cam.json")).unwrap();
    assert_eq!(document["signed"]["custom"].get("overrides"), None);
}

#[test]
fn a_root_of_one_person_is_made_by_somebody_who_says_why() {
    let sandbox = Sandbox::new();
    let line = format!("{} --threshold 1", Sandbox::INIT);
    assert_eq!(sandbox.run(&line).code, 3);
    sandbox.run_with(&line, &["--override", "threshold-one=A laboratory without users."]).ok();
    let agreed = "sign --repo repo --agree-to-override threshold-one --key keys/root-a.key";
    sandbox.run(agreed).ok();
    assert!(sandbox.path("repo/metadata/1.root.json").exists());
}
