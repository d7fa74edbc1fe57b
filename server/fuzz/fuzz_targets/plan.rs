//! A rollout's plan: read, resolved to stages and rules or refused, and its schedule asked when it opens. What was resolved
//! stands as a plan of its own, and openings lie where they may.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sluice_catalog::rollout::{Clock, Rules, Schedule};
use sluice_catalog::wire::rollout::{ApproverEnrol, RolloutApprove, RolloutCreate, RolloutMove, StopAll};
use sluice_catalog::{Period, Time};

/// A week in which Europe's clocks change, and one before the calendar ends.
const MOMENTS: [i64; 3] = [1_774_742_340_000, 1_793_491_200_000, 253_402_000_000_000];
const ZONES: [Option<&str>; 3] = [None, Some("Europe/Amsterdam"), Some("Australia/Lord_Howe")];
/// Edges that a month can have at most, and some.
const MAX_EDGES: usize = 256;

fn times(schedule: &Schedule, byte: u8) {
    let now = Time::from_ms(MOMENTS[usize::from(byte) % MOMENTS.len()]);
    let zone = ZONES[usize::from(byte / 3) % ZONES.len()];
    let bucket = u16::from(byte) * 39;
    if let Some(open) = schedule.next_open(now, zone, bucket) {
        assert!(open >= now);
        // What is open stays open when asked at that moment.
        assert_eq!(schedule.next_open(open, zone, bucket), Some(open));
    }
    let until = now.plus_days(31);
    let edges = schedule.edges(now, until, zone, bucket);
    assert!(edges.len() <= MAX_EDGES);
    assert!(edges.is_sorted());
    assert!(edges.first().is_none_or(|first| *first >= now));
    let _ = schedule.opens_after(now);
}

fuzz_target!(|bytes: &[u8]| {
    if let Ok(text) = std::str::from_utf8(bytes) {
        if let Ok(period) = text.parse::<Period>() {
            assert_eq!(period.to_string().parse(), Ok(period));
        }
        if let Ok(clock) = text.parse::<Clock>() {
            assert_eq!(clock.to_string().parse(), Ok(clock));
        }
    }
    let byte = bytes.last().copied().unwrap_or_default();
    if let Ok(schedule) = serde_json::from_slice::<Schedule>(bytes)
        && schedule.check().is_ok()
    {
        times(&schedule, byte);
    }
    if let Ok(plan) = serde_json::from_slice::<RolloutCreate>(bytes) {
        let written = serde_json::to_value(&plan).unwrap();
        assert_eq!(serde_json::from_value::<RolloutCreate>(written).unwrap(), plan);
        if let Ok((stages, rules)) = plan.resolve() {
            assert_eq!(stages.check(), Ok(()));
            assert_eq!(Rules::try_from(serde_json::to_string(&rules).unwrap()).unwrap(), rules);
            times(&rules.schedule, byte);
            let whole = RolloutCreate {
                preset: None,
                stages: stages.0.clone(),
                rules: Some(serde_json::to_value(&rules).unwrap()),
                ..plan
            };
            assert_eq!(whole.resolve(), Ok((stages, rules)));
        }
    }
    let _ = serde_json::from_slice::<RolloutMove>(bytes);
    let _ = serde_json::from_slice::<RolloutApprove>(bytes);
    let _ = serde_json::from_slice::<ApproverEnrol>(bytes);
    let _ = serde_json::from_slice::<StopAll>(bytes);
});
