//! Sessions, polls, and offers that change their mind.

use std::sync::atomic::{AtomicU32, Ordering};

use jiff::SignedDuration;
use sluice_agent::{AgentError, Outcome};
use sluice_signer::FullEncoding;

use crate::device::{Device, noon, setting};
use crate::server::Server;
use crate::world::World;

#[test]
fn a_device_that_is_not_enrolled_says_what_to_do() {
    let world = World::new(noon());
    let server = Server::start(world.now, world.files(1));
    let device = Device::provisioned(&world, &server, |_| ());
    let error = device.once().unwrap_err();
    assert_eq!(error.to_string(), "not enrolled; run `sluice-agent enrol` first");
    assert_eq!(error.exit_code(), 3);
}

#[test]
fn a_session_token_is_kept_across_rounds() {
    let (_world, server, device) = setting();
    device.once().unwrap();
    device.once().unwrap();
    assert_eq!(server.script().sessions, 1);
}

#[test]
fn a_revoked_token_is_replaced_once() {
    let (_world, server, device) = setting();
    device.once().unwrap();
    server.script().token = "raised epoch".to_owned();
    assert_eq!(device.once().unwrap().outcome, Outcome::UpToDate);
    assert_eq!(server.script().sessions, 2);
}

#[test]
fn a_server_that_refuses_the_new_token_too_means_it() {
    let (world, server, device) = setting();
    server.script().statuses = std::iter::repeat_n(("/director/2.root.json".to_owned(), 401), 4).collect();
    let error = device.once().unwrap_err();
    assert!(matches!(error, AgentError::Denied { status: 401, .. }), "{error}");
    assert_eq!(error.exit_code(), 3);
    assert_eq!(server.script().sessions, 2, "one renewal in a round");
    device.assert_runs(&world, "1.0");
}

#[test]
fn a_blocked_device_hears_why() {
    let (_world, server, device) = setting();
    server.script().statuses = [("/v1/session".to_owned(), 403)].into();
    let error = device.once().unwrap_err();
    assert!(matches!(error, AgentError::Denied { status: 403, .. }), "{error}");
}

#[test]
fn a_denial_carries_its_reason_and_is_no_failure() {
    let (_world, server, device) = setting();
    server.script().reason = "TRAIN_GA_NOT_COVERED".to_owned();
    let report = device.once().unwrap();
    assert_eq!((report.outcome, report.reason.as_deref()), (Outcome::NothingOffered, Some("TRAIN_GA_NOT_COVERED")));
    assert_eq!(report.exit_code(), 0);
}

#[test]
fn an_answer_that_ended_is_asked_for_afresh() {
    let (_world, server, device) = setting();
    device.once().unwrap();
    let signed_polls = server.script().count("POST", "/v1/poll");
    device.now.set(device.now.get() + SignedDuration::from_hours(25));
    server.script().now = device.now.get();
    assert_eq!(device.once().unwrap().outcome, Outcome::UpToDate);
    assert_eq!(server.script().count("POST", "/v1/poll"), signed_polls + 1);
}

#[test]
fn a_new_offer_is_found_by_the_cheap_poll() {
    let (world, server, device) = setting();
    device.once().unwrap();
    server.offer(2, world.offer("2.0", None, FullEncoding::Zstd));
    assert_eq!(device.once().unwrap().outcome, Outcome::Updated);
    device.assert_runs(&world, "2.0");
}

#[test]
fn every_switch_stands_right_behind_a_poll_with_a_nonce_of_its_own() {
    let (world, server, device) = setting();
    server.offer(1, world.offer("2.0", None, FullEncoding::Zstd));
    device.once().unwrap();
    let script = server.script();
    let nonces: Vec<serde_json::Value> = script
        .seen
        .iter()
        .filter(|seen| seen.method == "POST" && seen.path == "/v1/poll")
        .map(|seen| serde_json::from_slice::<serde_json::Value>(&seen.body).unwrap()["nonce"].clone())
        .collect();
    assert_eq!(nonces.len(), 3, "the offer, the word before the switch, the word on the new version");
    assert!(nonces[0] != nonces[1] && nonces[1] != nonces[2] && nonces.iter().all(serde_json::Value::is_string));
}

