//! Releases that are signed before they are announced: who holds the role, what travels to whom, and how the release comes into the
//! product's own role afterwards.

use crate::sandbox::{Run, Sandbox};
use serde_json::Value;

const MOMENT: &str = "2026-07-01T09:00:00Z";
const AFTER: &str = "2026-07-01T09:00:00Z";
const DELEGATE: &str = "delegate add --repo repo --product acme-cam --embargo \
    --holder keys/early-a.pub keys/early-b.pub keys/early-c.pub";

fn coming() -> String {
    Sandbox::V2.replace("2.4.1 --order 20401", "2.5.0 --order 20500")
}

fn embargoed(line: &str) -> String {
    format!("{line} --embargo-until {MOMENT}")
}

/// The name of the embargo role in the folder, which is random.
fn role(sandbox: &Sandbox) -> String {
    let shown = sandbox.run("status --repo repo --json").ok().json();
    let of = |list: &str| shown[list].as_array().unwrap().iter().map(|one| one["role"].clone()).collect::<Vec<_>>();
    let all = [of("complete"), of("staged")].concat();
    let role = all.iter().filter_map(Value::as_str).find(|role| role.starts_with("embargo-"));
    role.unwrap_or_else(|| panic!("{shown}")).to_owned()
}

fn sandbox() -> Sandbox {
    let sandbox = Sandbox::with_first_release();
    for (seed, name) in (71..).zip(["early-a", "early-b", "early-c", "early-d"]) {
        sandbox.holder(name, seed);
    }
    sandbox
}

/// With an embargo role whose first document is complete.
fn founded() -> Sandbox {
    let sandbox = sandbox();
    sandbox.run(DELEGATE).ok();
    sandbox.sign_by(&["lead-a", "lead-b", "early-a", "early-b"]);
    sandbox
}

/// With a release that waits for its moment.
fn waiting() -> Sandbox {
    let sandbox = founded();
    sandbox.run(&embargoed(&coming())).ok();
    sandbox.sign_by(&["early-a", "early-c"]);
    sandbox
}

#[track_caller]
fn refused(sandbox: &Sandbox, line: &str, reason: &str) -> Run {
    let before = sandbox.tree();
    let run = sandbox.run(line);
    assert_eq!(run.code, 3, "{line}: {}", run.transcript());
    assert!(run.stderr.contains(reason), "{reason}: {}", run.transcript());
    assert_eq!(sandbox.tree(), before, "{reason}");
    run
}

fn document(sandbox: &Sandbox, file: &str) -> Value {
    serde_json::from_slice(&sandbox.read(&format!("repo/metadata/{file}"))).unwrap()
}

