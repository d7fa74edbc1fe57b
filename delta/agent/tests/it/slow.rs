//! Servers that are slow on purpose, or that never end: the device gives them up, runs what it has, and is there for the next
//! round.

use sluice_agent::config::{Config, NetworkOptions};
use sluice_agent::{AgentError, Outcome};
use sluice_signer::FullEncoding;

use crate::device::{Device, setting};
use crate::server::Server;
use crate::world::World;

/// An offer for a device that waits for a second, and for what brings a mebibyte a second.
fn impatient() -> (World, Server, Device) {
    let (world, server, device) = setting();
    server.offer(7, world.offer("2.0", None, FullEncoding::Zstd));
    let mut config = Config::load(&device.state).unwrap();
    config.network = NetworkOptions { patience_s: 1, min_bytes_per_s: 1 << 20 };
    config.save(&device.state).unwrap();
    (world, server, device)
}

#[test]
fn slow_retrieval_attack_documents_that_trickle_are_given_up() {
    for path in ["/v1/poll", "/director/2.root.json", "/metadata/2.root.json", "/metadata/timestamp.json"] {
        let (world, server, device) = impatient();
        server.script().slow = Some(path.to_owned());
        let error = device.once().unwrap_err();
        assert!(matches!(error, AgentError::Unreachable { .. }), "{path}: {error}");
        device.assert_runs(&world, "1.0");
        server.script().slow = None;
        assert_eq!(device.once().unwrap().outcome, Outcome::Updated, "{path}");
    }
}

#[test]
fn slow_retrieval_attack_an_image_that_trickles_is_given_up() {
    let (world, server, device) = impatient();
    server.script().slow = Some("/v1/blobs/".to_owned());
    device.tick_ms.set(100);
    let error = device.once().unwrap_err();
    assert!(matches!(&error, AgentError::Unreachable { detail, .. } if detail.contains("slower than")), "{error}");
    device.assert_runs(&world, "1.0");
    device.tick_ms.set(0);
    server.script().slow = None;
    assert_eq!(device.once().unwrap().outcome, Outcome::Updated);
    device.assert_runs(&world, "2.0");
}

#[test]
fn endless_data_attack_documents_are_read_to_their_limit_only() {
    for (path, limit) in [
        ("/v1/poll", "limit of"),
        ("/director/2.root.json", "limit of 512000"),
        ("/metadata/2.root.json", "limit of 512000"),
        ("/metadata/timestamp.json", "limit of 16384"),
        ("/metadata/1.snapshot.json", "limit of"),
        ("/metadata/1.targets.json", "limit of"),
    ] {
        let (world, server, device) = setting();
        server.offer(7, world.offer("2.0", None, FullEncoding::Zstd));
        server.script().endless = Some(path.to_owned());
        let error = device.once().unwrap_err();
        assert!(matches!(&error, AgentError::Protocol { detail, .. } if detail.contains(limit)), "{path}: {error}");
        device.assert_runs(&world, "1.0");
    }
}

#[test]
fn endless_data_attack_an_image_is_read_to_its_signed_length_only() {
    let (world, server, device) = setting();
    server.offer(7, world.offer("2.0", None, FullEncoding::Zstd));
    server.script().endless = Some("/v1/blobs/".to_owned());
    assert!(matches!(device.once(), Ok(report) if report.outcome == Outcome::Failed));
    device.assert_runs(&world, "1.0");
}
