//! Signing epochs on a device: an older verifier goes on with the documents of its epoch, a newer one walks over when the image
//! that brought it has proven itself.

use sluice_agent::{AgentError, Outcome};
use sluice_catalog::wire::device::PollRequest;
use sluice_signer::FullEncoding;

use crate::device::{Device, cycle, noon, setting};
use crate::server::Server;
use crate::world::{World, key};

/// The server begins the second epoch: 2.0 is the floor of the first, 3.0 is of the second.
fn begin(world: &World, server: &Server) {
    let mut second = World::new(noon());
    second.epoch = 2;
    second.keys.snapshot = key("snapshot of the second epoch");
    second.keys.timestamp = key("timestamp of the second epoch");
    second.keys.director = key("director of the second epoch");
    let (floor, newest) = (world.offer("2.0", None, FullEncoding::Zstd), world.offer("3.0", None, FullEncoding::Zstd));
    let blobs: Vec<_> = newest.1.iter().map(|blob| (sluice_catalog::Digest::of(blob), blob.clone())).collect();
    let mut before = World::new(noon());
    before.releases.retain(|release| release.version != "3.0");
    server.offer(1, floor);
    let mut script = server.script();
    script.blobs.extend(blobs);
    let roots = ["metadata", "director"].map(|repository| (format!("/{repository}/1.root.json"), repository));
    script.files = second.files(2);
    for (file, bytes) in before.files(3) {
        let (repository, name) = file.trim_start_matches('/').split_once('/').unwrap();
        script.files.insert(format!("/{repository}/epoch-1/{name}"), bytes);
    }
    for (file, repository) in roots {
        let old = if repository == "metadata" { world.image_root(1) } else { world.director_root(1) };
        let new = if repository == "metadata" { second.image_root(2) } else { second.director_root(2) };
        script.files.insert(file, old);
        script.files.insert(format!("/{repository}/2.root.json"), new);
    }
    script.next_epoch = Some((2, Some(newest.0), second.keys.director));
}

/// Epochs that were stated, poll by poll.
fn stated(server: &Server) -> Vec<u32> {
    let script = server.script();
    let polls = script.seen.iter().filter(|seen| seen.method == "POST" && seen.path == "/v1/poll");
    polls.map(|seen| serde_json::from_slice::<PollRequest>(&seen.body).unwrap().epoch).collect()
}

/// The epoch of the trusted roots, image and director.
fn trusted(device: &Device) -> [i64; 2] {
    let root = |file: std::path::PathBuf| {
        let kept: serde_json::Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        let root: serde_json::Value = serde_json::from_str(kept["root"].as_str().unwrap()).unwrap();
        root["signed"]["custom"]["epoch"].as_i64().unwrap_or(1)
    };
    [root(device.state.image_metadata()), root(device.state.director_metadata())]
}

#[test]
fn an_older_verifier_installs_the_floor_and_a_newer_one_walks_over() {
    let (world, server, device) = setting();
    device.knowing(1, cycle).unwrap();
    begin(&world, &server);
    let report = device.knowing(1, cycle).unwrap();
    assert_eq!(report.outcome, Outcome::Updated);
    device.assert_runs(&world, "2.0");
    assert_eq!(trusted(&device), [1, 1]);
    assert!(server.script().count("GET", "/metadata/epoch-1/timestamp.json") > 0);
    assert!(stated(&server).iter().all(|epoch| *epoch == 1));
    // Again and again: it looks where it was told to, and has what it can have.
    let looked = server.script().count("GET", "/director/2.root.json");
    server.script().etag = "\"other\"".to_owned();
    assert_eq!(device.knowing(1, cycle).unwrap().outcome, Outcome::UpToDate);
    assert_eq!(server.script().count("GET", "/director/2.root.json"), looked);
    // The floor brought a verifier of the second epoch: it asks anew, although nothing else has changed.
    let report = device.knowing(2, cycle).unwrap();
    assert_eq!(report.outcome, Outcome::Updated, "{report:?}");
    device.assert_runs(&world, "3.0");
    assert_eq!(trusted(&device), [2, 2]);
    assert_eq!(device.knowing(2, cycle).unwrap().outcome, Outcome::UpToDate);
}

#[test]
fn an_image_that_has_not_proven_itself_goes_no_further_than_the_one_before() {
    let (world, server, device) = setting();
    device.knowing(1, cycle).unwrap();
    begin(&world, &server);
    // The fresh word before the switch is answered, the first poll of the new image is not.
    server.script().polls_left = Some(1);
    assert_eq!(device.knowing(1, cycle).unwrap().outcome, Outcome::Unconfirmed);
    server.script().polls_left = None;
    let polls = stated(&server).len();
    // The new image's own program comes up. Until it has an answer, it says and trusts what the old one could.
    let report = device.knowing(2, cycle).unwrap();
    assert_eq!(report.outcome, Outcome::Updated, "{report:?}");
    assert_eq!(stated(&server)[polls..], [1]);
    assert_eq!(trusted(&device), [1, 1]);
    device.knowing(1, |_| Ok(())).unwrap();
    // It has proven itself.
    device.knowing(2, cycle).unwrap();
    assert_eq!(trusted(&device), [2, 2]);
    assert_eq!(*stated(&server).last().unwrap(), 2);
    device.assert_runs(&world, "3.0");
}

#[test]
fn a_program_older_than_the_trusted_roots_says_so() {
    let (world, server, device) = setting();
    begin(&world, &server);
    device.knowing(2, cycle).unwrap();
    assert_eq!(trusted(&device), [2, 2]);
    let error = device.knowing(1, cycle).unwrap_err();
    assert!(matches!(error, AgentError::Corrupt { .. }), "{error}");
    assert!(error.to_string().contains("is of signing epoch 2, this verifier knows epochs to 1"), "{error}");
}

#[test]
fn where_nobody_keeps_the_old_documents_the_root_is_refused_and_nothing_changes() {
    let (world, server, device) = setting();
    device.knowing(1, cycle).unwrap();
    begin(&world, &server);
    let before = std::fs::read(device.state.image_metadata()).unwrap();
    // Such as a plain mirror, or a server that answers as if there were one epoch only.
    let mut script = server.script();
    script.next_epoch = None;
    drop(script);
    let error = device.knowing(1, cycle).unwrap_err();
    assert!(error.is_refusal(), "{error}");
    assert!(error.to_string().contains("install that release by hand"), "{error}");
    assert_eq!(std::fs::read(device.state.image_metadata()).unwrap(), before);
    device.assert_runs(&world, "1.0");
}
