//! Encoders of single streams, and the choice among them.

use super::options::Profile;
use crate::{error::DiffError, head::Codec};

/// Codes `raw` every way the profile allows and keeps the shortest.
pub(crate) fn smallest(raw: &[u8], _profile: Profile) -> Result<(Codec, Vec<u8>), DiffError> {
    let failed = |error: std::io::Error| DiffError::Internal { stage: "zstd", reason: error.to_string() };
    let coded = zstd::bulk::compress(raw, 19).map_err(failed)?;
    Ok(if coded.len() < raw.len() { (Codec::Zstd, coded) } else { (Codec::Raw, raw.to_vec()) })
}
