//! Mistakes that are refused before anybody signs. Each leaves the folder as it was.

use crate::sandbox::{Run, Sandbox};
use insta::assert_snapshot;

fn refused(sandbox: &Sandbox, line: &str) -> Run {
    let before = if sandbox.path("repo").exists() { sandbox.tree() } else { Vec::new() };
    let run = sandbox.run(line);
    assert_eq!(run.code, 3, "{}", run.transcript());
    assert!(run.stderr.contains("next: "), "every refusal says what to do: {}", run.stderr);
    let after = if sandbox.path("repo").exists() { sandbox.tree() } else { Vec::new() };
    assert_eq!(after, before, "{line}");
    run
}

fn message(line: &str) -> String {
    refused(&Sandbox::with_first_release(), line).stderr
}

#[test]
fn a_root_with_a_threshold_of_one() {
    let sandbox = Sandbox::new();
    assert_snapshot!(refused(&sandbox, &format!("{} --threshold 1", Sandbox::INIT)).stderr);
}

#[test]
fn a_root_that_the_loss_of_one_key_would_lock() {
    let sandbox = Sandbox::new();
    assert_snapshot!(refused(&sandbox, &format!("{} --threshold 3", Sandbox::INIT)).stderr);
}

#[test]
fn a_root_with_two_holders() {
    let sandbox = Sandbox::new();
    assert_snapshot!(
        refused(&sandbox, &Sandbox::INIT.replace("keys/root-b.pub keys/root-c.pub", "keys/root-b.pub")).stderr
    );
}

#[test]
fn one_key_in_two_roles() {
    let sandbox = Sandbox::new();
    assert_snapshot!(refused(&sandbox, &Sandbox::INIT.replace("lead-a", "root-a")).stderr);
    sandbox.run(Sandbox::INIT).ok();
    let shared = Sandbox::DELEGATE.replace("cam-a", "director-a");
    assert!(refused(&sandbox, &shared).stderr.contains("every key may serve one role only"));
}

#[test]
fn one_holder_given_twice() {
    let sandbox = Sandbox::new();
    let run = refused(&sandbox, &Sandbox::INIT.replace("root-c", "root-a"));
    assert!(run.stderr.contains("2 holders; 3 at least are required"), "{}", run.stderr);
}

#[test]
fn a_second_root_in_the_same_folder() {
    let sandbox = Sandbox::with_first_release();
    refused(&sandbox, Sandbox::INIT);
}

#[test]
fn a_product_given_twice() {
    assert!(message(Sandbox::DELEGATE).contains("has its holders already"));
}

#[test]
fn a_release_of_an_unknown_product() {
    let line = Sandbox::V2.replace("--product acme-cam", "--product acme-phone");
    assert!(message(&line).contains("product acme-phone is given to nobody"));
}

#[test]
fn a_security_release_without_an_advisory() {
    assert_snapshot!(message(&Sandbox::V2.replace("--advisory ACME-2026-0012", "")));
}

#[test]
fn a_security_counter_that_goes_down() {
    assert_snapshot!(message(&Sandbox::V2.replace("--security-counter 8", "--security-counter 6")));
}

#[test]
fn a_published_path_with_other_content() {
    let line = Sandbox::V1.replace("main=cam-2.4.0.bin", "main=cam-2.4.1.bin");
    assert_snapshot!(message(&line));
}

#[test]
fn two_versions_in_one_place_of_the_order() {
    assert_snapshot!(message(&Sandbox::V2.replace("--order 20401", "--order 20400")));
}

#[test]
fn a_minimum_version_that_nobody_signed() {
    assert_snapshot!(message(&Sandbox::V2.replace("--min-installed 2.4.0", "--min-installed 2.3.0")));
}

#[test]
fn a_document_that_lives_too_long() {
    assert_snapshot!(message(&format!("{} --expires-days 900", Sandbox::V2)));
}

#[test]
fn characters_beyond_ascii() {
    let line = Sandbox::V2.replace("--hw-id cam-r3", "--hw-id caméra");
    assert!(message(&line).contains("printable ASCII"));
}

#[test]
fn facts_that_cannot_be_read() {
    for (good, bad, says) in [
        ("--train-ga 2026-03-01", "--train-ga March", "write YYYY-MM-DD"),
        ("--kind security", "--kind urgent", "use security, maintenance, feature or recovery"),
        ("--version 2.4.1", "--version 2/4", "leave the slash out"),
        ("--component main=cam-2.4.1.bin", "--component cam-2.4.1.bin", "main=build/cam.bin"),
        ("--component main=cam-2.4.1.bin", "--component main=notes.md --component main=notes.md", "once"),
    ] {
        let text = message(&Sandbox::V2.replace(good, bad));
        assert!(text.contains(says), "{bad}: {text}");
    }
}

#[test]
fn a_key_without_a_say() {
    let sandbox = Sandbox::with_first_release();
    sandbox.run(Sandbox::V2).ok();
    assert!(refused(&sandbox, "sign --repo repo --key keys/lead-a.key").stderr.contains("may sign nothing"));
}

#[test]
fn an_image_that_changed_after_it_was_staged() {
    let sandbox = Sandbox::with_first_release();
    sandbox.run(Sandbox::V2).ok();
    let digest = hex::encode(sluice_signer::sha256(&sandbox.read("cam-2.4.1.bin")));
    sandbox.write(&format!("repo/targets/{digest}"), b"something else");
    let run = refused(&sandbox, "sign --repo repo --key keys/cam-a.key");
    assert!(run.stderr.contains("is not the image to be signed"), "{}", run.stderr);
}

#[test]
fn a_half_signed_document_is_replaced_only_after_it_was_discarded() {
    let sandbox = Sandbox::with_first_release();
    sandbox.run(Sandbox::V2).ok();
    sandbox.sign("cam-a").ok();
    let third = Sandbox::V2.replace("2.4.1 --order 20401", "2.4.2 --order 20402");
    assert_snapshot!(refused(&sandbox, &third).stderr);
    sandbox.run("discard --repo repo --role acme-cam").ok();
    sandbox.run(&third).ok();
    refused(&sandbox, "discard --repo repo --role targets");
}

#[test]
fn a_folder_that_is_none() {
    let sandbox = Sandbox::new();
    for command in ["status", "verify", "request --out x", "discard --role root"] {
        let run = sandbox.run(&format!("{command} --repo nowhere"));
        assert_eq!(run.code, 6, "{}", run.transcript());
        assert!(run.stderr.contains("root init"), "{}", run.stderr);
    }
}
