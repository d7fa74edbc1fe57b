//! Documents that must be refused: nothing changes, the device keeps running what it has.

use jiff::SignedDuration;
use sluice_agent::{AgentError, Outcome};
use sluice_catalog::rollout::{AttemptState, Failure};
use sluice_signer::{AgreeError, FullEncoding, VerifyError};

use crate::device::{Device, setting, setting_at};
use crate::server::Server;
use crate::world::{World, key};

/// The round is refused for this reason, nothing was downloaded, and 1.0 runs.
#[track_caller]
fn refused(world: &World, server: &Server, device: &Device, expected: impl Fn(&AgentError) -> bool) -> AgentError {
    let error = device.once().unwrap_err();
    assert!(expected(&error), "{error}");
    assert_eq!(error.exit_code(), 11, "{error}");
    assert_eq!(server.script().count("GET", "/v1/blobs/"), 0);
    device.assert_runs(world, "1.0");
    error
}

fn is_verify(error: &AgentError, expected: impl Fn(&VerifyError) -> bool) -> bool {
    matches!(error, AgentError::Refused { source, .. } if expected(source))
}

fn is_agree(error: &AgentError, expected: impl Fn(&AgreeError) -> bool) -> bool {
    matches!(error, AgentError::Disagreed(source) if expected(source))
}

fn offering() -> (World, Server, Device) {
    let (world, server, device) = setting();
    server.offer(7, world.offer("2.0", None, FullEncoding::Zstd));
    (world, server, device)
}

#[test]
fn a_flipped_byte_in_the_director_document() {
    let (world, server, device) = offering();
    server.script().tamper = Some(Box::new(|bytes| {
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.contains("\"OFFERED\""));
        text.replace("\"OFFERED\"", "\"OFFEREE\"").into_bytes()
    }));
    refused(&world, &server, &device, |error| is_verify(error, |e| matches!(e, VerifyError::Threshold { .. })));
    assert!(server.script().reports.is_empty(), "an unsigned number is nothing to report under");
    // The next honest answer is taken.
    server.script().tamper = None;
    assert_eq!(device.once().unwrap().outcome, Outcome::Updated);
}

#[test]
fn another_devices_document() {
    let (world, server, device) = offering();
    server.script().change =
        Some(Box::new(|document| document.device_id = "0195a1b2-c3d4-7000-8000-000000000000".to_owned()));
    refused(&world, &server, &device, |error| is_verify(error, |e| matches!(e, VerifyError::WrongDevice { .. })));
}

#[test]
fn a_replayed_answer() {
    let (world, server, device) = offering();
    // "Nothing for you", captured on an earlier day.
    server.script().offer = None;
    device.once().unwrap();
    let captured = server.script().last_envelope.clone();
    server.offer(8, world.offer("2.0", None, FullEncoding::Zstd));
    server.script().replay = Some(captured);
    device.now.set(device.now.get() + SignedDuration::from_hours(25));
    let error = device.once().unwrap_err();
    assert!(is_verify(&error, |e| matches!(e, VerifyError::WrongNonce { .. })), "{error}");
}

#[test]
fn an_expired_document() {
    let (world, server, device) = offering();
    server.script().now -= SignedDuration::from_hours(3);
    refused(&world, &server, &device, |error| is_verify(error, |e| matches!(e, VerifyError::Expired { .. })));
}

#[test]
fn an_older_version_of_the_document() {
    let (world, server, device) = offering();
    server.script().offer = None;
    device.once().unwrap();
    server.offer(8, world.offer("2.0", None, FullEncoding::Zstd));
    server.script().change = Some(Box::new(|document| document.version = 5));
    // What is held has ended, so the device asks afresh.
    device.now.set(device.now.get() + SignedDuration::from_hours(25));
    server.script().now = device.now.get();
    let error = device.once().unwrap_err();
    assert!(is_verify(&error, |e| matches!(e, VerifyError::Rollback { .. })), "{error}");
    device.assert_runs(&world, "1.0");
}

