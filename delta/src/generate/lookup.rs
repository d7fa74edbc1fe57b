//! Finds strings of the old view: by a suffix array, or where that would be too large by samples.

use std::ops::Range;

use super::{
    candidates::min_match,
    index::{Index, Match},
    samples::{PER_SAMPLE, Samples},
};
use crate::error::DiffError;

/// How a part of the old view is indexed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    /// Every match of `min` bytes is found.
    Suffixes { min: usize },
    /// Every match of a sample and `step` bytes is found.
    Samples { step: usize },
}

impl Kind {
    /// For `len` bytes to index; from `sampled_from` on samples stand for a suffix array, which would take gigabytes and most of
    /// the time.
    pub(crate) fn of(len: usize, sampled_from: usize) -> Self {
        if len > sampled_from {
            Self::Samples { step: Samples::step(len) }
        } else {
            // Chance matches are as long as what is searched makes them.
            Self::Suffixes { min: min_match(len) }
        }
    }

    /// Bytes of index for each 16 bytes of old in it.
    pub(crate) fn memory_per_16(self) -> usize {
        match self {
            // Its copy 1, its suffix 4, starts 1, bits seen 1.
            Self::Suffixes { .. } => 16 * 7,
            Self::Samples { step } => 16 / step * PER_SAMPLE,
        }
    }
}

/// An index of a part of the old view.
pub(crate) enum Lookup<'a> {
    Suffixes(Index<'a>),
    Samples(Samples<'a>),
}

impl<'a> Lookup<'a> {
    /// Indexes `pieces` of `old`.
    pub(crate) fn new(old: &'a [u8], pieces: &[Range<usize>], kind: Kind) -> Result<Self, DiffError> {
        match kind {
            Kind::Suffixes { min } => Index::new(old, pieces, min).map(Self::Suffixes),
            Kind::Samples { step } => Ok(Self::Samples(Samples::new(old, pieces, step))),
        }
    }

    /// The old view.
    pub(crate) fn old(&self) -> &'a [u8] {
        match self {
            Self::Suffixes(index) => index.old,
            Self::Samples(samples) => samples.old,
        }
    }

    /// Shortest match that is found.
    pub(crate) fn min(&self) -> usize {
        match self {
            Self::Suffixes(index) => index.min,
            Self::Samples(_) => Samples::MIN,
        }
    }

    /// One bit for each of the next places of `new`, [`AHEAD`](super::index::AHEAD) of them, at which there may be a match.
    #[inline]
    pub(crate) fn may_hold(&self, new: &[u8]) -> u32 {
        match self {
            Self::Suffixes(index) => index.may_hold(new),
            Self::Samples(samples) => samples.may_hold(new),
        }
    }

    /// A long match for the front of `new`, if it has enough bytes; of equally long ones, the one closest to `expected`.
    #[inline]
    pub(crate) fn longest(&self, new: &[u8], expected: usize) -> Option<Match> {
        match self {
            Self::Suffixes(index) => index.longest(new, expected),
            Self::Samples(samples) => samples.longest(new, expected),
        }
    }
}
