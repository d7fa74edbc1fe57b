#![allow(missing_docs, dead_code)]
pub mod clock; pub mod error; pub mod failpoint; pub mod store;
