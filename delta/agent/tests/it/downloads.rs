//! Downloads that break, and blobs that lie.

use std::io::Write as _;

use sluice_agent::attempt::Encoding;
use sluice_agent::{AgentError, Outcome};
use sluice_catalog::Digest;
use sluice_catalog::rollout::{AttemptState, Failure};
use sluice_signer::FullEncoding;

use crate::device::setting;

fn ranges(server: &crate::server::Server) -> Vec<Option<String>> {
    let script = server.script();
    script
        .seen
        .iter()
        .filter(|seen| seen.path.starts_with("/v1/blobs/"))
        .map(|seen| seen.headers.get("range").cloned())
        .collect()
}

#[test]
fn a_patch_cut_twice_goes_on_where_it_broke() {
    let (world, server, device) = setting();
    let patch = world.patch("1.0", "2.0");
    server.offer(1, world.offer("2.0", Some(&patch), FullEncoding::Zstd));
    server.script().cuts = [30_000, 20_000].into();
    let report = device.once().unwrap();
    assert_eq!((report.outcome, report.encoding), (Outcome::Updated, Some(Encoding::Patch)));
    assert_eq!(report.bytes_downloaded, patch.bytes.len() as u64, "nothing came twice");
    assert_eq!(ranges(&server), [None, Some("bytes=30000-".to_owned()), Some("bytes=50000-".to_owned())]);
    device.assert_runs(&world, "2.0");
}

#[test]
fn full_images_cut_in_the_middle_go_on_too() {
    for encoding in [FullEncoding::Raw, FullEncoding::Zstd] {
        let (world, server, device) = setting();
        server.offer(1, world.offer("2.0", None, encoding));
        server.script().cuts = [70_000].into();
        assert_eq!(device.once().unwrap().outcome, Outcome::Updated);
        assert_eq!(ranges(&server), [None, Some("bytes=70000-".to_owned())]);
        device.assert_runs(&world, "2.0");
    }
}

#[test]
fn a_download_given_up_is_resumed_by_the_next_round() {
    let (world, server, device) = setting();
    let patch = world.patch("1.0", "2.0");
    server.offer(1, world.offer("2.0", Some(&patch), FullEncoding::Zstd));
    // Every connection brings next to nothing after the first.
    server.script().cuts = std::iter::once(40_000).chain(std::iter::repeat_n(10, 20)).collect();
    let error = device.once().unwrap_err();
    assert!(matches!(error, AgentError::Unreachable { .. }), "{error}");
    device.assert_runs(&world, "1.0");
    server.script().cuts.clear();
    let before = ranges(&server).len();
    let report = device.once().unwrap();
    assert_eq!((report.outcome, report.encoding), (Outcome::Updated, Some(Encoding::Patch)));
    // The head comes again, then the first segment that is not in the slot.
    let later = ranges(&server)[before..].to_vec();
    assert_eq!(later[0], None);
    assert!(later[1].as_deref().is_some_and(|range| range > "bytes=2"), "{later:?}");
    device.assert_runs(&world, "2.0");
}

#[test]
fn a_server_that_ignores_ranges_costs_bytes_but_not_the_update() {
    let (world, server, device) = setting();
    server.offer(1, world.offer("2.0", None, FullEncoding::Raw));
    server.script().ignore_ranges = true;
    server.script().cuts = [50_000].into();
    let report = device.once().unwrap();
    assert_eq!(report.outcome, Outcome::Updated);
    assert_eq!(report.bytes_downloaded, world.release("2.0").image.len() as u64 + 50_000);
    device.assert_runs(&world, "2.0");
}

#[test]
fn an_expired_download_url_is_replaced_by_a_fresh_poll() {
    let (world, server, device) = setting();
    server.offer(1, world.offer("2.0", Some(&world.patch("1.0", "2.0")), FullEncoding::Zstd));
    server.script().cuts = [40_000].into();
    server.script().statuses = [("/v1/blobs/".to_owned(), 403)].into();
    assert_eq!(device.once().unwrap().outcome, Outcome::Updated);
    device.assert_runs(&world, "2.0");
}

