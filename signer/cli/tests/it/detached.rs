//! Signing on machines that do not have the repository: requests out, signatures back, in any order.

use crate::sandbox::{Run, Sandbox};
use insta::assert_snapshot;
use serde_json::Value;
use sluice_signer::{Envelope, Json, SigningKey, sha256};

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

/// Runs a holder's program on a request that somebody changed on the way.
fn sign_changed(sandbox: &Sandbox, change: impl FnOnce(&mut Value), more: &[&str]) -> Run {
    let mut request: Value = serde_json::from_slice(&sandbox.read("x.fwreq")).unwrap();
    change(&mut request);
    sandbox.write("changed.fwreq", &serde_json::to_vec(&request).unwrap());
    let run = sandbox.run_with("sign --request changed.fwreq --key keys/cam-a.key --out y.fwsig", more);
    assert_eq!(sandbox.path("y.fwsig").exists(), run.code == 0, "{}", run.transcript());
    run
}

/// The standing document of a role.
fn standing<'a>(request: &'a mut Value, role: &str) -> &'a mut Value {
    let all = request["standing"].as_array_mut().unwrap();
    all.iter_mut().find(|one| one["role"] == role).unwrap()
}

#[test]
fn a_request_is_judged_by_the_signers_own_program() {
    let refused = |reason: &str, change: fn(&mut Value)| {
        let run = sign_changed(&staged(), change, &[]);
        assert_eq!(run.code, 3, "{reason}: {}", run.transcript());
        assert!(run.stderr.contains(reason), "{reason}: {}", run.transcript());
    };
    refused("acme-cam version 3: version 2 would follow", |request| request["documents"][0]["version"] = 3.into());
    refused("the request says version 2, the document another", |request| {
        request["documents"][0]["signed"]["version"] = 7.into();
    });
    refused("does not carry the document that it follows", |request| {
        standing(request, "acme-cam")["envelope"]["signed"]["targets"] = serde_json::json!({});
    });
    refused("does not carry the document that it follows", |request| {
        request["documents"][0]["base"]["version"] = 0.into();
    });
    refused("does not carry the document that it follows", |request| request["documents"][0]["base"] = Value::Null);
    refused("root: 1 of 2", |request| {
        standing(request, "root")["envelope"]["signatures"].as_array_mut().unwrap().pop();
    });
    refused("security counter 2, 7 was published", |request| {
        let targets = &mut request["documents"][0]["signed"]["targets"];
        targets["acme-cam/2.4.1/main.bin"]["custom"]["security_counter"] = 2.into();
    });
    refused("a security release without an advisory", |request| {
        let targets = &mut request["documents"][0]["signed"]["targets"];
        targets["acme-cam/2.4.1/main.bin"]["custom"]["advisories"] = serde_json::json!([]);
    });
    refused("may sign nothing of this request", |request| request["documents"][0]["asked"] = false.into());
}

#[test]
fn a_request_of_another_repository_is_told_by_the_root_that_the_holder_has() {
    let sandbox = staged();
    let with_root = |root: &str| sign_changed(&sandbox, |_| {}, &["--root", root]);
    let run = with_root("repo/metadata/1.root.json").ok();
    assert!(run.stderr.contains("the image repository goes on from repo/metadata/1.root.json"), "{}", run.stderr);
    std::fs::remove_file(sandbox.path("y.fwsig")).unwrap();
    let other = Sandbox::new();
    other.run(&Sandbox::INIT.replace("--id acme", "--id other")).ok();
    other.sign_by(&["root-a", "root-b"]);
    sandbox.write("other.json", &other.read("repo/metadata/1.root.json"));
    let run = with_root("other.json");
    assert_eq!(run.code, 3, "{}", run.transcript());
    assert!(run.stderr.contains("other.json: no root of the image repository"), "{}", run.stderr);
}

#[test]
fn a_request_is_void_after_a_while() {
    let mut sandbox = staged();
    sandbox.run("request --repo repo --out short.fwreq --valid-days 1 --note first\u{7}").ok();
    let run = sandbox.run("sign --request short.fwreq --key keys/cam-a.key --out y.fwsig").ok();
    assert!(run.stderr.contains("note: first\\u{7}"), "what would ring is shown: {}", run.stderr);
    sandbox.now = "2026-06-02T12:00:00Z";
    let run = sandbox.run("sign --request short.fwreq --key keys/cam-a.key --out z.fwsig");
    assert_eq!(run.code, 3, "{}", run.transcript());
    assert!(run.stderr.contains("void from 2026-06-02T12:00:00Z on"), "{}", run.stderr);
    sandbox.run("sign --request x.fwreq --key keys/cam-a.key --out z.fwsig").ok();
}

