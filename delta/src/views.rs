//! The views of both images: what the bytes that segments read and make stand for.
//!
//! The *old view* is the old image followed by the contents of compressed streams, each decoded from a range of the old view
//! before it. The *new view* is what segments make. *Layers* lead from it to the new image: each layer replaces some ranges
//! of its input by what a re-encoder makes of them. `docs/patch-format.md`, section 4.2.

use alloc::vec::Vec;

#[cfg(feature = "recode")]
use crate::content::ContentEncoder;
use crate::{
    content::{Codec, OldStream, Recipe},
    error::ApplyError,
    limits::{MAX_LAYERS, MAX_NODES, MAX_RECIPES, MAX_VIEW_LEN},
    varint,
};

#[cfg(feature = "recode")]
/// Encoded bytes on their way to the next layer: what an encoder lets go at once.
const ENCODED: u64 = 256 << 10;

/// How many ends of inner streams are looked at for one that is no part of an outer stream.
#[cfg(feature = "generate")]
const BOUNDARY_TRIES: usize = 1 << 10;

/// A compressed stream of the old view, whose content stands behind everything before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OldContent {
    /// Where the coded bytes begin in the old view.
    pub source: u64,
    /// Coded bytes.
    pub coded_len: u64,
    /// Where the content begins in the old view.
    pub start: u64,
    /// Bytes of content.
    pub len: u64,
    /// Index into [`Views::codecs`].
    pub codec: usize,
}

/// How a content becomes coded bytes again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Encoding {
    /// What the coded bytes are.
    pub codec: Codec,
    /// Which encoder makes them, with which settings.
    pub recipe: Recipe,
}

impl Encoding {
    fn read(bytes: &mut &[u8]) -> Result<Self, ApplyError> {
        Ok(Self { codec: Codec::read(bytes)?, recipe: Recipe::read(bytes)? })
    }
}

/// A range of a layer's input that is re-encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewNode {
    /// Where the content begins in the layer's input.
    pub start: u64,
    /// Bytes of content.
    pub len: u64,
    /// Where the coded bytes begin in the layer's output.
    pub coded_start: u64,
    /// Coded bytes.
    pub coded_len: u64,
    /// Index into [`Views::encodings`].
    pub encoding: usize,
}

/// One step from the new view towards the new image.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Layer {
    /// What is re-encoded, in order; everything between passes as it is.
    pub nodes: Vec<NewNode>,
    /// Bytes of its input.
    pub input_len: u64,
    /// Bytes of its output.
    pub output_len: u64,
}

impl Layer {
    /// Where a place of the input stands in the output; `None` inside a range that is re-encoded.
    pub fn output_offset(&self, input: u64) -> Option<u64> {
        let after = self.nodes.partition_point(|node| node.start < input);
        let Some(node) = after.checked_sub(1).and_then(|at| self.nodes.get(at)) else { return Some(input) };
        let behind = input.checked_sub(node.start.checked_add(node.len)?)?;
        node.coded_start.checked_add(node.coded_len)?.checked_add(behind)
    }
}

/// The views of a patch. [`Views::plain`] is that of a patch without any.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Views {
    /// How old contents are coded.
    pub codecs: Vec<Codec>,
    /// How new contents are re-encoded.
    pub encodings: Vec<Encoding>,
    /// Contents appended to the old image, in order.
    pub contents: Vec<OldContent>,
    /// From the new image (first) to the new view (last).
    pub layers: Vec<Layer>,
    /// Bytes of the old view.
    pub old_len: u64,
    /// Bytes of the new view.
    pub new_len: u64,
}

impl Views {
    /// Both views are the images themselves.
    pub fn plain(old_len: u64, new_len: u64) -> Self {
        Self { old_len, new_len, ..Self::default() }
    }

    /// Bytes of the old image, which the old view begins with.
    #[cfg(feature = "generate")]
    pub(crate) fn old_image_len(&self) -> u64 {
        self.contents.first().map_or(self.old_len, |first| first.start)
    }

    /// Whether the views are the images.
    pub fn is_plain(&self) -> bool {
        self.contents.is_empty() && self.layers.is_empty()
    }