/// From the second signed poll on the director offers nothing.
fn withdraw_before_the_switch(server: &Server) {
    let polls = AtomicU32::new(0);
    server.script().change = Some(Box::new(move |document| {
        if polls.fetch_add(1, Ordering::SeqCst) > 0 {
            document.targets.clear();
            "ROLLOUT_PAUSED".clone_into(&mut document.reason);
        }
    }));
}

#[test]
fn an_offer_taken_back_before_the_switch_is_not_installed() {
    let (world, server, device) = setting();
    server.offer(1, world.offer("2.0", None, FullEncoding::Zstd));
    withdraw_before_the_switch(&server);
    let report = device.once().unwrap();
    assert_eq!((report.outcome, report.reason.as_deref()), (Outcome::Withdrawn, Some("ROLLOUT_PAUSED")));
    device.assert_runs(&world, "1.0");
    assert!(!server.script().reports.iter().any(|event| event.failure.is_some()));
    assert_eq!(device.once().unwrap().outcome, Outcome::NothingOffered);
}

#[test]
fn an_offer_that_comes_back_needs_no_second_download() {
    let (world, server, device) = setting();
    server.offer(1, world.offer("2.0", None, FullEncoding::Zstd));
    withdraw_before_the_switch(&server);
    assert_eq!(device.once().unwrap().outcome, Outcome::Withdrawn);
    server.script().change = None;
    let before = server.script().count("GET", "/v1/blobs/");
    server.offer(2, world.offer("2.0", None, FullEncoding::Zstd));
    let report = device.once().unwrap();
    assert_eq!((report.outcome, report.bytes_downloaded), (Outcome::Updated, 0));
    assert_eq!(server.script().count("GET", "/v1/blobs/"), before);
    device.assert_runs(&world, "2.0");
}

#[test]
fn a_newer_offer_takes_the_place_of_one_under_way() {
    let (world, server, device) = setting();
    server.offer(1, world.offer("2.0", None, FullEncoding::Raw));
    server.script().cuts = std::iter::once(40_000).chain(std::iter::repeat_n(10, 20)).collect();
    assert!(device.once().is_err());
    server.script().cuts.clear();
    server.offer(2, world.offer("3.0", None, FullEncoding::Raw));
    let report = device.once().unwrap();
    assert_eq!((report.outcome, report.attempt), (Outcome::Updated, Some(2)));
    device.assert_runs(&world, "3.0");
}

#[test]
fn a_server_that_is_away_changes_nothing() {
    let (world, server, device) = setting();
    server.script().dead = vec!["/".to_owned()];
    let error = device.once().unwrap_err();
    assert!(matches!(error, AgentError::Unreachable { .. }), "{error}");
    assert_eq!(error.exit_code(), 12);
    device.assert_runs(&world, "1.0");
    server.script().dead.clear();
    assert_eq!(device.once().unwrap().outcome, Outcome::UpToDate);
}

#[test]
fn trouble_that_passes_is_ridden_out_within_the_round() {
    let (_world, server, device) = setting();
    let statuses = [("/v1/challenge".to_owned(), 503), ("/v1/poll".to_owned(), 429), ("/v1/poll".to_owned(), 500)];
    server.script().statuses = statuses.into();
    assert_eq!(device.once().unwrap().outcome, Outcome::UpToDate);
}

#[test]
fn only_404_says_that_there_is_no_newer_root() {
    let (_world, server, device) = setting();
    server.script().statuses = [("/director/2.root.json".to_owned(), 410)].into();
    let error = device.once().unwrap_err();
    assert!(matches!(error, AgentError::Denied { status: 410, .. }), "{error}");
}