#[test]
fn images_are_held_against_the_holders_own_copies() {
    let sandbox = staged();
    std::fs::create_dir(sandbox.path("mine")).unwrap();
    let line = "sign --request x.fwreq --key keys/cam-a.key --out y.fwsig --images mine";
    std::fs::copy(sandbox.path("notes.md"), sandbox.path("mine/notes.md")).unwrap();
    let missing = sandbox.run(line);
    assert_eq!(missing.code, 3, "{}", missing.transcript());
    assert!(missing.stderr.contains("acme-cam/2.4.1/main.bin: no file in mine is this image"), "{}", missing.stderr);
    // Another image of the same length, as somebody in the middle would make.
    sandbox.write("mine/cam.bin", &vec![b'x'; sandbox.read("cam-2.4.1.bin").len()]);
    assert_eq!(sandbox.run(line).code, 3);
    std::fs::copy(sandbox.path("cam-2.4.1.bin"), sandbox.path("mine/built.bin")).unwrap();
    let run = sandbox.run(line).ok();
    assert!(run.stderr.contains("acme-cam/2.4.1/main.bin is in mine"), "{}", run.stderr);
    sandbox.run("merge --repo repo y.fwsig").ok();
}

#[test]
fn a_request_carries_what_it_refers_to_and_asks_for_one_role() {
    let sandbox = Sandbox::new();
    for line in [Sandbox::INIT, Sandbox::DELEGATE, Sandbox::V1] {
        sandbox.run(line).ok();
    }
    // Nothing is complete yet: the product's holders come from a document that waits, too.
    sandbox.run("request --repo repo --out x.fwreq --role acme-cam").ok();
    let run = sandbox.run("sign --request x.fwreq --key keys/cam-a.key --out cam-a.fwsig").ok();
    assert!(run.stderr.starts_with("the first root of the image repository is still being signed"), "{}", run.stderr);
    assert_eq!(sandbox.run("sign --request x.fwreq --key keys/lead-a.key --out y.fwsig").code, 3, "not asked for");
    sandbox.run("merge --repo repo cam-a.fwsig").ok();
}

