//! Named points at which a test kills the process with SIGKILL, to prove that a restart finds the state either before or
//! after each step. They exist in debug builds only.

/// Every failpoint, in the order of the steps they stand in.
pub const FAILPOINTS: &[&str] = &[
    "publish.blob.before_store",
    "publish.blob.after_store",
    "publish.before_transaction",
    "publish.before_commit",
    "publish.after_commit",
    "keys.next.after_write",
    "keys.retire.before_move",
    "keys.retire.after_move",
    "publisher.after_lease",
    "publisher.before_commit",
    "publisher.after_commit",
    "notices.after_lease",
    "notices.before_commit",
    "notices.after_commit",
    "rollouts.before_commit",
    "rollouts.after_commit",
    "job.full.after_claim",
    "job.full.after_blob",
    "job.full.before_commit",
    "job.patch.after_claim",
    "job.patch.after_build",
    "job.patch.after_blob",
    "job.patch.before_commit",
    "job.patch.after_commit",
];

/// Dies here when `SLUICE_FAILPOINT` names this point.
#[cfg(debug_assertions)]
pub fn failpoint(name: &str) {
    debug_assert!(FAILPOINTS.contains(&name), "failpoint {name} is not listed");
    if std::env::var("SLUICE_FAILPOINT").is_ok_and(|wanted| wanted == name) {
        eprintln!("failpoint {name}: killing the process");
        let _ = std::process::Command::new("kill").args(["-9", &std::process::id().to_string()]).status();
        // SIGKILL is on its way; nothing after this point may run.
        loop {
            std::thread::park();
        }
    }
}

/// Nothing in release builds.
#[cfg(not(debug_assertions))]
pub const fn failpoint(_: &str) {}
