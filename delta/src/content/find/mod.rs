//! Walks an image and says which compressed streams it has, and how each is rebuilt exactly.
//!
//! First the places are found in order, with bounded waste; then the streams are decoded and tried in parallel. What is
//! found does not depend on the number of threads.

mod bytes;
mod formats;
mod limits;
mod scan;
mod search;
mod squashfs;
mod unpack;
mod xz;

use std::collections::HashSet;

use rayon::prelude::*;

pub use self::limits::{DEFAULT_STREAM_RAM, FindLimits};
use self::{
    limits::{FREE_WASTE, MIN_CODED_LEN, WASTE_PER_BYTE},
    scan::{Candidate, scan},
    search::{Family, Search},
};
use super::{codec::Codec, decode::ContentDecoder, helper::Helpers, old::OldStream, recipe::Recipe};

/// One compressed stream of an image, or of the content of another stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Where its coded bytes begin.
    pub start: u64,
    /// How many there are.
    pub len: u64,
    /// How it is decoded.
    pub codec: Codec,
    /// How it is rebuilt; always there on the new side.
    pub recipe: Option<Recipe>,
    /// Whether it is a block of a file system: its content is a part of a file, which goes on in the next one.
    pub block: bool,
    /// What the stream decodes into.
    pub content: Vec<u8>,
    /// Streams inside the content, at offsets of the content.
    pub inner: Vec<Found>,
}

/// What streams are wanted for.
#[derive(Clone, Copy)]
pub enum Side<'a> {
    /// To read from: every stream that the device's decoders take.
    Old,
    /// To rebuild: only streams that a recipe rebuilt byte for byte.
    New {
        /// Says of the coded bytes of a stream that they stand in the old image as well, so that it is best left alone.
        unchanged: &'a (dyn Fn(&[u8]) -> bool + Sync),
        /// Programs that code with other versions of Zstandard, and which the device has too.
        helpers: &'a Helpers,
        /// Whether a file of which a block changed is unfolded whole: its other blocks may refer to where that changed.
        whole_files: bool,
    },
}

/// Streams decoded and tried at a time: bounds how much content is held before it is counted.
const BATCH: usize = 256;

/// Finds the compressed streams of an image, in order and without overlaps.
pub fn find(image: &[u8], limits: &FindLimits, side: Side<'_>) -> Vec<Found> {
    find_at(places(image, limits), image, limits, side)
}

/// The places of streams in an image, but not yet what stands inside them: what takes long and needs one thread.
pub(crate) fn places(image: &[u8], limits: &FindLimits) -> Places {
    let limits = limits.clamped();
    Places(Walk { limits, side: Side::Old, streams: limits.streams, content: limits.total_content }.places(image))
}

/// What [`places`] found.
pub(crate) struct Places(Vec<Candidate>);

/// [`find`], when the places are known.
pub(crate) fn find_at(places: Places, image: &[u8], limits: &FindLimits, side: Side<'_>) -> Vec<Found> {
    let limits = limits.clamped();
    let mut walk = Walk { limits, side, streams: limits.streams, content: limits.total_content };
    walk.level(places.0, image, 1)
}

struct Walk<'a> {
    limits: FindLimits,
    side: Side<'a>,
    /// Streams that may still be found.
    streams: usize,
    /// Content bytes that they may have together.
    content: u64,
}

