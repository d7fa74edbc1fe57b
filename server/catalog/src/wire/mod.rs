//! Wire types of our own surfaces: the device API, publishing, and the administrative REST API. Foreign protocols
//! (TUF documents, hawkBit DDI, Lens GraphQL) have types of their own inside their adapters.

pub mod admin;
pub mod change;
pub mod contracts;
pub mod device;
pub mod entitlement;
pub mod erasure;
pub mod event;
pub mod failure;
pub mod fleet;
pub mod live;
pub mod publish;
pub mod registration;
pub mod rollout;
