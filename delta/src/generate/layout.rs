//! What programs the views have, and at which addresses.
//!
//! A file in a file system of compressed blocks may stand in the views in pieces: a block that was not compressed is no content.
//! So programs are looked for where every file is whole, in the *unfolded* image, and what is found is then cut as the view is.

use std::{borrow::Cow, collections::HashMap, ops::Range};

use super::views::Kept;
use crate::{
    content::Found,
    mix::{Region, programs},
    views::{Layer, Views},
};

/// A part of an unfolded image that stands for itself.
struct Part<'a> {
    /// Borrowed when it is one level as a whole.
    bytes: Cow<'a, [u8]>,
    runs: Vec<Run>,
    len: u64,
}

/// Bytes of a part, and where they stand in the view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    at: u64,
    len: u64,
    /// `None` when the view does not have them.
    place: Option<u64>,
    /// How deep they are nested in the old view, where each level stands behind the one before.
    level: u8,
}

/// The programs of a view, each in its part of the unfolded image, and how the part stands in the view.
pub(crate) struct Layout {
    parts: Vec<(Vec<Region>, Vec<Run>)>,
}

impl Layout {
    /// Of a view that is the image.
    pub(crate) fn plain(image: &[u8]) -> Self {
        let len = image.len() as u64;
        Self { parts: vec![(programs(image), vec![Run { at: 0, len, place: Some(0), level: 0 }])] }
    }

    /// Of the old view, when `found` are the streams of the old image.
    pub(crate) fn old(views: &Views, image: &[u8], found: &[Found]) -> Self {
        let contents = views.contents.iter().map(|content| (content.source, content.start)).collect();
        Unfolding { side: Side::Old(contents), parts: Vec::new() }.layout(image, found)
    }

    /// Of the new view, when `found` are the streams of the new image that were unfolded.
    pub(crate) fn new(views: &Views, image: &[u8], found: &[Found]) -> Self {
        Unfolding { side: Side::New(&views.layers), parts: Vec::new() }.layout(image, found)
    }

    /// The same for a view of which only `kept` is left.
    pub(crate) fn pruned(mut self, kept: &Kept) -> Self {
        for (_, runs) in &mut self.parts {
            let all = std::mem::take(runs);
            for run in all {
                let Some(mut place) = run.place else {
                    runs.push(run);
                    continue;
                };
                // A run goes through many contents, each of which may be gone.
                let (mut at, end) = (run.at, run.at + run.len);
                while at < end {
                    let (now, left) = kept.place(place);
                    let len = left.min(end - at);
                    push(runs, Run { at, len, place: now, level: run.level });
                    (at, place) = (at + len, place + len);
                }
            }
        }
        self
    }

    /// The regions of all programs in the view.
    pub(crate) fn regions(&self) -> Vec<Region> {
        let mut regions = Vec::new();
        for (programs, runs) in &self.parts {
            for program in programs.chunk_by(|_, next| !next.first) {
                in_view(program, runs, &mut regions);
            }
        }
        regions
    }
}

/// Adds the pieces of a program as they stand in the view.
fn in_view(program: &[Region], runs: &[Run], regions: &mut Vec<Region>) {
    let mut pieces: Vec<(u8, Region)> = Vec::new();
    for region in program {
        let end = region.start + region.len;
        let from = runs.partition_point(|run| run.at + run.len <= region.start);
        for run in runs[from..].iter().take_while(|run| run.at < end) {
            let Some(place) = run.place else { continue };
            let start = region.start.max(run.at);
            let piece = Region {
                start: place + (start - run.at),
                len: end.min(run.at + run.len) - start,
                address: region.address.wrapping_add(start - region.start),
                first: false,
                ..*region
            };
            pieces.push((run.level, piece));
        }
    }
    // The regions of a program follow each other in a view. What stands at another level than most of it is left out.
    let mut held: HashMap<u8, u64> = HashMap::new();
    for (level, piece) in &pieces {
        *held.entry(*level).or_default() += piece.len;
    }
    let level = held.into_iter().max_by_key(|&(level, len)| (len, level)).map_or(0, |most| most.0);
    let begin = regions.len();
    regions.extend(pieces.into_iter().filter(|piece| piece.0 == level).map(|piece| piece.1));
    if let Some(first) = regions.get_mut(begin) {
        first.first = true;
    }
}

