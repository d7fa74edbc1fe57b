//! Variable-length integers: seven bits a byte, lowest first, the top bit says that more follow.
//!
//! One value has one encoding. A longer form with leading zero groups is refused, so that no two heads mean the same.

#[cfg(feature = "alloc")]
use alloc::vec::Vec;

use crate::error::ApplyError;

/// Longest encoding of a `u64`.
pub(crate) const MAX_LEN: usize = 10;

/// Reads one integer and moves `bytes` past it.
pub(crate) fn read(bytes: &mut &[u8], field: &'static str) -> Result<u64, ApplyError> {
    read_from(field, || {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        Some(byte)
    })
}

/// Reads one integer from wherever its bytes come from.
pub(crate) fn read_from(field: &'static str, mut next: impl FnMut() -> Option<u8>) -> Result<u64, ApplyError> {
    let mut value = 0u64;
    for shift in (0..MAX_LEN).map(|n| 7 * n) {
        let byte = next().ok_or(ApplyError::Truncated { field })?;
        let group = u64::from(byte & 0x7f);
        if shift == 63 && group > 1 {
            return Err(ApplyError::Malformed { field, reason: "the integer exceeds 64 bits" });
        }
        value |= group << shift;
        if byte & 0x80 == 0 {
            if byte == 0 && shift > 0 {
                return Err(ApplyError::Malformed { field, reason: "the integer is not in its shortest form" });
            }
            return Ok(value);
        }
    }
    Err(ApplyError::Malformed { field, reason: "the integer exceeds 64 bits" })
}

/// Undoes the zigzag mapping: 0, 1, 2, 3, 4 … stand for 0, -1, 1, -2, 2 …
pub(crate) fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -((value & 1).cast_signed())
}

/// Appends the encoding of `value`.
#[cfg(feature = "alloc")]
pub(crate) fn write(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Maps signed to unsigned so that small magnitudes stay small.
#[cfg(feature = "alloc")]
pub(crate) fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}