#[test]
fn a_document_whose_holders_changed_is_shown_with_a_warning() {
    let sandbox = Sandbox::with_first_release();
    for (seed, name) in (41..).zip(["cam-d", "cam-e"]) {
        sandbox.holder(name, seed);
    }
    let line =
        "delegate rotate --repo repo --product acme-cam --add keys/cam-d.pub keys/cam-e.pub --remove cam-a cam-b";
    sandbox.run(line).ok();
    sandbox.sign_by(&["lead-a", "lead-b"]);
    sandbox.run("request --repo repo --out x.fwreq").ok();
    let run = sandbox.run("sign --request x.fwreq --key keys/cam-d.key --out y.fwsig").ok();
    assert!(run.stderr.contains("today's holders have not signed the document before it"), "{}", run.stderr);
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

/// The envelope of a document signed by these holders, as a thief would write it who has their keys.
fn signed_by(signed: &Value, holders: &[u8]) -> Value {
    let text = serde_json::to_vec(signed).unwrap();
    let mut envelope = Envelope::new(Json::parse(&text, 1 << 20).unwrap());
    for seed in holders {
        envelope.sign(&SigningKey::from_seed(&[*seed; 32]).unwrap());
    }
    serde_json::from_slice(&envelope.to_bytes()).unwrap()
}

fn digest(signed: &Value) -> String {
    let text = serde_json::to_vec(signed).unwrap();
    hex::encode(sha256(&Json::parse(&text, 1 << 20).unwrap().canonical()))
}

#[test]
fn a_forged_past_does_not_hide_what_is_new() {
    let sandbox = staged();
    // The thief gives cam-a two companions, and lets them have signed a document that lists the new image already.
    let key = |seed: u8| SigningKey::from_seed(&[seed; 32]).unwrap().public().clone();
    let forge = |request: &mut Value| {
        let thieves = [key(201), key(202)];
        let top = &mut standing(request, "targets")["envelope"]["signed"];
        let role = &mut top["delegations"]["roles"][0];
        for thief in &thieves {
            role["keyids"].as_array_mut().unwrap().push(thief.keyid().into());
        }
        role["keyids"].as_array_mut().unwrap().sort_by_key(|id| id.as_str().unwrap().to_owned());
        for thief in &thieves {
            top["delegations"]["keys"][thief.keyid()] = serde_json::from_str(&thief.to_json().to_string()).unwrap();
        }
        let mut past = request["documents"][0]["signed"].clone();
        past["version"] = 1.into();
        *standing(request, "acme-cam") = serde_json::json!({
            "repository": "image", "role": "acme-cam", "version": 1, "envelope": signed_by(&past, &[201, 202]),
        });
        request["documents"][0]["base"] = serde_json::json!({"version": 1, "sha256": digest(&past)});
    };
    let run = sign_changed(&sandbox, forge, &["--root", "repo/metadata/1.root.json"]);
    // The top document is not signed by its holders, so nothing that hangs on it is believed.
    assert_eq!(run.code, 3, "{}", run.transcript());
    assert!(!run.stderr.contains("unchanged"), "{}", run.stderr);
}

#[test]
fn a_root_that_the_holder_has_is_compared_whatever_the_request_carries() {
    let sandbox = staged();
    let root = ["--root", "repo/metadata/1.root.json"];
    let emptied = |request: &mut Value| {
        let standing = std::mem::take(request["standing"].as_array_mut().unwrap());
        let find = |role: &str| standing.iter().find(|one| one["role"] == role).unwrap()["envelope"]["signed"].clone();
        let mut documents = Vec::new();
        for role in ["root", "targets"] {
            documents.push(serde_json::json!({
                "repository": "image", "role": role, "version": 1, "asked": false, "base": null, "signed": find(role),
            }));
        }
        let mut asked = request["documents"][0].clone();
        asked["version"] = 1.into();
        asked["base"] = Value::Null;
        asked["signed"]["version"] = 1.into();
        documents.push(asked);
        request["documents"] = documents.into();
    };
    let run = sign_changed(&sandbox, emptied, &root);
    assert_eq!(run.code, 3, "{}", run.transcript());
    assert!(run.stderr.contains("no root of the image repository"), "{}", run.stderr);
    // The root of one repository says nothing of the other.
    sandbox.run("renew --repo repo --role director-root").ok();
    sandbox.run("request --repo repo --out x.fwreq --role director-root").ok();
    let line = "sign --request x.fwreq --key keys/director-a.key --out y.fwsig --root repo/metadata/1.root.json";
    let run = sandbox.run(line);
    assert_eq!(run.code, 3, "{}", run.transcript());
    sandbox.run(&format!("{line} --root repo/director/metadata/1.root.json")).ok();
}

#[test]
fn a_key_signs_for_its_own_role_and_what_can_be_shown() {
    let sandbox = staged();
    // Another role that names cam-a's key: what is signed for it would be good for acme-cam.
    let stranger = |request: &mut Value| {
        let mut top = standing(request, "targets")["envelope"]["signed"].clone();
        let digest = digest(&top);
        top["version"] = 2.into();
        let mut role = top["delegations"]["roles"][0].clone();
        role["name"] = "acme-test".into();
        role["paths"] = serde_json::json!(["acme-test/*/*"]);
        top["delegations"]["roles"] = serde_json::json!([role]);
        let empty = {
            let mut empty = request["documents"][0]["signed"].clone();
            empty["targets"] = serde_json::json!({});
            empty["version"] = 1.into();
            empty
        };
        request["documents"] = serde_json::json!([
            {"repository": "image", "role": "targets", "version": 2, "asked": false,
             "base": {"version": 1, "sha256": digest}, "signed": top},
            {"repository": "image", "role": "acme-test", "version": 1, "asked": true, "base": null, "signed": empty},
        ]);
    };
    let run = sign_changed(&sandbox, stranger, &[]);
    assert_eq!(run.code, 3, "{}", run.transcript());
    assert!(run.stderr.contains("your key serves acme-cam"), "{}", run.stderr);
    // A field that this program would sign and not show.
    for pointer in ["", "/targets/acme-cam~12.4.1~1main.bin/hashes", "/targets/acme-cam~12.4.1~1main.bin/custom"] {
        let odd = |request: &mut Value| {
            let signed = &mut request["documents"][0]["signed"];
            signed.pointer_mut(pointer).unwrap()["x_hidden"] = "surprise".into();
        };
        let run = sign_changed(&sandbox, odd, &[]);
        assert_eq!(run.code, 3, "{pointer}: {}", run.transcript());
        assert!(run.stderr.contains("that this program does not know"), "{pointer}: {}", run.stderr);
    }
}

#[test]
fn names_are_the_senders_word_and_stand_beside_the_key_id() {
    let sandbox = staged();
    let stranger = SigningKey::from_seed(&[1; 32]).unwrap().public().keyid().to_owned();
    let mut request: Value = serde_json::from_slice(&sandbox.read("x.fwreq")).unwrap();
    request["holders"][&stranger] = "\u{1b}[2Kcam-b".into();
    sandbox.write("changed.fwreq", &serde_json::to_vec(&request).unwrap());
    let run = sandbox.run("sign --request changed.fwreq --key keys/root-a.key --out y.fwsig");
    let shown = format!("key \\u{{1b}}[2Kcam-b ({}-", &stranger[..4]);
    assert!(run.code == 3 && run.stderr.contains(&shown), "{shown}: {}", run.transcript());
    assert!(!run.stderr.contains('\u{1b}'), "{}", run.stderr);
}