    /// The contents as a device reads them.
    pub(crate) fn old_streams(&self) -> Vec<OldStream> {
        let stream = |content: &OldContent| {
            let after = self.contents.partition_point(|holder| holder.start <= content.source);
            let parent = after.checked_sub(1).and_then(|at| Some((at, self.contents.get(at)?)));
            Some(OldStream {
                parent: parent.map(|(at, _)| at as u32),
                start: content.source - parent.map_or(0, |(_, holder)| holder.start),
                len: content.coded_len,
                codec: *self.codecs.get(content.codec)?,
                content_len: content.len,
            })
        };
        self.contents.iter().filter_map(stream).collect()
    }

    /// Memory for re-encoding, in bytes: of each layer the largest encoder, because they work one after the other.
    #[cfg(feature = "recode")]
    pub(crate) fn encoders_memory(&self) -> u64 {
        let node = |node: &NewNode| {
            let encoding = self.encodings.get(node.encoding)?;
            Some(ContentEncoder::memory(encoding.recipe, node.len).saturating_add(ENCODED))
        };
        self.layers.iter().map(|layer| layer.nodes.iter().filter_map(node).max().unwrap_or(0)).sum()
    }

    /// Without encoders no patch that needs one is applied.
    #[cfg(not(feature = "recode"))]
    #[expect(clippy::unused_self, reason = "with encoders it is asked what they take")]
    pub(crate) fn encoders_memory(&self) -> u64 {
        0
    }

    /// Where a place of the new view stands in the new image; `None` inside anything that is re-encoded.
    pub fn image_offset(&self, view: u64) -> Option<u64> {
        self.layers.iter().rev().try_fold(view, |at, layer| layer.output_offset(at))
    }

    /// The last place before `view` that has a place in the new image, if it is the end of a stream.
    #[cfg(feature = "generate")]
    pub(crate) fn boundary_before(&self, view: u64) -> Option<u64> {
        let ends = self.layers.last()?;
        let after = ends.nodes.partition_point(|node| node.start + node.len <= view);
        let ends = ends.nodes.get(..after)?.iter().rev().map(|node| node.start + node.len);
        ends.take(BOUNDARY_TRIES).find(|&end| self.image_offset(end).is_some())
    }

    /// Reads the description. Every claim is held against the image lengths before anything is kept.
    pub(crate) fn parse(bytes: &[u8], old_len: u64, new_len: u64) -> Result<Self, ApplyError> {
        let mut rest = bytes;
        let codecs = list(&mut rest, "codecs", Codec::read)?;
        let encodings = list(&mut rest, "encodings", Encoding::read)?;
        let mut views = Self { codecs, encodings, ..Self::plain(old_len, new_len) };
        views.read_contents(&mut rest)?;
        let layers = count(&mut rest, "layers", MAX_LAYERS)?;
        for _ in 0..layers {
            let layer = read_layer(&mut rest, views.new_len, views.encodings.len())?;
            views.new_len = layer.input_len;
            views.layers.push(layer);
        }
        if rest.is_empty() { Ok(views) } else { Err(malformed("bytes follow the views")) }
    }

    fn read_contents(&mut self, rest: &mut &[u8]) -> Result<(), ApplyError> {
        let count = count(rest, "old contents", MAX_NODES)?;
        let codecs = column(rest, count)?;
        let gaps = column(rest, count)?;
        let coded = column(rest, count)?;
        let lens = column(rest, count)?;
        let mut end = 0u64;
        for (((codec, gap), coded_len), len) in codecs.into_iter().zip(gaps).zip(coded).zip(lens) {
            let source = end.checked_add_signed(varint::unzigzag(gap)).ok_or(malformed("a source starts before 0"))?;
            let start = self.old_len;
            end = source
                .checked_add(coded_len)
                .filter(|&end| end <= start)
                .ok_or(malformed("a source reaches past the view before it"))?;
            let codec = usize::try_from(codec).unwrap_or(usize::MAX);
            if codec >= self.codecs.len() {
                return Err(malformed("a content names a codec that is not listed"));
            }
            self.old_len = view_len(start, len)?;
            self.contents.push(OldContent { source, coded_len, start, len, codec });
        }
        Ok(())
    }

