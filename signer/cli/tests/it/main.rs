//! The command line as release engineers and holders run it.

mod advisories;
mod audit;
mod ceremony;
mod detached;
mod documentation;
mod drill;
mod embargo;
mod entitlement;
mod epochs;
mod files;
mod keys;
mod online_keys;
mod overrides;
mod products;
mod publishing;
mod refusals;
mod requests;
mod rotation;
mod sandbox;
mod tokens;
mod tuf;
mod uptane;
mod uptane_delegations;
mod vectors;
