//! Builds the views of both images from the streams that the walker found.

use std::{borrow::Cow, collections::HashSet, ops::Range};

use super::{DiffOptions, layout::Layout, parse::Piece};
use crate::{
    content::{FindLimits, Found, Side, find_at, places},
    limits::{MAX_LAYERS, MAX_NODES, MAX_RECIPES},
    views::{Encoding, Layer, NewNode, OldContent, Views},
};

/// Both views as bytes, and their description.
pub(crate) struct Built {
    pub views: Views,
    /// The old image followed by the contents of its streams.
    pub old: Vec<u8>,
    /// The new view.
    pub new: Vec<u8>,
    /// The programs of both views, for profiles that use them.
    pub layouts: Option<[Layout; 2]>,
    /// Coded bytes in the old view whose content stands there too: sorted, without overlaps. They resemble nothing but
    /// themselves.
    pub coded: Vec<Range<usize>>,
}

/// Looks into both images. `None` when there is nothing in the new one to look into.
pub(crate) fn build(old: &[u8], new: &[u8], options: &DiffOptions) -> Option<Built> {
    let limits = FindLimits { stream_ram: options.budget.ram, ..FindLimits::default() };
    let (old_places, new_places) = rayon::join(|| places(old, &limits), || places(new, &limits));
    let old_found = find_at(old_places, old, &limits, Side::Old);
    let known: HashSet<&[u8]> = old_found.iter().map(|found| coded(old, found)).collect();
    let unchanged = |coded: &[u8]| known.contains(coded);
    // References are predicted where programs are whole.
    let mixes = options.profile.mix(new.len()).is_some();
    let side = Side::New { unchanged: &unchanged, helpers: &options.helpers, whole_files: mixes };
    let new_found = find_at(new_places, new, &limits, side);
    if new_found.is_empty() {
        return None;
    }
    let mut views = Views::plain(old.len() as u64, new.len() as u64);
    let new_view = new_layers(&mut views, new, &new_found)?;
    let (old_view, coded) = old_contents(&mut views, old, &old_found);
    let layouts = mixes.then(|| [Layout::old(&views, old, &old_found), Layout::new(&views, new, &new_found)]);
    Some(Built { views, old: old_view, new: new_view, layouts, coded })
}

fn coded<'a>(image: &'a [u8], found: &Found) -> &'a [u8] {
    &image[found.start as usize..(found.start + found.len) as usize]
}

/// Index of `entry` in `list`, where it is added if need be; `None` when the list is full.
fn listed<T: PartialEq>(list: &mut Vec<T>, entry: T) -> Option<usize> {
    if let Some(at) = list.iter().position(|known| *known == entry) {
        return Some(at);
    }
    if list.len() >= MAX_RECIPES {
        return None;
    }
    list.push(entry);
    Some(list.len() - 1)
}

/// Unfolds the new image layer by layer and returns the view.
fn new_layers(views: &mut Views, image: &[u8], found: &[Found]) -> Option<Vec<u8>> {
    let mut bytes = image.to_vec();
    let mut level: Vec<(u64, &Found)> = found.iter().map(|found| (found.start, found)).collect();
    while !level.is_empty() && views.layers.len() < MAX_LAYERS {
        let mut layer = Layer { nodes: Vec::new(), input_len: 0, output_len: bytes.len() as u64 };
        let mut input = Vec::new();
        let mut inner = Vec::new();
        let mut done = 0;
        for (start, found) in level {
            let recipe = found.recipe?;
            let Some(encoding) = listed(&mut views.encodings, Encoding { codec: found.codec, recipe }) else {
                continue;
            };
            if layer.nodes.len() >= MAX_NODES {
                break;
            }
            input.extend_from_slice(&bytes[done..start as usize]);
            let at = input.len() as u64;
            input.extend_from_slice(&found.content);
            done = (start + found.len) as usize;
            layer.nodes.push(NewNode {
                start: at,
                len: found.content.len() as u64,
                coded_start: start,
                coded_len: found.len,
                encoding,
            });
            inner.extend(found.inner.iter().map(|inner| (at + inner.start, inner)));
        }
        input.extend_from_slice(&bytes[done..]);
        layer.input_len = input.len() as u64;
        views.new_len = layer.input_len;
        views.layers.push(layer);
        bytes = input;
        level = inner;
    }
    Some(bytes)
}