impl Walk<'_> {
    /// Where streams are in the image, or in the content of one.
    fn places(&self, bytes: &[u8]) -> Vec<Candidate> {
        let waste = (bytes.len() as u64).saturating_mul(WASTE_PER_BYTE).saturating_add(FREE_WASTE);
        let longest = self.limits.content_len.min(self.content);
        scan(bytes, waste, longest, self.content, self.streams)
    }

    fn level(&mut self, candidates: Vec<Candidate>, bytes: &[u8], depth: u8) -> Vec<Found> {
        let mut found = match self.side {
            Side::Old => self.decoded(bytes, candidates),
            Side::New { unchanged, helpers, whole_files } => {
                self.rebuilt(bytes, candidates, unchanged, helpers, whole_files)
            }
        };
        if depth < self.limits.depth {
            for stream in &mut found {
                stream.inner = self.level(self.places(&stream.content), &stream.content, depth + 1);
            }
        }
        found
    }

    /// Decodes candidates with the decoders of a device; what they refuse is left out.
    fn decoded(&mut self, bytes: &[u8], candidates: Vec<Candidate>) -> Vec<Found> {
        let ram = self.limits.stream_ram;
        let mut found = Vec::new();
        self.batches(
            candidates,
            |batch| {
                batch
                    .into_par_iter()
                    .map(|candidate| {
                        let candidate = candidate.unpacked(bytes)?;
                        let coded = candidate.coded(bytes)?;
                        (memory_fits(&candidate, ram) && device_decodes(candidate.codec, coded, &candidate.content))
                            .then(|| candidate.found(None))
                    })
                    .collect()
            },
            &mut found,
        );
        found
    }

    /// Decodes candidates and looks for recipes; what has none is left out.
    fn rebuilt(
        &mut self,
        bytes: &[u8],
        mut candidates: Vec<Candidate>,
        unchanged: &(dyn Fn(&[u8]) -> bool + Sync),
        helpers: &Helpers,
        whole_files: bool,
    ) -> Vec<Found> {
        let stays: Vec<bool> =
            candidates.par_iter().map(|candidate| candidate.coded(bytes).is_none_or(unchanged)).collect();
        let changed: HashSet<u64> = candidates
            .iter()
            .zip(&stays)
            .filter_map(|(candidate, stays)| candidate.file.filter(|_| whole_files && !stays))
            .collect();
        let mut stays = stays.into_iter();
        candidates.retain(|candidate| {
            stays.next() == Some(false) || candidate.file.is_some_and(|file| changed.contains(&file))
        });
        let search = Search { bytes, ram: self.limits.stream_ram, helpers };
        let hints: Vec<(Family, Vec<Recipe>)> = search.sample(&candidates);
        let mut found = Vec::new();
        self.batches(
            candidates,
            |batch| {
                batch
                    .into_par_iter()
                    .map(|candidate| {
                        let candidate = candidate.unpacked(bytes)?;
                        let known = hints.iter().find(|hint| hint.0 == candidate.family);
                        search.recipe(candidate, known.map(|hint| hint.1.as_slice()))
                    })
                    .collect()
            },
            &mut found,
        );
        found
    }

    fn batches(
        &mut self,
        candidates: Vec<Candidate>,
        mut work: impl FnMut(Vec<Candidate>) -> Vec<Option<Found>>,
        found: &mut Vec<Found>,
    ) {
        let mut rest = candidates.into_iter();
        loop {
            let batch: Vec<Candidate> = rest.by_ref().take(BATCH).collect();
            if batch.is_empty() {
                return;
            }
            for stream in work(batch).into_iter().flatten() {
                let len = stream.content.len() as u64;
                if self.streams == 0 || len > self.content {
                    return;
                }
                self.streams -= 1;
                self.content -= len;
                found.push(stream);
            }
        }
    }
}

/// Whether a device may take the memory to decode this.
fn memory_fits(candidate: &Candidate, ram: u64) -> bool {
    ContentDecoder::memory(candidate.codec, candidate.content.len() as u64) <= ram
}

/// Whether the decoders of a device make exactly this content of the coded bytes.
fn device_decodes(codec: Codec, coded: &[u8], content: &[u8]) -> bool {
    let Ok(mut decoder) = ContentDecoder::new(codec, coded.len() as u64, content.len() as u64) else { return false };
    let mut rest = coded;
    let mut block = vec![0; content.len().min(64 << 10)];
    for expected in content.chunks(64 << 10) {
        let Some(block) = block.get_mut(..expected.len()) else { return false };
        if decoder.fill(&mut rest, block).is_err() || block != expected {
            return false;
        }
    }
    decoder.finish(&mut rest).is_ok()
}

/// Whether a stream is long enough to be worth a node.
fn worth(coded_len: usize, content_len: usize) -> bool {
    coded_len as u64 >= MIN_CODED_LEN && content_len as u64 >= MIN_CODED_LEN
}

impl Found {
    /// All streams as a list for the old side, each behind the one that holds it.
    pub fn old_streams(found: &[Found]) -> Vec<OldStream> {
        let mut list = Vec::new();
        list_streams(found, None, &mut list);
        list
    }
}

fn list_streams(found: &[Found], parent: Option<u32>, list: &mut Vec<OldStream>) {
    for stream in found {
        let number = list.len() as u32;
        let (start, len, codec, content_len) = (stream.start, stream.len, stream.codec, stream.content.len() as u64);
        list.push(OldStream { parent, start, len, codec, content_len });
        list_streams(&stream.inner, Some(number), list);
    }
}