/// How places of a level lead to the view.
enum Side<'v> {
    /// Contents stand behind the image, by where their coded bytes begin.
    Old(HashMap<u64, u64>),
    /// Every layer unfolds what the one before left.
    New(&'v [Layer]),
}

impl Side<'_> {
    /// Where bytes that no deeper level unfolds stand in the view.
    fn place(&self, level: u8, at: u64) -> u64 {
        match self {
            Self::Old(_) => at,
            Self::New(layers) => layers.iter().skip(level.into()).fold(at, |at, layer| {
                let before = layer.nodes.partition_point(|node| node.coded_start + node.coded_len <= at);
                let node = before.checked_sub(1).and_then(|number| layer.nodes.get(number));
                node.map_or(at, |node| at - (node.coded_start + node.coded_len) + node.start + node.len)
            }),
        }
    }

    /// Where the content of the stream at `at` stands at the next level.
    fn content(&self, level: u8, at: u64) -> Option<u64> {
        match self {
            Self::Old(contents) => contents.get(&at).copied(),
            Self::New(layers) => {
                let nodes = &layers.get(usize::from(level))?.nodes;
                let number = nodes.binary_search_by_key(&at, |node| node.coded_start).ok()?;
                Some(nodes[number].start)
            }
        }
    }
}

/// A level of one stream's content, or the image.
#[derive(Clone, Copy)]
struct Level<'a> {
    bytes: &'a [u8],
    found: &'a [Found],
    depth: u8,
    /// Where its bytes begin among those of its depth.
    base: Option<u64>,
}

struct Unfolding<'a, 'v> {
    side: Side<'v>,
    parts: Vec<Part<'a>>,
}

impl<'a> Unfolding<'a, '_> {
    fn layout(mut self, image: &'a [u8], found: &'a [Found]) -> Layout {
        self.part(Level { bytes: image, found, depth: 0, base: Some(0) });
        let parts = self.parts.into_iter().map(|part| (programs(&part.bytes), part.runs)).collect();
        Layout { parts }
    }

    fn part(&mut self, level: Level<'a>) {
        let whole = level.found.iter().all(|stream| !stream.block);
        let bytes = if whole { Cow::Borrowed(level.bytes) } else { Cow::Owned(Vec::new()) };
        let mut part = Part { bytes, runs: Vec::new(), len: 0 };
        self.append(&mut part, level);
        if part.runs.iter().any(|run| run.place.is_some()) {
            self.parts.push(part);
        }
    }

    /// Adds a level to a part: blocks are unfolded in their place, and what else is compressed is a part of its own.
    fn append(&mut self, part: &mut Part<'a>, level: Level<'a>) {
        let mut at = 0;
        for stream in level.found {
            let coded = stream.start as usize..(stream.start + stream.len) as usize;
            self.gap(part, level, at..coded.start);
            at = coded.end;
            let start = level.base.map(|base| base + stream.start);
            let base = start.and_then(|start| self.side.content(level.depth, start));
            let inner = Level { bytes: &stream.content, found: &stream.inner, depth: level.depth + 1, base };
            if stream.block {
                self.append(part, inner);
                continue;
            }
            match (&self.side, base) {
                // The new view has the content in place of the coded bytes.
                (Side::New(_), Some(_)) => part.push(&level.bytes[coded], None, 0),
                _ => self.gap(part, level, coded),
            }
            self.part(inner);
        }
        self.gap(part, level, at..level.bytes.len());
    }

    /// Adds bytes that stay as they are.
    fn gap(&self, part: &mut Part<'a>, level: Level<'a>, range: Range<usize>) {
        let place = level.base.map(|base| self.side.place(level.depth, base + range.start as u64));
        let depth = if matches!(self.side, Side::Old(_)) { level.depth } else { 0 };
        part.push(&level.bytes[range], place, depth);
    }
}

