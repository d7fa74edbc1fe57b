//! Reports survive a server that is away, a server that refuses them, and a device that restarts.

use sluice_agent::{Outcome, status};
use sluice_catalog::rollout::AttemptState::{self, Applied, Booted, Downloading, Healthy, Verified};
use sluice_catalog::rollout::Failure;
use sluice_signer::FullEncoding;

use crate::device::{Device, noon, setting, setting_at};

fn waiting(device: &Device) -> usize {
    status::status(&device.state, &device.boot()).unwrap().outbox
}

#[test]
fn reports_wait_while_the_server_is_away_and_come_in_order_later() {
    let (world, server, device) = setting();
    server.offer(1, world.offer("2.0", None, FullEncoding::Zstd));
    server.script().dead = vec!["/v1/report".to_owned()];
    assert_eq!(device.once().unwrap().outcome, Outcome::Updated);
    assert_eq!(waiting(&device), 5);
    assert!(server.script().reports.is_empty());
    server.script().dead.clear();
    assert_eq!(device.once().unwrap().outcome, Outcome::UpToDate);
    assert_eq!(waiting(&device), 0);
    let states: Vec<AttemptState> = server.script().reports.iter().map(|event| event.state).collect();
    assert_eq!(states, [Downloading, Verified, Applied, Booted, Healthy]);
}

#[test]
fn an_outage_costs_one_failed_delivery_a_round() {
    let (world, server, device) = setting();
    server.offer(1, world.offer("2.0", None, FullEncoding::Zstd));
    server.script().dead = vec!["/v1/report".to_owned()];
    device.once().unwrap();
    assert_eq!(server.script().count("POST", "/v1/report"), 3, "three tries, not three for every step");
}

#[test]
fn a_report_that_the_server_refuses_is_dropped_and_the_others_go_on() {
    let (world, server, device) = setting();
    server.offer(1, world.offer("2.0", None, FullEncoding::Zstd));
    server.script().dead = vec!["/v1/report".to_owned()];
    device.once().unwrap();
    server.script().dead.clear();
    // The batch, then the first event on its own.
    server.script().statuses = [("/v1/report".to_owned(), 422), ("/v1/report".to_owned(), 422)].into();
    device.once().unwrap();
    assert_eq!(waiting(&device), 0);
    assert_eq!(server.script().reports.len(), 4);
}

#[test]
fn a_server_that_dies_after_the_switch_finds_the_device_healthy_later() {
    let (world, server, device) = setting();
    server.offer(1, world.offer("2.0", None, FullEncoding::Zstd));
    // It answers the poll before the switch and dies on the report of it.
    let polls = std::sync::atomic::AtomicU32::new(0);
    server.script().tamper = Some(Box::new(move |bytes| {
        // The third signed poll is the first on the new version: garbage for an answer.
        if polls.fetch_add(1, std::sync::atomic::Ordering::SeqCst) >= 2 { b"{}".to_vec() } else { bytes }
    }));
    let error = device.once().unwrap_err();
    assert_eq!(error.exit_code(), 11, "{error}");
    device.assert_runs(&world, "2.0");
    let floor = || status::status(&device.state, &device.boot()).unwrap().components[0].security_floor;
    assert_eq!(floor(), 3, "not confirmed, not raised");
    server.script().tamper = None;
    let report = device.once().unwrap();
    assert_eq!(report.outcome, Outcome::Updated);
    assert_eq!(floor(), 4);
    assert_eq!(server.script().reports.last().unwrap().state, AttemptState::Healthy);
}

/// A device that went back, with a log, while reports got no answer.
fn went_back_unheard() -> (crate::world::World, crate::server::Server, Device) {
    let (world, server, device) = setting_at(noon(), |wanted| {
        wanted.boot_check = ["sh", "-c", "echo no link; exit 7"].map(str::to_owned).to_vec();
    });
    server.offer(4, world.offer("2.0", None, FullEncoding::Zstd));
    server.script().dead = vec!["/v1/report".to_owned()];
    assert_eq!(device.once().unwrap().outcome, Outcome::RolledBack);
    server.script().dead.clear();
    server.script().offer = None;
    (world, server, device)
}

#[test]
fn a_log_waits_with_its_report() {
    let (_world, server, device) = went_back_unheard();
    assert_eq!(waiting(&device), 4);
    device.once().unwrap();
    let script = server.script();
    let last = script.reports.last().unwrap();
    assert_eq!((last.state, last.failure), (AttemptState::RolledBack, Some(Failure::CheckFailed)));
    assert_eq!(
        (last.detail.as_deref(), last.log.as_deref()),
        (Some("boot_check sh: exit status: 7"), Some("no link\n"))
    );
}

#[test]
fn an_older_server_gets_every_report_without_what_it_does_not_know() {
    let (_world, server, device) = went_back_unheard();
    server.script().older = true;
    device.once().unwrap();
    assert_eq!(waiting(&device), 0);
    let script = server.script();
    let states: Vec<AttemptState> = script.reports.iter().map(|event| event.state).collect();
    assert_eq!(states, [Downloading, Verified, Applied, AttemptState::RolledBack]);
    let last = script.reports.last().unwrap();
    assert_eq!((last.failure, &last.log), (Some(Failure::Unhealthy), &None));
    assert_eq!(last.detail.as_deref(), Some("boot_check sh: exit status: 7"));
}

#[test]
fn a_failure_before_the_switch_brings_what_led_to_it() {
    let (world, server, device) = setting();
    let patch = world.patch("1.0", "2.0");
    server.offer(1, world.offer("2.0", Some(&patch), FullEncoding::Raw));
    for blob in server.script().blobs.values_mut() {
        let middle = blob.len() / 2;
        blob[middle] ^= 1;
    }
    assert_eq!(device.once().unwrap().outcome, Outcome::Failed);
    let script = server.script();
    let last = script.reports.last().unwrap();
    assert_eq!((last.state, last.failure), (AttemptState::Failed, Some(Failure::DigestMismatch)));
    let log = last.log.as_deref().unwrap();
    assert!(log.starts_with("the patch was given up: ") && log.lines().count() == 2, "{log}");
}