fn paths(document: &Value) -> Vec<&str> {
    document["signed"]["targets"].as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn the_role_stands_before_the_products_own_and_its_name_says_nothing() {
    let sandbox = founded();
    let top = document(&sandbox, "2.targets.json");
    let roles = top["signed"]["delegations"]["roles"].as_array().unwrap();
    let name = roles[0]["name"].as_str().unwrap();
    assert_eq!((name.len(), name, roles[1]["name"].as_str()), (24, role(&sandbox).as_str(), Some("acme-cam")));
    assert_eq!(roles[0]["terminating"], false);
    assert_eq!(roles[0]["paths"], roles[1]["paths"]);
    let empty = document(&sandbox, &format!("1.{name}.json"));
    assert!(paths(&empty).is_empty() && empty["signed"]["custom"].get("not_before").is_none());
    sandbox.run("verify --repo repo").ok();
    // A second one is another name; the two are told apart by it.
    for (seed, name) in (81..).zip(["later-a", "later-b", "later-c"]) {
        sandbox.holder(name, seed);
    }
    sandbox.run(&DELEGATE.replace("early", "later")).ok();
    refused(&sandbox, &embargoed(&coming()), "has several embargo roles");
    sandbox.run(&format!("{} --embargo-role {name}", embargoed(&coming()))).ok();
    refused(&sandbox, &format!("{} --embargo-role acme-cam", embargoed(&coming())), "is no embargo role");
}

#[test]
fn its_keys_are_keys_of_no_other_role() {
    let sandbox = sandbox();
    refused(&sandbox, &DELEGATE.replace("early-a", "cam-a"), "every key may serve one role only");
    refused(&sandbox, &format!("{DELEGATE} --threshold 1"), "lets a single holder sign");
    refused(&sandbox, &embargoed(&coming()), "has no embargo role");
    sandbox.run(DELEGATE).ok();
    refused(&sandbox, &embargoed(&coming()), "its first document, which is empty, is not complete yet");
}

#[test]
fn the_role_is_published_with_its_first_document_or_not_at_all() {
    let sandbox = sandbox();
    sandbox.run(DELEGATE).ok();
    sandbox.sign_by(&["lead-a", "lead-b", "early-a"]);
    sandbox.write("token", b"nobody");
    let line = "publish --repo repo --server http://127.0.0.1:9 --token-file token";
    refused(&sandbox, line, "its first document is not complete");
}

#[test]
fn a_release_is_signed_in_advance() {
    let sandbox = founded();
    let role = role(&sandbox);
    let staged = sandbox.run(&coming()).ok();
    assert!(!staged.stdout.contains("shown from"), "{}", staged.stdout);
    sandbox.run("discard --repo repo --role acme-cam").ok();
    let staged = sandbox.run(&format!("{} --embargo-until 2026-07-01T11:00[Europe/Berlin]", coming())).ok();
    assert!(staged.stdout.contains(&format!("+ shown from {MOMENT} on, and not before")), "{}", staged.stdout);
    assert!(staged.stdout.contains("+ acme-cam/2.5.0/main.bin"), "{}", staged.stdout);
    // The product's holders have no say.
    assert_eq!(sandbox.sign("cam-a").code, 3);
    sandbox.sign_by(&["early-a", "early-b"]);
    let signed = document(&sandbox, &format!("2.{role}.json"));
    assert_eq!(signed["signed"]["custom"]["not_before"], MOMENT);
    assert_eq!(paths(&signed), ["acme-cam/2.5.0/main.bin", "acme-cam/2.5.0/notes.md"]);
    let verified = sandbox.run("verify --repo repo --json").ok().json();
    assert_eq!(verified["releases"], 2);
    sandbox.run("audit --repo repo").ok();
    let status = sandbox.run("status --repo repo").ok().stdout;
    assert!(status.contains(&role), "{status}");
    // Ordinary releases of the product go on meanwhile.
    sandbox.run(Sandbox::V2).ok();
    sandbox.sign_by(&["cam-a", "cam-b"]);
    assert_eq!(sandbox.run("verify --repo repo --json").ok().json()["releases"], 3);
}

#[test]
fn moments_that_cannot_be_kept_are_refused() {
    let sandbox = founded();
    let until = |moment: &str| format!("{} --embargo-until {moment}", coming());
    refused(&sandbox, &until("2026-06-01T12:00:00Z"), "has passed");
    refused(&sandbox, &until("2026-12-01"), "no moment");
    refused(&sandbox, &until("2026-10-25T02:30[Europe/Berlin]"), "no moment");
    refused(&sandbox, &until("2026-10-01T00:00:00Z"), "when the document expires");
    refused(&sandbox, &format!("{} --expires-days 129", until("2026-10-01T00:00:00Z")), "renew the role first");
    let far = format!("{} --expires-days 200 --override lifetime=x", until("2026-12-01T00:00:00Z"));
    refused(&sandbox, &far, "more than 180 days ahead");
}

#[test]
fn the_roles_of_a_product_agree_on_versions_orders_and_trains() {
    let sandbox = founded();
    let changed = |from: &str, to: &str| embargoed(&coming().replace(from, to));
    refused(&sandbox, &changed("20500", "20400"), "has the order of acme-cam/2.4.0/main.bin");
    refused(&sandbox, &changed("2.5.0", "2.4.0"), "has the path and not the content");
    refused(&sandbox, &changed("2026-03-01", "2026-03-02"), "has the train and not its day");
    refused(&sandbox, &changed("--security-counter 8", "--security-counter 6"), "security counter 6");
    refused(&sandbox, &changed("--min-installed 2.4.0", "--min-installed 2.3.0"), "min_installed 2.3.0");
    sandbox.run("product set --repo repo --product acme-cam --require sbom").ok();
    refused(&sandbox, &embargoed(&coming()), "product acme-cam requires sbom");
    let sandbox = waiting();
    let taken = coming().replace("2.5.0", "2.4.9");
    refused(&sandbox, &taken, "has the order of acme-cam/2.5.0/main.bin");
    // It raises no floor and is no floor before it is shown.
    sandbox.run(&Sandbox::V2.replace("--security-counter 8", "--security-counter 7")).ok();
    refused(&sandbox, &Sandbox::V2.replace("--min-installed 2.4.0", "--min-installed 2.5.0"), "min_installed 2.5.0");
}

#[test]
fn what_is_not_announced_travels_to_its_own_holders_alone() {
    let sandbox = founded();
    let role = role(&sandbox);
    sandbox.run(&embargoed(&coming())).ok();
    sandbox.run(Sandbox::V2).ok();
    let both = sandbox.run("request --repo repo --out product.fwreq").ok();
    assert!(both.stderr.contains(&format!("ask for it alone with --role {role}")), "{}", both.stderr);
    let request = String::from_utf8(sandbox.read("product.fwreq")).unwrap();
    assert!(request.contains("2.4.1") && !request.contains("2.5.0"), "the product's holders learn nothing");
    sandbox.run("sign --request product.fwreq --key keys/cam-a.key --out cam-a.fwsig").ok();

    sandbox.run(&format!("request --repo repo --role {role} --out early.fwreq")).ok();
    for holder in ["early-a", "early-b"] {
        let line = format!("sign --request early.fwreq --key keys/{holder}.key --out {holder}.fwsig");
        let run = sandbox.run(&line).ok();
        assert!(run.stderr.contains(&format!("+ shown from {MOMENT} on")), "{}", run.stderr);
        assert!(!run.stderr.contains("not signed the document before"), "{}", run.stderr);
    }
    sandbox.run("merge --repo repo early-a.fwsig early-b.fwsig cam-a.fwsig").ok();
    sandbox.sign_by(&["cam-b"]);
    sandbox.run("verify --repo repo").ok();
    // What waits and is complete is in no request for the product either; what is shown is, to be judged by.
    let next = Sandbox::V2.replace("2.4.1 --order 20401", "2.4.2 --order 20402");
    sandbox.run(&next).ok();
    sandbox.run("request --repo repo --out next.fwreq").ok();
    assert!(!String::from_utf8(sandbox.read("next.fwreq")).unwrap().contains("2.5.0"));
    let mut sandbox = sandbox;
    sandbox.now = AFTER;
    sandbox.run("request --repo repo --out next.fwreq").ok();
    assert!(String::from_utf8(sandbox.read("next.fwreq")).unwrap().contains("2.5.0"));
    sandbox.run("sign --request next.fwreq --key keys/cam-c.key --out cam-c.fwsig").ok();
}

#[test]
fn a_release_is_taken_over_when_it_was_announced() {
    let mut sandbox = waiting();
    let role = role(&sandbox);
    let adopt = "release adopt --repo repo --product acme-cam --version 2.5.0";
    refused(&sandbox, adopt, "is shown from 2026-07-01T09:00:00Z on, and not before");
    sandbox.now = AFTER;
    refused(&sandbox, &adopt.replace("2.5.0", "2.9.0"), "no embargo role of acme-cam signed a release 2.9.0");
    let staged = sandbox.run(adopt).ok().stdout;
    assert!(staged.contains("+ acme-cam/2.5.0/main.bin") && staged.contains("- acme-cam/2.5.0/main.bin"), "{staged}");
    // The embargo role's document is not complete before the product's: no server withdraws the release in between.
    sandbox.sign_by(&["early-a", "early-b"]);
    assert!(!sandbox.path(&format!("repo/metadata/3.{role}.json")).exists());
    sandbox.sign_by(&["cam-a", "cam-b"]);
    let (own, embargo) = (document(&sandbox, "2.acme-cam.json"), document(&sandbox, &format!("3.{role}.json")));
    assert!(paths(&own).contains(&"acme-cam/2.5.0/main.bin") && paths(&embargo).is_empty());
    let before = document(&sandbox, &format!("2.{role}.json"));
    let entry = |document: &Value| document["signed"]["targets"]["acme-cam/2.5.0/main.bin"].clone();
    assert_eq!(entry(&own), entry(&before));
    assert_eq!(sandbox.run("verify --repo repo --json").ok().json()["releases"], 2);
    sandbox.run("audit --repo repo").ok();
}

#[test]
fn a_product_whose_name_comes_later_takes_a_release_over_first_too() {
    let of = |line: &str| line.replace("acme-cam", "zoom-cam");
    let mut sandbox = Sandbox::new();
    for (seed, name) in (71..).zip(["early-a", "early-b", "early-c"]) {
        sandbox.holder(name, seed);
    }
    for line in [Sandbox::INIT, &of(Sandbox::DELEGATE), &of(DELEGATE), &of(Sandbox::V1)] {
        sandbox.run(line).ok();
    }
    sandbox.sign_by(&["root-a", "root-b", "director-a", "director-b", "lead-a", "lead-b"]);
    sandbox.sign_by(&["cam-a", "cam-b", "early-a", "early-b"]);
    let role = role(&sandbox);
    sandbox.run(&embargoed(&of(&coming()))).ok();
    sandbox.sign_by(&["early-a", "early-b"]);
    sandbox.now = AFTER;
    sandbox.run(&of("release adopt --repo repo --product acme-cam --version 2.5.0")).ok();
    sandbox.sign_by(&["early-a", "early-b", "cam-a"]);
    assert!(!sandbox.path(&format!("repo/metadata/3.{role}.json")).exists());
    sandbox.sign_by(&["cam-b"]);
    assert!(sandbox.path(&format!("repo/metadata/3.{role}.json")).exists(), "both are complete at once");
    sandbox.run("verify --repo repo").ok();
}

#[test]
fn a_release_is_withdrawn_from_every_role_that_signs_it() {
    let sandbox = waiting();
    let role = role(&sandbox);
    let run = sandbox.run("release withdraw --repo repo --product acme-cam --version 2.5.0").ok();
    assert!(run.stderr.contains("is shown anew at its moment"), "{}", run.stderr);
    sandbox.sign_by(&["early-b", "early-c"]);
    assert!(paths(&document(&sandbox, &format!("3.{role}.json"))).is_empty());
    sandbox.run("release withdraw --repo repo --product acme-cam --version 2.4.0").ok();
    sandbox.sign_by(&["cam-b", "cam-c"]);
    assert!(paths(&document(&sandbox, "2.acme-cam.json")).is_empty());
    refused(&sandbox, "release withdraw --repo repo --product acme-cam --version 2.5.0", "is no signed release");
}

#[test]
fn the_role_is_renewed_rotated_rehearsed_and_revoked_like_a_products() {
    let sandbox = waiting();
    let role = role(&sandbox);
    sandbox.run(&format!("renew --repo repo --role {role}")).ok();
    sandbox.sign_by(&["early-a", "early-b"]);
    let renewed = document(&sandbox, &format!("3.{role}.json"));
    assert_eq!(renewed["signed"]["custom"]["not_before"], MOMENT, "it still waits");
    let report = sandbox.run(&format!("drill holder --repo repo --role {role} --json")).ok().json();
    assert_eq!(report["survives"], true, "{report}");
    sandbox.run("drill online --repo repo").ok();

    let rotate = "delegate rotate --repo repo --product acme-cam --embargo --add keys/early-d.pub --remove early-a";
    let run = refused(&sandbox, rotate, "version 3 waits for 2026-07-01T09:00:00Z");
    assert!(run.stderr.contains("--go-on-from"), "{}", run.stderr);
    refused(&sandbox, &format!("{rotate} --go-on-from 2"), "version 2 is none that is shown");
    sandbox.run(&format!("{rotate} --go-on-from 1")).ok();
    sandbox.sign_by(&["lead-a", "lead-b", "early-b", "early-d"]);
    let rotated = document(&sandbox, &format!("4.{role}.json"));
    assert!(paths(&rotated).is_empty() && rotated["signed"]["custom"].get("not_before").is_none());
    sandbox.run(&embargoed(&coming())).ok();
    assert_eq!(sandbox.sign("early-a").code, 3, "who left signs nothing");
    sandbox.sign_by(&["early-b", "early-d"]);
    sandbox.run("verify --repo repo").ok();
    sandbox.run("audit --repo repo").ok();

    sandbox.run("delegate revoke --repo repo --product acme-cam --embargo").ok();
    sandbox.sign_by(&["lead-a", "lead-c"]);
    assert_eq!(sandbox.run("verify --repo repo --json").ok().json()["releases"], 1);
    refused(&sandbox, &embargoed(&coming()), "has no embargo role");
}
