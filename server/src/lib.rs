//! The Sluice server: stores signed releases and patches, and hands them to devices and Lens-style clients according to
//! contract and rollout.
//!
//! Layers, each with its own words and nothing of the next: [`http`] (surfaces) calls [`app`] (use cases: permission,
//! change, audit entry and jobs in one transaction) and [`poll`] (the hot path, from memory); both use [`store`] (the
//! only place with SQL) and [`blobs`] (the only place with object storage). [`jobs`] work in the background.

pub mod app;
pub mod blobs;
pub mod clock;
pub mod config;
pub mod error;
pub mod failpoint;
pub mod http;
pub mod jobs;
pub mod keys;
pub mod poll;
pub mod serve;
pub mod setup;
pub mod store;
pub mod telemetry;
