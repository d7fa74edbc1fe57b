//! Updates that go well.

use sluice_agent::Outcome;
use sluice_agent::attempt::Encoding;
use sluice_catalog::rollout::AttemptState::{self, Applied, Booted, Downloading, Healthy, Verified};
use sluice_signer::FullEncoding;

use crate::device::{setting, setting_at};

fn states(server: &crate::server::Server) -> Vec<AttemptState> {
    server.script().reports.iter().map(|event| event.state).collect()
}

#[test]
fn a_patch_brings_the_next_version_and_every_step_is_reported() {
    let (world, server, device) = setting();
    let patch = world.patch("1.0", "2.0");
    server.offer(7, world.offer("2.0", Some(&patch), FullEncoding::Zstd));
    let report = device.once().unwrap();
    assert_eq!(report.outcome, Outcome::Updated);
    assert_eq!(report.encoding, Some(Encoding::Patch));
    assert_eq!((report.from.unwrap().as_str(), report.to.unwrap().as_str()), ("1.0", "2.0"));
    assert_eq!((report.bytes_downloaded, report.fallback), (patch.bytes.len() as u64, false));
    assert!(report.bytes_downloaded < report.full_length.unwrap());
    device.assert_runs(&world, "2.0");
    assert_eq!(states(&server), [Downloading, Verified, Applied, Booted, Healthy]);
    assert!(server.script().reports.iter().all(|event| event.attempt == 7));
}

#[test]
fn the_next_round_is_a_cheap_304() {
    let (world, server, device) = setting();
    server.offer(7, world.offer("2.0", None, FullEncoding::Zstd));
    device.once().unwrap();
    // The floor rose: the server hears it once, signed; then nothing changes any more.
    assert_eq!(device.once().unwrap().outcome, Outcome::UpToDate);
    let before = server.script().seen.len();
    let report = device.once().unwrap();
    assert_eq!((report.outcome, report.reason.as_deref()), (Outcome::UpToDate, Some("UP_TO_DATE")));
    let script = server.script();
    let requests: Vec<_> =
        script.seen[before..].iter().map(|seen| (seen.method.as_str(), seen.path.as_str())).collect();
    assert_eq!(requests, [("GET", "/v1/poll")]);
}

#[test]
fn full_images_come_raw_or_as_zstd() {
    for (encoding, expected) in [(FullEncoding::Raw, Encoding::Raw), (FullEncoding::Zstd, Encoding::Zstd)] {
        let (world, server, device) = setting();
        server.offer(1, world.offer("2.0", None, encoding));
        let report = device.once().unwrap();
        assert_eq!((report.outcome, report.encoding), (Outcome::Updated, Some(expected)));
        device.assert_runs(&world, "2.0");
    }
}

#[test]
fn versions_follow_one_another_through_both_slots() {
    let (world, server, device) = setting();
    server.offer(1, world.offer("2.0", Some(&world.patch("1.0", "2.0")), FullEncoding::Zstd));
    assert_eq!(device.once().unwrap().outcome, Outcome::Updated);
    server.offer(2, world.offer("3.0", Some(&world.patch("2.0", "3.0")), FullEncoding::Zstd));
    let report = device.once().unwrap();
    assert_eq!((report.outcome, report.encoding), (Outcome::Updated, Some(Encoding::Patch)));
    device.assert_runs(&world, "3.0");
}

#[test]
fn a_device_that_decodes_nothing_takes_the_raw_image_beside_a_patch() {
    let (world, server, device) =
        setting_at(crate::device::noon(), |wanted| wanted.profile = sluice_catalog::device::DecoderProfile::Raw);
    server.offer(1, world.offer("2.0", Some(&world.patch("1.0", "2.0")), FullEncoding::Raw));
    let report = device.once().unwrap();
    assert_eq!((report.outcome, report.encoding, report.fallback), (Outcome::Updated, Some(Encoding::Raw), false));
}

#[test]
fn a_patch_over_the_memory_budget_is_left_for_the_full_image_without_blaming_it() {
    let (world, server, device) = setting_at(crate::device::noon(), |wanted| wanted.ram_budget = Some(1024));
    server.offer(1, world.offer("2.0", Some(&world.patch("1.0", "2.0")), FullEncoding::Zstd));
    let report = device.once().unwrap();
    assert_eq!((report.outcome, report.encoding, report.fallback), (Outcome::Updated, Some(Encoding::Zstd), true));
    assert!(report.detail.unwrap().contains("bytes of memory"));
    assert!(server.script().reports.iter().all(|event| event.failure.is_none()));
}

#[test]
fn the_security_floor_rises_only_after_the_new_version_proved_healthy() {
    let (world, server, device) = setting();
    server.offer(1, world.offer("2.0", None, FullEncoding::Zstd));
    let floor = || sluice_agent::status::status(&device.state, &device.boot()).unwrap().components[0].security_floor;
    assert_eq!(floor(), 3);
    // The poll on the new version would be the third; the server dies before it.
    server.script().polls_left = Some(2);
    assert_eq!(device.once().unwrap().outcome, Outcome::Unconfirmed);
    assert_eq!((device.running(), floor()), (world.release("2.0").digest(), 3));
    server.script().polls_left = None;
    assert_eq!(device.once().unwrap().outcome, Outcome::Updated);
    assert_eq!(floor(), 4);
    let polls: Vec<String> = server
        .script()
        .seen
        .iter()
        .filter(|seen| seen.path == "/v1/poll" && seen.method == "POST")
        .map(|seen| String::from_utf8_lossy(&seen.body).into_owned())
        .collect();
    assert!(polls.iter().all(|body| body.contains(r#""security_counter":3"#)), "{polls:?}");
}

#[test]
fn a_release_of_an_embargo_role_is_held_against_the_versions_of_the_products_own() {
    let (mut world, server, device) = setting();
    world.embargoed = Some("3.0");
    world.release_mut("3.0").min_installed = Some("2.0");
    server.script().files = world.files(2);
    // The first offer is refused by an order that only the product's own role signed.
    server.offer(7, world.offer("3.0", None, FullEncoding::Zstd));
    let error = device.once().unwrap_err();
    assert!(error.to_string().contains("needs version 2.0 or later"), "{error}");
    assert!(!error.to_string().contains("no signed document orders"), "{error}");
    for (attempt, version) in [(8, "2.0"), (9, "3.0")] {
        server.offer(attempt, world.offer(version, None, FullEncoding::Zstd));
        assert_eq!(device.once().unwrap().outcome, Outcome::Updated);
        device.assert_runs(&world, version);
    }
}