#[test]
fn a_flipped_byte_in_a_segment_costs_the_patch_and_is_told() {
    let (world, server, device) = setting();
    let patch = world.patch("1.0", "2.0");
    server.offer(5, world.offer("2.0", Some(&patch), FullEncoding::Zstd));
    let mut bytes = patch.bytes.clone();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    server.script().blobs.insert(Digest::of(&patch.bytes), bytes);
    let report = device.once().unwrap();
    assert_eq!((report.outcome, report.encoding, report.fallback), (Outcome::Updated, Some(Encoding::Zstd), true));
    assert!(report.detail.unwrap().contains("is damaged"));
    device.assert_runs(&world, "2.0");
    let script = server.script();
    let told = script.reports.iter().find(|event| event.failure == Some(Failure::DeltaMismatch)).unwrap();
    assert_eq!((told.attempt, told.state, told.encoding.as_deref()), (5, AttemptState::Downloading, Some("patch")));
    assert!(told.detail.as_deref().unwrap().contains("is damaged"));
    assert_eq!(script.reports.last().unwrap().state, AttemptState::Healthy);
}

#[test]
fn a_flipped_byte_in_the_head_is_found_before_it_is_parsed() {
    let (world, server, device) = setting();
    let patch = world.patch("1.0", "2.0");
    server.offer(1, world.offer("2.0", Some(&patch), FullEncoding::Zstd));
    let mut bytes = patch.bytes.clone();
    bytes[0] ^= 1;
    server.script().blobs.insert(Digest::of(&patch.bytes), bytes);
    let report = device.once().unwrap();
    assert_eq!((report.outcome, report.fallback), (Outcome::Updated, true));
    assert_eq!(report.detail.as_deref(), Some("its head does not have the signed digest"));
}

#[test]
fn a_patch_from_another_image_is_never_applied() {
    let (world, server, device) = setting();
    server.offer(1, world.offer("3.0", Some(&world.patch("2.0", "3.0")), FullEncoding::Zstd));
    let report = device.once().unwrap();
    assert_eq!((report.outcome, report.encoding, report.fallback), (Outcome::Updated, Some(Encoding::Zstd), true));
    assert!(report.detail.unwrap().starts_with("it starts from"));
    device.assert_runs(&world, "3.0");
}

#[test]
fn a_worn_running_slot_takes_the_full_image() {
    let (world, server, device) = setting();
    server.offer(1, world.offer("2.0", Some(&world.patch("1.0", "2.0")), FullEncoding::Zstd));
    let path = device.slot(sluice_agent::slot::Slot::A);
    let mut worn = std::fs::read(&path).unwrap();
    worn[1000] ^= 1;
    std::fs::write(&path, worn).unwrap();
    let report = device.once().unwrap();
    assert_eq!((report.outcome, report.fallback), (Outcome::Updated, true));
    assert_eq!(device.running(), world.release("2.0").digest());
    assert!(server.script().reports.iter().all(|event| event.failure.is_none()), "the patch is not to blame");
}

#[test]
fn a_lying_full_image_fails_the_update_and_the_old_slot_runs() {
    for (encoding, changed) in
        [(FullEncoding::Raw, "raw"), (FullEncoding::Zstd, "zstd"), (FullEncoding::Zstd, "other frame")]
    {
        let (world, server, device) = setting();
        let (target, blobs) = world.offer("2.0", None, encoding);
        let digest = Digest(target.full.sha256);
        let mut lie = blobs[0].clone();
        if changed == "other frame" {
            // A valid frame of the same length that decodes to something else.
            lie = zstd::encode_all(world.release("3.0").image.as_slice(), 3).unwrap();
            lie.resize(blobs[0].len(), 0);
        } else {
            let middle = lie.len() / 2;
            lie[middle] ^= 1;
        }
        server.offer(3, (target, blobs));
        server.script().blobs.insert(digest, lie);
        let report = device.once().unwrap();
        assert_eq!(report.outcome, Outcome::Failed, "{changed}");
        device.assert_runs(&world, "1.0");
        let script = server.script();
        let last = script.reports.last().unwrap();
        assert_eq!((last.state, last.failure), (AttemptState::Failed, Some(Failure::DigestMismatch)), "{changed}");
    }
}

#[test]
fn the_same_failed_attempt_is_not_tried_again() {
    let (world, server, device) = setting();
    let (target, blobs) = world.offer("2.0", None, FullEncoding::Raw);
    let digest = Digest(target.full.sha256);
    server.offer(3, (target, blobs.clone()));
    server.script().blobs.insert(digest, vec![0; blobs[0].len()]);
    assert_eq!(device.once().unwrap().outcome, Outcome::Failed);
    let before = server.script().count("GET", "/v1/blobs/");
    assert_eq!(device.once().unwrap().outcome, Outcome::Failed);
    assert_eq!(server.script().count("GET", "/v1/blobs/"), before, "no byte is fetched for it");
    // A new number is a new try.
    server.offer(4, world.offer("2.0", None, FullEncoding::Raw));
    assert_eq!(device.once().unwrap().outcome, Outcome::Updated);
}

