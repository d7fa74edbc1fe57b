//! The hot path: polls and downloads, answered from memory.
//!
//! [`live`] keeps products, releases, rollouts, encodings and [`documents`] as immutable snapshots; [`devices`] a bounded
//! cache of devices with their cover. A poll of a cached device that changes nothing waits for no database; [`answer`]
//! decides, signs and, in the steady state, says 304.

pub mod answer;
pub mod certificate;
pub mod decided;
pub mod devices;
pub mod documents;
pub mod live;
pub mod tokens;
pub mod views;

pub use answer::Answer;
pub use devices::{CachedDevice, Devices};
pub use live::Live;
pub use tokens::Session;
