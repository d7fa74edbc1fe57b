//! Logs that devices send: bounded, without what moves a terminal, and clean already when they are cleaned again; and places in the list of
//! failures.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sluice_catalog::rollout::{MAX_LOG_LEN, clean_log};
use sluice_catalog::wire::failure::FailureKey;

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    for limit in [0, 1, 7, MAX_LOG_LEN] {
        let clean = clean_log(&text, limit);
        assert!(clean.len() <= limit);
        assert!(!clean.chars().any(|c| c.is_control() && c != '\n' && c != '\t'));
        assert_eq!(clean_log(&clean, limit), clean);
    }
    if let Ok(key) = text.parse::<FailureKey>() {
        assert_eq!(key.to_string().parse(), Ok(key));
    }
});