#[test]
fn a_blob_of_another_length_is_refused() {
    let (world, server, device) = setting();
    let (target, blobs) = world.offer("2.0", None, FullEncoding::Raw);
    let digest = Digest(target.full.sha256);
    server.offer(3, (target, blobs.clone()));
    server.script().blobs.insert(digest, vec![0; 100 << 20]);
    let report = device.once().unwrap();
    assert_eq!(report.outcome, Outcome::Failed);
    assert!(report.detail.unwrap().contains("wrong length"));
    assert!(report.bytes_downloaded < 1 << 20, "an endless body is not read");
    device.assert_runs(&world, "1.0");
}

#[test]
fn a_decompression_bomb_stops_at_the_signed_length() {
    let (world, server, device) = setting();
    let (mut target, _) = world.offer("2.0", None, FullEncoding::Zstd);
    let bomb = zstd::encode_all(vec![0; 64 << 20].as_slice(), 3).unwrap();
    target.full.length = bomb.len() as u64;
    target.full.sha256 = Digest::of(&bomb).0;
    server.offer(3, (target, vec![bomb]));
    let report = device.once().unwrap();
    assert_eq!(report.outcome, Outcome::Failed);
    assert!(report.detail.unwrap().contains("more than the signed"));
    device.assert_runs(&world, "1.0");
}

#[test]
fn a_frame_that_claims_a_huge_window_reserves_nothing() {
    let (world, server, device) = setting();
    let (mut target, _) = world.offer("2.0", None, FullEncoding::Zstd);
    let mut encoder = zstd::Encoder::new(Vec::new(), 3).unwrap();
    encoder.window_log(27).unwrap();
    encoder.write_all(&world.release("2.0").image).unwrap();
    let frame = encoder.finish().unwrap();
    target.full.length = frame.len() as u64;
    target.full.sha256 = Digest::of(&frame).0;
    server.offer(3, (target, vec![frame]));
    let report = device.once().unwrap();
    assert_eq!(report.outcome, Outcome::Failed);
    assert!(report.detail.as_deref().unwrap().contains("window"), "{report:?}");
    device.assert_runs(&world, "1.0");
}

#[test]
fn a_patch_in_a_format_of_tomorrow_is_left_for_the_full_image() {
    let (world, server, device) = setting();
    let (mut target, blobs) = world.offer("2.0", Some(&world.patch("1.0", "2.0")), FullEncoding::Zstd);
    target.delta.as_mut().unwrap().format = "sluice-9".to_owned();
    server.offer(1, (target, blobs));
    let report = device.once().unwrap();
    assert_eq!((report.outcome, report.fallback), (Outcome::Updated, true));
    assert_eq!(report.detail.as_deref(), Some("its format is sluice-9, known is sluice-1"));
    assert!(server.script().reports.iter().all(|event| event.failure.is_none()));
}

#[test]
fn a_patch_that_is_gone_is_left_for_the_full_image_without_blaming_it() {
    let (world, server, device) = setting();
    let patch = world.patch("1.0", "2.0");
    server.offer(1, world.offer("2.0", Some(&patch), FullEncoding::Zstd));
    server.script().blobs.remove(&Digest::of(&patch.bytes));
    let report = device.once().unwrap();
    assert_eq!(
        (report.outcome, report.fallback, report.detail.as_deref()),
        (Outcome::Updated, true, Some("status 404"))
    );
    assert!(server.script().reports.iter().all(|event| event.failure.is_none()));
}

#[test]
fn a_full_image_that_is_gone_fails_the_update() {
    let (world, server, device) = setting();
    server.offer(1, world.offer("2.0", None, FullEncoding::Zstd));
    server.script().blobs.clear();
    let report = device.once().unwrap();
    assert_eq!((report.outcome, report.exit_code()), (Outcome::Failed, 10));
    assert_eq!(server.script().reports.last().unwrap().failure, Some(Failure::DownloadFailed));
    device.assert_runs(&world, "1.0");
}