#[test]
fn an_offer_that_lives_longer_than_an_hour() {
    let (world, server, device) = offering();
    // The server's own library does not sign such a document; a stolen key in other hands would.
    server.script().tamper = Some(Box::new(|bytes| {
        let limits = sluice_signer::Limits::default();
        let envelope = sluice_signer::Envelope::parse("director", &bytes, limits.director_bytes, &limits).unwrap();
        let mut document = sluice_signer::DirectorDocument::from_json(envelope.signed(), &limits).unwrap();
        document.expires = document.server_time + SignedDuration::from_hours(2);
        let mut envelope = sluice_signer::Envelope::new(document.to_json());
        envelope.sign(&key("director"));
        envelope.to_bytes()
    }));
    refused(&world, &server, &device, |error| is_verify(error, |e| matches!(e, VerifyError::DirectorLifetime { .. })));
}

#[test]
fn a_flipped_byte_in_each_metadata_file() {
    let names = ["timestamp.json", "2.snapshot.json", "1.targets.json", "2.acme-cam.json"];
    for name in names {
        let (world, server, device) = offering();
        let mut files = world.files(2);
        let bytes = files.get_mut(&format!("/metadata/{name}")).unwrap();
        let at = bytes.iter().position(|&byte| byte == b'2').unwrap();
        bytes[at] = b'3';
        server.script().files = files;
        let error = refused(&world, &server, &device, |error| matches!(error, AgentError::Refused { .. }));
        let script = server.script();
        let told = script.reports.last().unwrap_or_else(|| panic!("{name}: {error}"));
        assert_eq!((told.attempt, told.state), (7, AttemptState::Failed), "{name}");
        assert_eq!(told.failure, Some(Failure::MetadataRejected), "{name}");
    }
}

#[test]
fn a_rollback_of_the_repository() {
    let (world, server, device) = setting();
    server.script().files = world.files(5);
    server.offer(7, world.offer("2.0", None, FullEncoding::Zstd));
    assert_eq!(device.once().unwrap().outcome, Outcome::Updated);
    server.script().files = world.files(4);
    server.offer(8, world.offer("3.0", None, FullEncoding::Zstd));
    let error = device.once().unwrap_err();
    assert!(is_verify(&error, |e| matches!(e, VerifyError::Rollback { .. })), "{error}");
    device.assert_runs(&world, "2.0");
}

#[test]
fn expired_metadata() {
    let (world, server, device) = offering();
    // The server forgot to sign its timestamp again.
    device.now.set(device.now.get() + SignedDuration::from_hours(30));
    server.script().now = device.now.get();
    refused(&world, &server, &device, |error| is_verify(error, |e| matches!(e, VerifyError::Expired { .. })));
}

#[test]
fn an_image_below_the_security_floor() {
    let (mut world, server, device) = setting();
    world.release_mut("2.0").security_counter = 2;
    server.script().files = world.files(2);
    server.offer(7, world.offer("2.0", None, FullEncoding::Zstd));
    refused(&world, &server, &device, |error| is_agree(error, |e| matches!(e, AgreeError::SecurityCounter { .. })));
    assert_eq!(server.script().reports.last().unwrap().failure, Some(Failure::PolicyRejected));
}

#[test]
fn an_image_for_other_hardware_or_another_channel() {
    let (mut world, server, device) = setting();
    world.release_mut("2.0").hw_ids = vec!["cam-r9"];
    world.release_mut("3.0").channels = vec!["beta"];
    server.script().files = world.files(2);
    server.offer(7, world.offer("2.0", None, FullEncoding::Zstd));
    refused(&world, &server, &device, |error| is_agree(error, |e| matches!(e, AgreeError::Hardware { .. })));
    server.offer(8, world.offer("3.0", None, FullEncoding::Zstd));
    refused(&world, &server, &device, |error| is_agree(error, |e| matches!(e, AgreeError::Channel { .. })));
}

