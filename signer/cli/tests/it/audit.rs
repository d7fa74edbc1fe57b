//! `audit`: what was ever signed, gone through again.

use crate::sandbox::Sandbox;
use insta::assert_snapshot;

/// Two releases, a holder of the root replaced, and the product's holders too.
fn with_a_history() -> Sandbox {
    let sandbox = Sandbox::with_first_release();
    for (seed, name) in (41..).zip(["root-d", "cam-d"]) {
        sandbox.holder(name, seed);
    }
    let late = format!("{} --expires-days 200", Sandbox::V2);
    sandbox.run_with(&late, &["--override", "lifetime=The factory is closed until autumn."]).ok();
    for holder in ["cam-a", "cam-b"] {
        sandbox.run(&format!("sign --repo repo --key keys/{holder}.key --agree-to-override lifetime")).ok();
    }
    sandbox.run("root rotate --repo repo --add keys/root-d.pub --remove root-a").ok();
    sandbox.run("delegate rotate --repo repo --product acme-cam --add keys/cam-d.pub --remove cam-a").ok();
    sandbox.sign_by(&["root-b", "root-c", "lead-a", "lead-c", "cam-c", "cam-d"]);
    sandbox
}

#[test]
fn a_history_in_which_everything_holds() {
    let sandbox = with_a_history();
    assert_snapshot!("history", sandbox.run("audit --repo repo").ok().transcript());
    let report = sandbox.run("audit --repo repo --json").ok().json();
    assert_eq!(report["documents"].as_array().unwrap().len(), 8);
}

/// Changes a file of the folder and returns what the audit finds.
fn found(change: impl FnOnce(&Sandbox)) -> Vec<String> {
    let sandbox = with_a_history();
    change(&sandbox);
    let run = sandbox.run("audit --repo repo --json");
    assert_eq!(run.code, 1, "{}", run.transcript());
    run.json()["findings"].as_array().unwrap().iter().map(|finding| finding.as_str().unwrap().to_owned()).collect()
}

fn replace(sandbox: &Sandbox, file: &str, from: &str, to: &str) {
    let text = String::from_utf8(sandbox.read(file)).unwrap();
    assert!(text.contains(from), "{file}");
    sandbox.write(file, text.replace(from, to).as_bytes());
}

#[test]
fn what_was_changed_afterwards_is_found() {
    let counter = found(|sandbox| {
        replace(sandbox, "repo/metadata/1.acme-cam.json", "\"security_counter\":7", "\"security_counter\":6");
    });
    assert_eq!(
        counter,
        [
            "acme-cam version 1: not signed by enough holders of its time",
            "acme-cam/2.4.0/main.bin: acme-cam version 2 signs something else than version 1 did",
            "acme-cam/2.4.0/main.bin: acme-cam version 3 signs something else than version 1 did",
        ]
    );
    let gone = found(|sandbox| std::fs::remove_file(sandbox.path("repo/metadata/2.acme-cam.json")).unwrap());
    assert_eq!(gone, ["acme-cam: version 2 is missing"]);
    let root = found(|sandbox| replace(sandbox, "repo/metadata/2.root.json", "acme-image", "other-image"));
    assert!(root[0].starts_with("the chain of roots does not hold: root"), "{root:?}");
    let broken = found(|sandbox| sandbox.write("repo/metadata/1.targets.json", b"{"));
    assert!(broken.iter().any(|finding| finding.starts_with("targets: ")), "{broken:?}");
}
