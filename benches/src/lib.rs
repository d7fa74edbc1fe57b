//! What the measuring programs share: a fleet with the real server under it, patches beside their peers, and the data
//! that the benches of the decision run on.
//!
//! * [`fleet`] starts `sluice-server`, sets it up through its real surfaces and makes devices.
//! * [`large`] writes a million devices under a server and changes rollouts over them.
//! * [`load`] sends what devices send, over kept-alive connections, and checks every answer.
//! * [`pairs`] makes and applies patches of real firmware; [`peers`] holds what other programs need for the same.
//! * [`latency`] counts latencies in bounded memory; [`clock`] is the one place that reads a clock.
//! * [`catalogue`] fills the real server with many products, and walks what it serves.
//! * [`sample`] makes a product with thousands of releases.

pub mod catalogue;
pub mod clock;
pub mod documents;
pub mod fleet;
pub mod http;
pub mod large;
pub mod latency;
pub mod load;
pub mod pairs;
pub mod peers;
pub mod sample;
pub mod server;