/// Appends the contents of the old streams, the outer ones first.
fn old_contents(views: &mut Views, image: &[u8], found: &[Found]) -> (Vec<u8>, Vec<Range<usize>>) {
    let mut bytes = image.to_vec();
    let mut coded = Vec::new();
    let mut level: Vec<(u64, &Found)> = found.iter().map(|found| (found.start, found)).collect();
    while !level.is_empty() {
        let mut inner = Vec::new();
        for (source, found) in level {
            let Some(codec) = listed(&mut views.codecs, found.codec).filter(|_| views.contents.len() < MAX_NODES)
            else {
                continue;
            };
            let start = bytes.len() as u64;
            let len = found.content.len() as u64;
            bytes.extend_from_slice(&found.content);
            views.contents.push(OldContent { source, coded_len: found.len, start, len, codec });
            coded.push(source as usize..(source + found.len) as usize);
            inner.extend(found.inner.iter().map(|inner| (start + inner.start, inner)));
        }
        level = inner;
    }
    views.old_len = bytes.len() as u64;
    coded.sort_unstable_by_key(|range| range.start);
    (bytes, coded)
}

/// What is left of the old view without contents that nobody reads.
pub(crate) struct Kept {
    image_len: u64,
    /// Where each content began, how long it is, and where it begins now.
    contents: Vec<(u64, u64, Option<u64>)>,
}

impl Kept {
    #[cfg(test)]
    pub(crate) fn new(image_len: u64, contents: Vec<(u64, u64, Option<u64>)>) -> Self {
        Self { image_len, contents }
    }

    /// Where a place of the view stands now, and how many bytes from it on stand with it.
    pub(crate) fn place(&self, at: u64) -> (Option<u64>, u64) {
        if at < self.image_len {
            return (Some(at), self.image_len - at);
        }
        let holding = self.contents.partition_point(|content| content.0 + content.1 <= at);
        let Some(&(start, len, now)) = self.contents.get(holding) else { return (None, u64::MAX) };
        (now.map(|now| now + (at - start)), start + len - at)
    }
}

/// Takes contents that no piece reads out of the old view: a device need not decode them. The pieces follow, and so does
/// the view that is returned.
pub(crate) fn prune<'v>(
    views: &mut Views,
    old_view: &'v [u8],
    segments: &mut [Vec<Piece>],
) -> (Cow<'v, [u8]>, Option<Kept>) {
    let contents = std::mem::take(&mut views.contents);
    if contents.is_empty() {
        return (Cow::Borrowed(old_view), None);
    }
    let holding = |at: u64| contents.partition_point(|content| content.start + content.len <= at);
    let mut used = vec![false; contents.len()];
    for piece in segments.iter().flatten() {
        let Some(shift) = piece.shift else { continue };
        let from = (piece.start as i64 + shift).cast_unsigned();
        let to = from + (piece.end - piece.start) as u64;
        for (content, used) in contents.iter().zip(&mut used).skip(holding(from)) {
            if content.start >= to {
                break;
            }
            *used = true;
        }
    }
    // What an inner content is decoded from is needed too. A source stands before its content.
    let image_len = contents[0].start;
    for at in (0..contents.len()).rev() {
        let source = contents[at].source;
        if used[at] && source >= image_len {
            used[holding(source)] = true;
        }
    }
    let mut kept = Kept { image_len, contents: Vec::with_capacity(contents.len()) };
    let mut bytes = old_view[..image_len as usize].to_vec();
    for (content, used) in contents.iter().zip(used) {
        let start = bytes.len() as u64;
        kept.contents.push((content.start, content.len, used.then_some(start)));
        if used {
            bytes.extend_from_slice(&old_view[content.start as usize..(content.start + content.len) as usize]);
            let source = kept.place(content.source).0.unwrap_or_default();
            views.contents.push(OldContent { source, start, ..*content });
        }
    }
    views.old_len = bytes.len() as u64;
    for piece in segments.iter_mut().flatten() {
        if let Some(shift) = &mut piece.shift {
            let from = (piece.start as i64 + *shift).cast_unsigned();
            *shift -= (from - kept.place(from).0.unwrap_or(from)).cast_signed();
        }
    }
    prune_codecs(views);
    (Cow::Owned(bytes), Some(kept))
}

fn prune_codecs(views: &mut Views) {
    let codecs = std::mem::take(&mut views.codecs);
    for content in &mut views.contents {
        if let Some(codec) = codecs.get(content.codec) {
            content.codec = listed(&mut views.codecs, *codec).unwrap_or_default();
        }
    }
}
