//! Builds the views of both images from the streams that the walker found.

use std::{borrow::Cow, collections::HashSet, ops::Range};

use super::{DiffOptions, parse::Piece};
use crate::{
    content::{FindLimits, Found, Side, find},
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
    /// Where parts of the new view begin that stand for themselves: long contents, and what comes after them.
    pub new_parts: Vec<u64>,
    /// Coded bytes in the old view whose content stands there too: sorted, without overlaps. They resemble nothing but
    /// themselves.
    pub coded: Vec<Range<usize>>,
}

/// Looks into both images. `None` when there is nothing in the new one to look into.
pub(crate) fn build(old: &[u8], new: &[u8], options: &DiffOptions) -> Option<Built> {
    let limits = FindLimits { stream_ram: options.budget.ram, ..FindLimits::default() };
    let old_found = find(old, &limits, Side::Old);
    let known: HashSet<&[u8]> = old_found.iter().map(|found| coded(old, found)).collect();
    let unchanged = |coded: &[u8]| known.contains(coded);
    let new_found = find(new, &limits, Side::New { unchanged: &unchanged, helpers: &options.helpers });
    if new_found.is_empty() {
        return None;
    }
    let mut views = Views::plain(old.len() as u64, new.len() as u64);
    let (new_view, new_parts) = new_layers(&mut views, new, &new_found)?;
    let (old_view, coded) = old_contents(&mut views, old, &old_found);
    Some(Built { views, old: old_view, new: new_view, new_parts, coded })
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

/// Contents from this length on are parts of their view: a file of its own rather than a block of one.
const LONG: u64 = 1 << 20;

/// Where parts of the old view begin that stand for themselves.
pub(crate) fn old_parts(views: &Views) -> Vec<u64> {
    let mut starts = Vec::new();
    let mut long = true;
    for content in &views.contents {
        // A run of short contents is one part.
        if long || content.len >= LONG {
            starts.push(content.start);
        }
        long = content.len >= LONG;
    }
    starts
}

/// Unfolds the new image layer by layer and returns the view, and where its parts begin.
fn new_layers(views: &mut Views, image: &[u8], found: &[Found]) -> Option<(Vec<u8>, Vec<u64>)> {
    let mut parts: Vec<u64> = Vec::new();
    let mut bytes = image.to_vec();
    let mut level: Vec<(u64, &Found)> = found.iter().map(|found| (found.start, found)).collect();
    while !level.is_empty() && views.layers.len() < MAX_LAYERS {
        let mut layer = Layer { nodes: Vec::new(), input_len: 0, output_len: bytes.len() as u64 };
        let mut input = Vec::new();
        let mut inner = Vec::new();
        let mut done = 0;
        let mut more_parts = Vec::new();
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
            if found.content.len() as u64 >= LONG {
                more_parts.extend([at, input.len() as u64]);
            }
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
        // What began behind a stream begins further back in the next view.
        for part in &mut parts {
            let before = layer.nodes.partition_point(|node| node.coded_start < *part);
            if let Some(node) = before.checked_sub(1).and_then(|at| layer.nodes.get(at)) {
                *part = *part - (node.coded_start + node.coded_len) + node.start + node.len;
            }
        }
        parts.extend(more_parts);
        parts.sort_unstable();
        views.layers.push(layer);
        bytes = input;
        level = inner;
    }
    Some((bytes, parts))
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

/// Takes contents that no piece reads out of the old view: a device need not decode them. The pieces follow, and so does
/// the view that is returned.
pub(crate) fn prune<'v>(views: &mut Views, old_view: &'v [u8], segments: &mut [Vec<Piece>]) -> Cow<'v, [u8]> {
    let contents = std::mem::take(&mut views.contents);
    if contents.is_empty() {
        return Cow::Borrowed(old_view);
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
    let mut moved: Vec<u64> = Vec::with_capacity(contents.len());
    let mut end = image_len;
    for (content, used) in contents.iter().zip(&used) {
        moved.push(content.start - end);
        end += if *used { content.len } else { 0 };
    }
    let back = |at: u64| if at < image_len { 0 } else { moved.get(holding(at)).copied().unwrap_or(0) };
    let mut kept = old_view[..image_len as usize].to_vec();
    for (at, content) in contents.iter().enumerate().filter(|(at, _)| used[*at]) {
        kept.extend_from_slice(&old_view[content.start as usize..(content.start + content.len) as usize]);
        let (source, start) = (content.source - back(content.source), content.start - moved[at]);
        views.contents.push(OldContent { source, start, ..*content });
    }
    views.old_len = end;
    for piece in segments.iter_mut().flatten() {
        if let Some(shift) = &mut piece.shift {
            *shift -= back((piece.start as i64 + *shift).cast_unsigned()).cast_signed();
        }
    }
    prune_codecs(views);
    Cow::Owned(kept)
}

fn prune_codecs(views: &mut Views) {
    let codecs = std::mem::take(&mut views.codecs);
    for content in &mut views.contents {
        if let Some(codec) = codecs.get(content.codec) {
            content.codec = listed(&mut views.codecs, *codec).unwrap_or_default();
        }
    }
}
