//! The reference device client of Sluice: enrols, polls, verifies, downloads with resume, patches while streaming into
//! the inactive slot, switches, confirms, reports. `docs/agent.md` tells how to run it, `docs/device-protocol.md` what
//! it says on the wire.
//!
//! The library owns no clock and draws no random number: [`Host`] hands both in. The binary's `main` is the one place
//! that reads them.
//!
//! * [`cycle`] is one full round: recover, poll, update if something is offered, report.
//! * [`journal`] makes every step of an attempt durable, so that a kill at any instant resumes or never happened.
//! * [`entitlement`] keeps a certificate of what the device may have by contract, and [`offline`] tells it without the server.
//! * [`check`] runs the integrator's check of a new image, and [`soak`] keeps checking it for a while.
//! * [`boot`] is the seam where a device's boot loader stands.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic))]

pub mod agent;
pub mod attempt;
pub mod blob;
pub mod boot;
pub mod check;
pub mod config;
pub mod confirm;
pub mod cycle;
pub mod entitlement;
pub mod error;
pub mod failpoint;
pub mod failure;
pub mod host;
pub mod http;
pub mod identity;
pub mod install;
pub mod installed;
pub mod journal;
pub mod metadata;
pub mod offer;
pub mod offline;
pub mod outbox;
pub mod poll;
pub mod provision;
pub mod report;
pub mod run;
pub mod slot;
pub mod soak;
pub mod state;
pub mod status;
pub mod why;

pub use agent::Agent;
pub use boot::{BootControl, FileBoot};
pub use config::Config;
pub use cycle::{CycleReport, Outcome};
pub use error::AgentError;
pub use host::{Host, Progress};
pub use state::StateDir;
