//! `sluicectl` as a user runs it, against a server that answers from a script.

mod access;
mod errors;
mod fleet;
mod help;
mod lists;
mod nouns;
mod rollouts;
mod script;
