//! What devices and publishers send: read or refused, and what was read is written back to the same value.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sluice_catalog::wire::admin::ContractCreate;
use sluice_catalog::wire::rollout::RolloutCreate;
use sluice_catalog::wire::device::{EnrolRequest, PollRequest, ReportRequest, SessionRequest};
use sluice_catalog::wire::publish::PublishRequest;

fn check<T: DeserializeOwned + Serialize>(bytes: &[u8]) {
    if let Ok(request) = serde_json::from_slice::<T>(bytes) {
        let written = serde_json::to_value(&request).unwrap();
        let again: T = serde_json::from_value(written.clone()).unwrap();
        assert_eq!(serde_json::to_value(&again).unwrap(), written);
    }
}

fuzz_target!(|bytes: &[u8]| {
    check::<EnrolRequest>(bytes);
    check::<SessionRequest>(bytes);
    check::<PollRequest>(bytes);
    check::<ReportRequest>(bytes);
    check::<PublishRequest>(bytes);
    check::<ContractCreate>(bytes);
    check::<RolloutCreate>(bytes);
});
