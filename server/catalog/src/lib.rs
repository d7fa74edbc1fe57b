//! The vocabulary of Sluice and its pure decisions.
//!
//! One struct per noun, shared by the store, the REST API, the console, the command lines and the device agent.
//! Nothing here does IO, reads a clock or draws a random number: the time is a [`Time`] handed in, an id is made from
//! bytes handed in. That is what makes [`decide`] answer the same on every replica, for any moment, past or future.
//!
//! Features: `sql` derives `sqlx::FromRow`/`Type`, `openapi` derives `utoipa::ToSchema`.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic))]

pub mod audit;

pub mod contract;
pub mod cover;
pub mod customer;
pub mod decide;
pub mod device;
pub mod digest;
pub mod erasure;
pub mod facts;
pub mod id;
pub mod import;
pub mod job;
pub mod mac;
pub mod notice;
pub mod offline;
pub mod patch;
pub mod policy;
pub mod pool;
pub mod principal;
pub mod problem;
pub mod product;
pub mod reason;
pub mod registration;
pub mod release;
pub mod rollout;
pub mod set;
pub mod source;
pub mod swap;
pub mod text;
pub mod time;
pub mod token_bucket;
pub mod wire;

pub use digest::Digest;
pub use mac::Mac;
pub use problem::{Kind, Problem};
pub use reason::Reason;
pub use set::TextSet;
pub use time::{Period, Time};
