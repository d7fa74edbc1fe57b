//! Reports survive a server that is away, a server that refuses them, and a device that restarts.

use sluice_agent::{Outcome, status};
use sluice_catalog::rollout::AttemptState::{self, Applied, Booted, Downloading, Healthy, Verified};
use sluice_signer::FullEncoding;

use crate::device::{Device, setting};

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
