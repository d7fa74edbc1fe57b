//! Targets documents and the signed facts of releases.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sluice_signer::{Envelope, Limits, ReleaseCustom, TargetsMetadata};

fuzz_target!(|bytes: &[u8]| {
    let limits = Limits::default();
    let Ok(envelope) = Envelope::parse("targets", bytes, limits.targets_bytes, &limits) else { return };
    let Ok(targets) = TargetsMetadata::from_json("targets", envelope.signed(), &limits) else { return };
    assert_eq!(TargetsMetadata::from_json("targets", &targets.to_json(), &limits), Ok(targets.clone()));
    for (path, target) in &targets.targets {
        for delegation in &targets.delegations {
            let _ = delegation.covers(path);
        }
        if let Ok(Some(release)) = target.release("targets", &limits) {
            assert_eq!(ReleaseCustom::from_json("targets", path, &release.to_json(), &limits), Ok(release));
        }
    }
});