impl<'a> Part<'a> {
    fn push(&mut self, bytes: &'a [u8], place: Option<u64>, level: u8) {
        if bytes.is_empty() {
            return;
        }
        if let Cow::Owned(own) = &mut self.bytes {
            own.extend_from_slice(bytes);
        }
        let (at, len) = (self.len, bytes.len() as u64);
        self.len += len;
        push(&mut self.runs, Run { at, len, place, level });
    }
}

/// Adds a run, joined with the last one when it goes on from it.
fn push(runs: &mut Vec<Run>, run: Run) {
    match runs.last_mut() {
        Some(last) if last.level == run.level && last.place.map(|place| place + last.len) == run.place => {
            last.len += run.len;
        }
        _ => runs.push(run),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        content::Codec,
        views::{NewNode, OldContent},
    };

    /// An ELF file of AArch64 with one segment of `len` bytes that may be executed, at 0x40_0000.
    fn elf(len: usize) -> Vec<u8> {
        let mut file = vec![0x5a; len];
        file[..120].fill(0);
        let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, b"\x7fELF\x02\x01\x01");
        put(18, &183u16.to_le_bytes());
        put(32, &64u64.to_le_bytes());
        put(54, &56u16.to_le_bytes());
        put(56, &1u16.to_le_bytes());
        put(64, &[1, 0, 0, 0, 5]);
        put(80, &0x40_0000u64.to_le_bytes());
        put(96, &(len as u64).to_le_bytes());
        file
    }

    fn stream(start: u64, len: u64, block: bool, content: &[u8]) -> Found {
        let (codec, content, inner) = (Codec::Zlib, content.to_vec(), Vec::new());
        Found { start, len, codec, recipe: None, block, content, inner }
    }

    fn places(layout: &Layout) -> Vec<(u64, u64, u64, bool)> {
        let of = |region: &Region| (region.start, region.len, region.address, region.first);
        layout.regions().iter().map(of).collect()
    }

    /// An image of 100 bytes in which a program is coded in three blocks of ten bytes.
    fn three_blocks(file: &[u8]) -> (Vec<u8>, Vec<Found>) {
        let parts = [&file[..1_000], &file[1_000..2_500], &file[2_500..]];
        let found = [5, 15, 25].into_iter().zip(parts).map(|(at, part)| stream(at, 10, true, part)).collect();
        (vec![0; 100], found)
    }

    #[test]
    fn a_program_in_blocks_is_found_whole_and_cut_as_the_view_is() {
        let file = elf(4_001);
        let (image, found) = three_blocks(&file);
        let mut views = Views::plain(100, 100);
        views.old_len = 100;
        for stream in &found {
            let (start, len) = (views.old_len, stream.content.len() as u64);
            views.contents.push(OldContent { source: stream.start, coded_len: 10, start, len, codec: 0 });
            views.old_len += len;
        }
        let layout = Layout::old(&views, &image, &found);
        assert_eq!(layout.regions()[0].isa as u8, 1, "AArch64");
        assert_eq!(places(&layout), [(100, 4_001, 0x40_0000, true)]);
        // Without the content in the middle the rest moves up, and keeps its address.
        let contents = vec![(100, 1_000, Some(100)), (1_100, 1_500, None), (2_600, 1_501, Some(1_100))];
        let layout = layout.pruned(&Kept::new(100, contents));
        assert_eq!(places(&layout), [(100, 1_000, 0x40_0000, true), (1_100, 1_501, 0x40_0000 + 2_500, false)]);
    }

    #[test]
    fn a_stream_within_a_program_does_not_move_the_rest_of_it() {
        let file = elf(4_000);
        let found = [stream(1_000, 500, false, &[7; 2_000])];
        let nodes = vec![NewNode { start: 1_000, len: 2_000, coded_start: 1_000, coded_len: 500, encoding: 0 }];
        let mut views = Views::plain(4_000, 4_000);
        views.layers.push(Layer { nodes, input_len: 5_500, output_len: 4_000 });
        views.new_len = 5_500;
        let layout = Layout::new(&views, &file, &found);
        assert_eq!(places(&layout), [(0, 1_000, 0x40_0000, true), (3_000, 2_500, 0x40_0000 + 1_500, false)]);
    }
}
