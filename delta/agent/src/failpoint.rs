//! Named points at which a test kills the process, to prove that every step survives it.
//!
//! In debug builds the environment variable `SLUICE_FAILPOINT` names one; release builds compile to nothing.

use std::sync::atomic::{AtomicU32, Ordering};

/// Every failpoint, in the order in which an update meets them.
pub const FAILPOINTS: &[&str] = &[
    "agent.file.temp",
    "agent.journal.torn",
    "agent.journal.begun",
    "agent.slot.erased",
    "agent.patch.head",
    "agent.patch.segment",
    "agent.full.part",
    "agent.journal.fallback",
    "agent.slot.written",
    "agent.slot.recorded",
    "agent.outbox.written",
    "agent.journal.verified",
    "agent.journal.switching",
    "agent.pointer.switched",
    "agent.journal.applied",
    "agent.journal.boot_tried",
    "agent.journal.booted",
    "agent.soak.begun",
    "agent.soak.checking",
    "agent.soak.checked",
    "agent.journal.healthy",
    "agent.floor.raised",
    "agent.pointer.confirmed",
    "agent.failure.noted",
    "agent.journal.rolling_back",
    "agent.pointer.restored",
    "agent.journal.rolled_back",
    "agent.journal.failed",
    "agent.journal.ended",
];

/// Whether the test harness asked for this point: `NAME`, or `NAME#3` for the third time that it is met.
pub fn is_set(name: &str) -> bool {
    if !cfg!(debug_assertions) {
        return false;
    }
    let Ok(set) = std::env::var("SLUICE_FAILPOINT") else { return false };
    let (wanted, time) = set.split_once('#').unwrap_or((&set, "1"));
    wanted == name && time.parse() == Ok(MET.fetch_add(1, Ordering::Relaxed) + 1)
}

/// How often the named point was met.
static MET: AtomicU32 = AtomicU32::new(0);

/// Ends the process as a power cut would, when the environment names this point.
pub fn failpoint(name: &str) {
    if is_set(name) {
        kill_self();
    }
}

/// SIGKILL to ourselves: no destructor runs, no buffer is flushed.
pub fn kill_self() -> ! {
    let pid = std::process::id().to_string();
    let sent = std::process::Command::new("kill").args(["-9", &pid]).status().is_ok();
    if !sent {
        // No `kill` program: an abort runs no destructors either.
        std::process::abort();
    }
    loop {
        std::thread::park();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_list_names_exactly_the_failpoints_of_the_source() {
        let mut used = BTreeSet::new();
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src");
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() || path.ends_with("failpoint.rs") {
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            for call in ["failpoint(\"", "is_set(\""] {
                used.extend(text.split(call).skip(1).map(|rest| rest.split('"').next().unwrap().to_owned()));
            }
        }
        let listed: BTreeSet<String> = FAILPOINTS.iter().map(|&name| name.to_owned()).collect();
        assert_eq!(listed.len(), FAILPOINTS.len(), "a name stands twice");
        assert_eq!(used, listed);
    }
}
