//! What a rollout looks like to who watches it: a picture of some lines, or one line.

use sluice_catalog::rollout::{RolloutState, Waits};
use sluice_catalog::wire::live::{Reached, RolloutLive};

use crate::noun::rollout_plan::waits_text;
use crate::output::printable;

/// Cells of a bar.
const BAR: u64 = 30;
/// Hardware ids that are shown in a picture: those with the most trouble.
const MAX_HARDWARE: usize = 4;

/// One line: state, patches, devices, and what it waits for.
pub fn line(live: &RolloutLive) -> String {
    let (settled, wanted) = patches(live);
    let waits = waits(live).map_or_else(String::new, |waits| format!("; waits for {waits}"));
    let end = live.completes_at.map_or_else(String::new, |at| format!("; done about {at}"));
    format!(
        "{}; patches {settled}/{wanted}; {} of {} devices healthy, {} bad{waits}{end}",
        headline(live),
        live.devices.healthy,
        live.devices.offered + live.devices.begun,
        live.devices.bad()
    )
}

/// Some lines: a bar for each stage that has opened, how far devices are, hardware with trouble, the next gate, the end, bytes.
pub fn picture(live: &RolloutLive) -> Vec<String> {
    let mut lines = vec![format!("{}  {} {}  {}", live.name, live.product, live.version, headline(live))];
    let (settled, wanted) = patches(live);
    if settled < wanted {
        lines.push(format!("patches    {} {settled}/{wanted}", bar(settled, 0, wanted)));
    }
    for (number, stage) in live.stages.iter().enumerate() {
        let reached = live.by_stage.get(number).copied().unwrap_or_default();
        let mark = if i32::try_from(number) == Ok(live.stage) { ">" } else { " " };
        let all = reached.offered + reached.begun;
        lines.push(format!(
            "{mark}{number:>2} {:>4} %  {} {}/{all} healthy, {} bad",
            stage.percent,
            bar(reached.healthy, reached.bad(), all),
            reached.healthy,
            reached.bad()
        ));
    }
    lines.push(format!("devices    {}", classes(&live.devices)));
    let mut hardware: Vec<_> = live.by_hardware.iter().filter(|(_, reached)| reached.bad() > 0).collect();
    hardware.sort_by_key(|(_, reached)| std::cmp::Reverse(reached.bad()));
    for (id, reached) in hardware.into_iter().take(MAX_HARDWARE) {
        let out = if live.excluded.contains(id) { ", taken out" } else { "" };
        lines.push(format!("  {}: {} of {} bad{out}", printable(id), reached.bad(), reached.begun));
    }
    if let Some(waits) = waits(live) {
        lines.push(format!("waits for  {waits}"));
    }
    match live.completes_at {
        Some(at) => lines.push(format!("done about {at}")),
        None if live.state == RolloutState::Running => lines.push("done about: cannot be told".to_owned()),
        None => {}
    }
    lines.push(format!("sent       {}, {} saved by patches", bytes(live.bytes.sent), bytes(live.bytes.saved)));
    lines
}

fn headline(live: &RolloutLive) -> String {
    let state = live.state.as_str();
    let stopped = if live.stopped_all { ", all rollouts are stopped" } else { "" };
    match live.state {
        RolloutState::Draft
        | RolloutState::Review
        | RolloutState::Approved
        | RolloutState::Preparing
        | RolloutState::Scheduled => format!("{state}{stopped}"),
        _ => format!(
            "{state}, stage {} of {}, {}.{:02} % reached{stopped}",
            live.stage,
            live.stages.len().saturating_sub(1),
            live.reach / 100,
            live.reach % 100
        ),
    }
}

/// The gate in words, or what else it waits for.
fn waits(live: &RolloutLive) -> Option<String> {
    match (&live.gate, &live.waits) {
        (Some(gate), Waits::Soak { .. } | Waits::Attempts { .. } | Waits::Success { .. }) => {
            Some(printable(&gate.sentence).into_owned())
        }
        (_, Waits::Nothing) => None,
        (_, waits) => Some(waits_text(waits)),
    }
}