    /// Writes what [`Views::parse`] reads.
    #[cfg(feature = "generate")]
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        varint::write(&mut out, self.codecs.len() as u64);
        for codec in &self.codecs {
            codec.write(&mut out);
        }
        varint::write(&mut out, self.encodings.len() as u64);
        for encoding in &self.encodings {
            encoding.codec.write(&mut out);
            encoding.recipe.write(&mut out);
        }
        varint::write(&mut out, self.contents.len() as u64);
        let mut end = 0u64;
        let mut gaps = Vec::new();
        for content in &self.contents {
            gaps.push(varint::zigzag(content.source.wrapping_sub(end).cast_signed()));
            end = content.source + content.coded_len;
        }
        let contents = &self.contents;
        write_column(&mut out, contents.iter().map(|content| content.codec as u64));
        write_column(&mut out, gaps.into_iter());
        write_column(&mut out, contents.iter().map(|content| content.coded_len));
        write_column(&mut out, contents.iter().map(|content| content.len));
        varint::write(&mut out, self.layers.len() as u64);
        for layer in &self.layers {
            varint::write(&mut out, layer.nodes.len() as u64);
            let ends = layer.nodes.iter().map(|node| node.coded_start + node.coded_len);
            let befores = core::iter::once(0).chain(ends);
            write_column(&mut out, layer.nodes.iter().map(|node| node.encoding as u64));
            write_column(&mut out, layer.nodes.iter().zip(befores).map(|(node, end)| node.coded_start - end));
            write_column(&mut out, layer.nodes.iter().map(|node| node.coded_len));
            write_column(&mut out, layer.nodes.iter().map(|node| node.len));
        }
        out
    }
}

fn read_layer(rest: &mut &[u8], output_len: u64, encodings: usize) -> Result<Layer, ApplyError> {
    let count = count(rest, "nodes of a layer", MAX_NODES)?;
    let named = column(rest, count)?;
    let gaps = column(rest, count)?;
    let coded = column(rest, count)?;
    let lens = column(rest, count)?;
    let mut layer = Layer { nodes: Vec::new(), input_len: 0, output_len };
    let mut coded_end = 0u64;
    for (((encoding, gap), coded_len), len) in named.into_iter().zip(gaps).zip(coded).zip(lens) {
        let past = malformed("a node reaches past the end of its layer");
        let coded_start = coded_end.checked_add(gap).filter(|&at| at <= output_len).ok_or(past)?;
        let past = malformed("a node reaches past the end of its layer");
        coded_end = coded_start.checked_add(coded_len).filter(|&at| at <= output_len).ok_or(past)?;
        let encoding = usize::try_from(encoding).unwrap_or(usize::MAX);
        if encoding >= encodings {
            return Err(malformed("a node names an encoding that is not listed"));
        }
        if coded_len == 0 || len == 0 {
            return Err(malformed("a node is empty"));
        }
        let start = view_len(layer.input_len, gap)?;
        layer.input_len = view_len(start, len)?;
        layer.nodes.push(NewNode { start, len, coded_start, coded_len, encoding });
    }
    layer.input_len = view_len(layer.input_len, output_len - coded_end)?;
    Ok(layer)
}

fn malformed(reason: &'static str) -> ApplyError {
    ApplyError::Malformed { field: "views", reason }
}

/// `len` after `before` bytes of a view, within the limit of every view.
fn view_len(before: u64, len: u64) -> Result<u64, ApplyError> {
    let sum = before.saturating_add(len);
    if sum > MAX_VIEW_LEN {
        return Err(ApplyError::OverLimit { field: "length of a view", value: sum, limit: MAX_VIEW_LEN });
    }
    Ok(sum)
}

fn count(rest: &mut &[u8], field: &'static str, limit: usize) -> Result<usize, ApplyError> {
    let value = varint::read(rest, field)?;
    match usize::try_from(value) {
        Ok(count) if count <= limit => Ok(count),
        _ => Err(ApplyError::OverLimit { field, value, limit: limit as u64 }),
    }
}

