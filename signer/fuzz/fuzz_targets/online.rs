//! Timestamp and snapshot documents, and kept states, against a trusted root.
#![no_main]

use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use sluice_signer::{Envelope, Limits, SnapshotMetadata, TimestampMetadata, TrustedRepository};
use std::sync::LazyLock;

const TIMESTAMP: &[u8] = include_bytes!("../../../fixtures/frozen/tuf-v1/metadata/timestamp.json");
const SNAPSHOT: &[u8] = include_bytes!("../../../fixtures/frozen/tuf-v1/metadata/1.snapshot.json");
const NOW: Timestamp = Timestamp::constant(1_780_315_200, 0);

/// Verified once: a case should spend its time on its own bytes.
static TRUSTED: LazyLock<TrustedRepository> = LazyLock::new(|| {
    let root = include_bytes!("../../../fixtures/frozen/tuf-v1/metadata/1.root.json");
    TrustedRepository::from_root(root, &Limits::default()).unwrap()
});

/// The same with its timestamp.
static WITH_TIMESTAMP: LazyLock<TrustedRepository> = LazyLock::new(|| {
    let mut repository = TRUSTED.clone();
    repository.update_timestamp(TIMESTAMP, NOW).unwrap();
    repository
});

fuzz_target!(|bytes: &[u8]| {
    let limits = Limits::default();
    if TRUSTED.clone().update_timestamp(bytes, NOW).is_ok() {
        assert_eq!(Envelope::parse("x", bytes, 1 << 20, &limits), Envelope::parse("x", TIMESTAMP, 1 << 20, &limits));
    }
    if WITH_TIMESTAMP.clone().update_snapshot(bytes, NOW).is_ok() {
        assert_eq!(bytes, SNAPSHOT);
    }
    if let Ok(envelope) = Envelope::parse("x", bytes, limits.snapshot_bytes, &limits) {
        if let Ok(snapshot) = SnapshotMetadata::from_json(envelope.signed(), &limits) {
            assert_eq!(SnapshotMetadata::from_json(&snapshot.to_json(), &limits), Ok(snapshot));
        }
        if let Ok(timestamp) = TimestampMetadata::from_json(envelope.signed()) {
            assert_eq!(TimestampMetadata::from_json(&timestamp.to_json()), Ok(timestamp));
        }
    }
});
