//! The agent against a scripted server: real signed documents, real patches, real sockets, injected faults.

mod cli;
mod device;
mod downloads;
mod entitlement;
mod epochs;
mod kill;
mod polling;
mod refusals;
mod reports;
mod rollback;
mod server;
mod slow;
mod soak;
mod updates;
mod world;