/// One number for each of `count` entries. Columns of like numbers compress better than entries.
fn column(rest: &mut &[u8], count: usize) -> Result<Vec<u64>, ApplyError> {
    if rest.len() < count {
        return Err(ApplyError::Truncated { field: "views" });
    }
    (0..count).map(|_| varint::read(rest, "views")).collect()
}

/// A counted list of entries that know their own length.
fn list<T>(
    rest: &mut &[u8],
    field: &'static str,
    read: impl Fn(&mut &[u8]) -> Result<T, ApplyError>,
) -> Result<Vec<T>, ApplyError> {
    let count = count(rest, field, MAX_RECIPES)?;
    (0..count).map(|_| read(rest)).collect()
}

#[cfg(feature = "generate")]
fn write_column(out: &mut Vec<u8>, numbers: impl Iterator<Item = u64>) {
    for number in numbers {
        varint::write(out, number);
    }
}

#[cfg(all(test, feature = "generate"))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Image of 1,000 bytes: two streams of 100 and 50 coded bytes at 200 and 300, the second of which holds another.
    fn nested() -> Views {
        let outer = vec![
            NewNode { start: 200, len: 400, coded_start: 200, coded_len: 100, encoding: 0 },
            NewNode { start: 600, len: 300, coded_start: 300, coded_len: 50, encoding: 1 },
        ];
        let inner = vec![NewNode { start: 700, len: 1_000, coded_start: 700, coded_len: 100, encoding: 0 }];
        Views {
            codecs: vec![Codec::Deflate],
            encodings: [9, 6]
                .map(|level| Encoding { codec: Codec::Deflate, recipe: Recipe::Zlib { level, window_bits: 15 } })
                .to_vec(),
            contents: vec![
                OldContent { source: 10, coded_len: 90, start: 500, len: 300, codec: 0 },
                OldContent { source: 510, coded_len: 20, start: 800, len: 70, codec: 0 },
            ],
            layers: vec![
                Layer { nodes: outer, input_len: 1_550, output_len: 1_000 },
                Layer { nodes: inner, input_len: 2_450, output_len: 1_550 },
            ],
            old_len: 870,
            new_len: 2_450,
        }
    }

    #[test]
    fn views_are_read_as_they_were_written() {
        assert_eq!(Views::parse(&nested().encode(), 500, 1_000).unwrap(), nested());
        let plain = Views::plain(500, 1_000);
        assert_eq!(Views::parse(&plain.encode(), 500, 1_000).unwrap(), plain);
    }

    #[test]
    fn places_outside_of_streams_have_a_place_in_the_image() {
        let views = nested();
        let places = [(0, Some(0)), (200, Some(200)), (201, None), (600, Some(300)), (700, None), (1_700, None)];
        for (view, image) in places {
            assert_eq!(views.image_offset(view), image, "{view}");
        }
        // Behind the inner stream 100 bytes of the second outer one are left, behind which the image goes on.
        assert_eq!(views.image_offset(1_800), Some(350));
        assert_eq!(views.image_offset(2_450), Some(1_000));
    }

    #[test]
    fn a_source_may_not_reach_into_its_own_content() {
        let mut views = nested();
        views.contents[1].coded_len = 291;
        let error = Views::parse(&views.encode(), 500, 1_000).unwrap_err();
        assert!(matches!(error, ApplyError::Malformed { field: "views", .. }), "{error}");
    }

    #[test]
    fn nodes_may_not_reach_past_their_layer() {
        let error = Views::parse(&nested().encode(), 500, 349).unwrap_err();
        assert!(matches!(error, ApplyError::Malformed { field: "views", .. }), "{error}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_or_make_consistent_views(bytes in proptest::collection::vec(0u8..20, 0..60)) {
            if let Ok(views) = Views::parse(&bytes, 500, 1_000) {
                prop_assert_eq!(views.image_offset(views.new_len), Some(1_000));
                prop_assert!(views.contents.iter().all(|content| content.source + content.coded_len <= content.start));
                prop_assert_eq!(Views::parse(&views.encode(), 500, 1_000).unwrap(), views);
            }
        }
    }
}
