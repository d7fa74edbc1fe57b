//! Developer commands of this repository: `cargo xtask …`. One module per command, and what they share.
//!
//! Depends on none of our crates: it runs them as separate programs, exactly as a user would.

pub mod apt;
pub mod clients;
pub mod demo;
pub mod lint;
pub mod postgres;
pub mod python;
pub mod steps;
pub mod test;
pub mod tidy;
