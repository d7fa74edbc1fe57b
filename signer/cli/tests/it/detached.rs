//! Signing on machines that do not have the repository: requests out, signatures back, in any order.

use crate::sandbox::Sandbox;
use insta::assert_snapshot;

fn staged() -> Sandbox {
    let sandbox = Sandbox::with_first_release();
    sandbox.run(Sandbox::V2).ok();
    sandbox.run("request --repo repo --out x.fwreq").ok();
    sandbox
}

fn sign(sandbox: &Sandbox, holder: &str) {
    sandbox.run(&format!("sign --request x.fwreq --key keys/{holder}.key --out {holder}.fwsig")).ok();
}

#[test]
fn a_request_is_signed_elsewhere_and_merged() {
    let sandbox = staged();
    let line = "sign --request x.fwreq --key keys/cam-a.key --out cam-a.fwsig";
    assert_snapshot!("sign_request", sandbox.run(line).transcript());
    sign(&sandbox, "cam-c");
    assert_snapshot!("merge_one", sandbox.run("merge --repo repo cam-a.fwsig").transcript());
    assert_snapshot!("merge_second", sandbox.run("merge --repo repo cam-c.fwsig cam-a.fwsig").transcript());
    sandbox.run("verify --repo repo").ok();
}

#[test]
fn the_order_of_merging_does_not_matter_and_again_is_fine() {
    let sandbox = staged();
    let holders = ["cam-a", "cam-b"];
    for holder in holders {
        sign(&sandbox, holder);
    }
    sandbox.run("merge --repo repo cam-b.fwsig").ok();
    sandbox.run("merge --repo repo cam-a.fwsig").ok();
    let one = sandbox.read("repo/metadata/2.acme-cam.json");

    let other = staged();
    for holder in holders {
        sign(&other, holder);
    }
    other.run("merge --repo repo cam-a.fwsig cam-b.fwsig").ok();
    assert_eq!(other.read("repo/metadata/2.acme-cam.json"), one);
    let again = other.run("merge --repo repo cam-b.fwsig cam-a.fwsig --json").ok().json();
    assert_eq!((&again["merged"], &again["known"]), (&0.into(), &2.into()));
    assert_eq!(other.read("repo/metadata/2.acme-cam.json"), one);
}

#[test]
fn a_holder_of_another_role_signs_nothing() {
    let sandbox = staged();
    let run = sandbox.run("sign --request x.fwreq --key keys/root-a.key --out y.fwsig");
    assert_eq!(run.code, 3, "{}", run.transcript());
    assert!(!sandbox.path("y.fwsig").exists());
}

#[test]
fn a_signature_for_a_replaced_document_is_refused() {
    let sandbox = staged();
    sign(&sandbox, "cam-a");
    sandbox.run(&Sandbox::V2.replace("2.4.1 --order 20401", "2.4.2 --order 20402")).ok();
    let before = sandbox.tree();
    let run = sandbox.run("merge --repo repo cam-a.fwsig");
    assert_eq!(run.code, 3, "{}", run.transcript());
    assert_eq!(sandbox.tree(), before, "nothing was changed");
}

#[test]
fn a_forged_signature_is_refused() {
    let sandbox = staged();
    sign(&sandbox, "cam-a");
    let text = String::from_utf8(sandbox.read("cam-a.fwsig")).unwrap();
    let at = text.find("\"sig\":\"").unwrap() + 7;
    let digit = if text[at..].starts_with('0') { "1" } else { "0" };
    sandbox.write("cam-a.fwsig", format!("{}{digit}{}", &text[..at], &text[at + 1..]).as_bytes());
    let run = sandbox.run("merge --repo repo cam-a.fwsig");
    assert_eq!(run.code, 3, "{}", run.transcript());
    assert!(run.stderr.contains("not valid"), "{}", run.stderr);
}

#[test]
fn a_request_that_lies_about_its_version_is_not_signed() {
    let sandbox = staged();
    let text = String::from_utf8(sandbox.read("x.fwreq")).unwrap();
    sandbox.write(
        "x.fwreq",
        text.replacen("\"role\":\"acme-cam\",\"version\":2", "\"role\":\"acme-cam\",\"version\":3", 1).as_bytes(),
    );
    let run = sandbox.run("sign --request x.fwreq --key keys/cam-a.key --out y.fwsig");
    assert_eq!(run.code, 3, "{}", run.transcript());
    assert!(!sandbox.path("y.fwsig").exists());
}

#[test]
fn files_of_another_format_are_refused() {
    let sandbox = staged();
    sign(&sandbox, "cam-a");
    for line in [
        "merge --repo repo x.fwreq",
        "sign --request cam-a.fwsig --key keys/cam-a.key --out y",
        "merge --repo repo notes.md",
    ] {
        assert_eq!(sandbox.run(line).code, 6, "{line}");
    }
}