#[test]
fn an_image_that_needs_a_newer_version_first() {
    let (mut world, server, device) = setting();
    world.release_mut("3.0").min_installed = Some("2.0");
    server.script().files = world.files(2);
    server.offer(7, world.offer("3.0", None, FullEncoding::Zstd));
    refused(&world, &server, &device, |error| is_agree(error, |e| matches!(e, AgreeError::MinInstalled { .. })));
    // Through the stepping stone it goes.
    server.offer(8, world.offer("2.0", None, FullEncoding::Zstd));
    assert_eq!(device.once().unwrap().outcome, Outcome::Updated);
    server.offer(9, world.offer("3.0", None, FullEncoding::Zstd));
    assert_eq!(device.once().unwrap().outcome, Outcome::Updated);
    device.assert_runs(&world, "3.0");
}

#[test]
fn an_image_that_only_the_director_knows() {
    let (world, server, device) = setting();
    let (mut target, blobs) = world.offer("2.0", None, FullEncoding::Zstd);
    target.path = "acme-cam/9.9/main.bin".to_owned();
    server.offer(7, (target, blobs));
    refused(&world, &server, &device, |error| matches!(error, AgentError::OfferRefused(_)));
}

#[test]
fn an_image_that_the_director_calls_by_another_digest() {
    let (world, server, device) = setting();
    let (mut target, blobs) = world.offer("2.0", None, FullEncoding::Zstd);
    target.sha256[0] ^= 1;
    server.offer(7, (target, blobs));
    refused(&world, &server, &device, |error| is_agree(error, |e| matches!(e, AgreeError::Hash { .. })));
}

#[test]
fn an_oversized_answer() {
    let (world, server, device) = offering();
    server.script().files.insert("/metadata/timestamp.json".to_owned(), vec![b' '; 1 << 20]);
    let error = device.once().unwrap_err();
    assert!(matches!(&error, AgentError::Protocol { detail, .. } if detail.contains("limit of 16384")), "{error}");
    device.assert_runs(&world, "1.0");
}

#[test]
fn a_stolen_director_key_ends_with_the_next_root() {
    let (world, server, device) = offering();
    server.script().director_key = key("thief");
    refused(&world, &server, &device, |error| is_verify(error, |e| matches!(e, VerifyError::Threshold { .. })));
    // The offline holders name a new key; the device follows, and the old floors are void.
    let rotated = world.root(2, &world.keys.director_root, &key("director 2"));
    let mut script = server.script();
    script.files.insert("/director/2.root.json".to_owned(), rotated);
    script.director_key = key("director 2");
    drop(script);
    assert_eq!(device.once().unwrap().outcome, Outcome::Updated);
    device.assert_runs(&world, "2.0");
}

#[test]
fn a_device_without_a_clock_learns_the_time_from_the_signed_answer() {
    let (world, server, device) = setting_at(crate::device::noon(), |_| ());
    device.now.set(jiff::Timestamp::UNIX_EPOCH);
    device.once().unwrap();
    // Now it knows: metadata that ended before that time is refused although the system clock says 1970.
    let mut stale = World::new(world.now - SignedDuration::from_hours(24 * 200));
    stale.releases.clone_from(&world.releases);
    server.script().files = stale.files(2);
    server.script().files.insert("/director/1.root.json".to_owned(), world.director_root(1));
    server.offer(7, world.offer("2.0", None, FullEncoding::Zstd));
    let error = device.once().unwrap_err();
    assert!(is_verify(&error, |e| matches!(e, VerifyError::Expired { .. })), "{error}");
}

#[test]
fn a_stolen_director_key_cannot_push_the_clock_past_the_root() {
    let (world, server, device) = setting();
    device.now.set(jiff::Timestamp::UNIX_EPOCH);
    server.script().now = "2099-01-01T00:00:00Z".parse().unwrap();
    device.once().unwrap();
    let clock = device.with_agent(|agent| Ok(agent.now())).unwrap();
    assert!(clock < world.now + SignedDuration::from_hours(24 * 365), "{clock}");
}
