//! The signed documents as devices, servers and attackers see them.

mod agreement;
mod canonical_json;
mod director;
mod documentation;
mod embargo;
mod entitlement;
mod epochs;
mod frozen;
mod hostile;
mod key_files;
mod key_theft;
mod keys;
mod legacy;
mod online_keys;
mod publication;
mod refresh;
mod repository_attacks;
mod repository_state;
mod sample;
mod signatures;
mod vectors;