fn classes(devices: &Reached) -> String {
    let all = [
        (devices.offered, "offered"),
        (devices.downloading, "downloading"),
        (devices.verified, "verified"),
        (devices.applied, "applied"),
        (devices.booted, "booted"),
        (devices.healthy, "healthy"),
        (devices.lost, "lost"),
        (devices.rejected, "rejected"),
        (devices.failed, "failed"),
        (devices.rolled_back, "rolled back"),
        (devices.silent, "silent"),
        (devices.late, "late"),
    ];
    let some: Vec<String> =
        all.into_iter().filter(|(count, _)| *count > 0).map(|(count, name)| format!("{count} {name}")).collect();
    if some.is_empty() { "none yet".to_owned() } else { some.join(", ") }
}

fn patches(live: &RolloutLive) -> (u64, u64) {
    let count = |number: i64| u64::try_from(number).unwrap_or(0);
    let patches = live.patches;
    let settled = count(patches.ready) + count(patches.not_worth) + count(patches.parked);
    (settled, settled + count(patches.pending))
}

/// Good from the left, bad behind it.
fn bar(good: u64, bad: u64, all: u64) -> String {
    let cells = |count: u64| count.saturating_mul(BAR).checked_div(all).unwrap_or(0).min(BAR);
    let (good, both) = (cells(good), cells(good.saturating_add(bad)));
    (0..BAR)
        .map(|cell| {
            if cell < good {
                '#'
            } else if cell < both {
                '!'
            } else {
                '.'
            }
        })
        .collect()
}

fn bytes(count: u64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB", "PB"];
    let mut scaled = count;
    let mut unit = 0;
    while scaled >= 10_000 && unit + 1 < units.len() {
        scaled /= 1000;
        unit += 1;
    }
    format!("{scaled} {}", units.get(unit).unwrap_or(&"B"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live(json: &str) -> RolloutLive {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_rollout_is_drawn_with_its_stages_and_its_gate() {
        let live = live(
            r#"{"at": "2027-01-01T00:00:00Z", "name": "spring", "product": "cam", "version": "2.4", "state": "running", "stage": 1,
                "stages": [{"percent": 10}, {"percent": 100}], "reach": 5050,
                "devices": {"offered": 5, "begun": 95, "downloading": 10, "healthy": 80, "rolled_back": 5},
                "by_stage": [{"begun": 10, "healthy": 10}, {"offered": 5, "begun": 85, "downloading": 10, "healthy": 70, "rolled_back": 5}],
                "by_hardware": {"r1": {"begun": 90, "healthy": 80}, "r2": {"begun": 5, "rolled_back": 5}}, "excluded": ["r2"],
                "waits": {"kind": "soak", "until": "2027-01-01T14:05:00Z"}, "completes_at": "2027-01-02T06:00:00Z",
                "gate": {"soak_until": "2027-01-01T14:05:00Z", "soaked": false, "matured": 412, "minimum": 500, "succeeded": 410,
                         "coming": 7, "lower_permille": 981, "need_permille": 990, "sure": false, "sentence": "412 of 500\u0007"},
                "bytes": {"sent": 123456789, "saved": 4567}, "patches": {"ready": 2, "not_worth": 0, "pending": 1, "parked": 0}}"#,
        );
        insta::assert_snapshot!(picture(&live).join("\n"));
        insta::assert_snapshot!(line(&live));
    }

    #[test]
    fn what_has_not_begun_is_drawn_without_a_fault() {
        let live = live(
            r#"{"at": "2027-01-01T00:00:00Z", "name": "spring", "product": "cam", "version": "2.4", "state": "preparing", "stage": 0}"#,
        );
        assert_eq!(line(&live), "preparing; patches 0/0; 0 of 0 devices healthy, 0 bad");
        assert_eq!(picture(&live).len(), 3);
    }
}
