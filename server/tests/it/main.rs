//! The server, run in process on both databases and both blob stores, and killed as a process of its own.
//!
//! `name::sqlite` and `name::postgres` are one test on two engines; PostgreSQL comes from `cargo xtask test`.

#![expect(clippy::needless_pass_by_value, reason = "helpers take what `json!(…)` makes, as it reads at the call")]

#[macro_use]
mod harness;

mod api;
mod approvals;
mod audience;
mod blobs;
mod bound;
mod certificates;
mod clients;
mod contract_put;
mod contract_source;
mod customers;
mod devices;
mod downloads;
mod drills;
mod embargo;
mod entitlement;
mod epochs;
mod erasure;
mod failures;
mod fleet;
mod graphql;
mod kill;
mod live;
mod notices;
mod polling;
mod pools;
mod pools_moved;
mod publisher;
mod publishing;
mod refusals;
mod registration;
mod rollout_faults;
mod rollout_kill;
mod rollouts;
mod rotation;
mod series;
mod stack;
mod staging;
mod store;
mod tokens;
mod told;
mod tuf;
mod updates;
mod what_if;
