//! The server, run in process on both databases and both blob stores, and killed as a process of its own.
//!
//! `name::sqlite` and `name::postgres` are one test on two engines; PostgreSQL comes from `cargo xtask test`.

#[macro_use]
mod harness;

mod store;
