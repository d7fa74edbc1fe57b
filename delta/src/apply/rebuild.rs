//! From the new view to the new image: what segments make passes through the layers, each of which re-encodes its streams.

#[cfg(feature = "recode")]
use alloc::vec::Vec;

use sha2::{Digest, Sha256};

#[cfg(feature = "recode")]
use crate::{
    content::{ContentEncoder, ContentError, Helpers},
    views::{Layer, NewNode},
};
use crate::{error::ApplyError, head::Segment, io::Write, views::Views};

/// Where the bytes of the new image go: hashed, then written.
#[derive(Clone)]
pub(super) struct Output {
    /// Over the image since the last resume point, unless that is checked elsewhere.
    pub check: Option<Sha256>,
    /// Over the whole image, as long as it is made in order.
    pub whole: Option<Sha256>,
}

impl Output {
    pub(super) fn new(in_order: bool) -> Self {
        Self { check: Some(Sha256::new()), whole: in_order.then(Sha256::new) }
    }

    /// Hashes nothing: somebody else will.
    #[cfg(feature = "std")]
    pub(super) fn unchecked() -> Self {
        Self { check: None, whole: None }
    }

    /// Checks what a segment made, when there is a resume point behind it.
    pub(super) fn hold_against(&mut self, index: u32, segment: &Segment) -> Result<(), ApplyError> {
        let Some((check, made)) = segment.check.zip(self.check.as_mut()) else { return Ok(()) };
        let made = core::mem::take(made).finalize();
        if made.starts_with(&check) { Ok(()) } else { Err(ApplyError::OutputMismatch { segment: index }) }
    }

    pub(super) fn write(&mut self, bytes: &[u8], out: &mut impl Write) -> Result<(), ApplyError> {
        if let Some(check) = &mut self.check {
            check.update(bytes);
        }
        self.write_checked(bytes, out)
    }

    /// Writes what was checked already, from one resume point to the next: it is no part of the check that follows.
    pub(super) fn write_checked(&mut self, bytes: &[u8], out: &mut impl Write) -> Result<(), ApplyError> {
        if let Some(whole) = &mut self.whole {
            whole.update(bytes);
        }
        out.write_all(bytes).map_err(ApplyError::WriteNew)
    }
}

/// Without encoders there are no layers to pass.
#[cfg(not(feature = "recode"))]
#[derive(Default)]
pub(super) struct Rebuilder<'h>(core::marker::PhantomData<&'h Views>);

#[cfg(not(feature = "recode"))]
#[expect(clippy::unused_self, reason = "with encoders there is a state")]
impl<'h> Rebuilder<'h> {
    pub(super) fn new(views: &'h Views, _at: u64) -> Result<Self, ApplyError> {
        match views.encodings.first().map(|encoding| encoding.recipe) {
            Some(recipe) if !views.layers.is_empty() => {
                Err(ApplyError::UnknownRecoder { name: recipe.name(), version: recipe.recoder().version })
            }
            _ => Ok(Self(core::marker::PhantomData)),
        }
    }

    pub(super) fn go_to(&mut self, _at: u64) {}

    /// Another one, at another place.
    #[cfg(feature = "std")]
    pub(super) fn at(&self, views: &'h Views, at: u64) -> Result<Self, ApplyError> {
        Self::new(views, at)
    }

    pub(super) fn push(&mut self, bytes: &[u8], output: &mut Output, out: &mut impl Write) -> Result<(), ApplyError> {
        output.write(bytes, out)
    }
}

/// The layers at work, the innermost first. By default there are none.
#[cfg(feature = "recode")]
#[derive(Default)]
pub(super) struct Rebuilder<'h> {
    views: Option<&'h Views>,
    helpers: Helpers,
    stages: Vec<Stage<'h>>,
}

#[cfg(feature = "recode")]
impl<'h> Rebuilder<'h> {
    /// Begins at a place of the new view that has a place in the image.
    #[expect(clippy::unnecessary_wraps, reason = "without encoders there are patches that cannot be applied")]
    pub(super) fn new(views: &'h Views, at: u64) -> Result<Self, ApplyError> {
        let mut rebuilder = Self { views: Some(views), helpers: Helpers::none(), stages: Vec::new() };
        rebuilder.go_to(at);
        Ok(rebuilder)
    }

    pub(super) fn helped_by(&mut self, helpers: Helpers) {
        self.helpers = helpers;
    }

    /// Goes on at another such place.
    pub(super) fn go_to(&mut self, mut at: u64) {
        self.stages.clear();
        for layer in self.views.iter().flat_map(|views| views.layers.iter().rev()) {
            let next = layer.nodes.partition_point(|node| node.start < at);
            self.stages.push(Stage { layer, next, at, encoder: None, coded: Vec::new() });
            at = layer.output_offset(at).unwrap_or(layer.output_len);
        }
    }

    /// Another one with the same helpers, at another place.
    #[expect(clippy::unnecessary_wraps, reason = "without encoders there are patches that cannot be applied")]
    pub(super) fn at(&self, views: &'h Views, at: u64) -> Result<Self, ApplyError> {
        let mut other = Self { views: Some(views), helpers: self.helpers.clone(), stages: Vec::new() };
        other.go_to(at);
        Ok(other)
    }

    /// Takes the next bytes of the new view.
    pub(super) fn push(&mut self, bytes: &[u8], output: &mut Output, out: &mut impl Write) -> Result<(), ApplyError> {
        let encoders = Encoders { views: self.views, helpers: &self.helpers };
        push(&mut self.stages, &encoders, bytes, output, out)
    }
}

/// What encoders are made from.
#[cfg(feature = "recode")]
struct Encoders<'a> {
    views: Option<&'a Views>,
    helpers: &'a Helpers,
}

#[cfg(feature = "recode")]
impl Encoders<'_> {
    fn of(&self, node: &NewNode) -> Result<ContentEncoder, ContentError> {
        let unlisted = ContentError::Malformed { field: "encoding", reason: "not listed" };
        let encoding = self.views.and_then(|views| views.encodings.get(node.encoding)).ok_or(unlisted)?;
        ContentEncoder::new(encoding.codec, encoding.recipe, node.len, self.helpers)
    }
}

/// Passes bytes through the first stage into those behind it.
#[cfg(feature = "recode")]
fn push(
    stages: &mut [Stage<'_>],
    encoders: &Encoders<'_>,
    bytes: &[u8],
    output: &mut Output,
    out: &mut impl Write,
) -> Result<(), ApplyError> {
    let Some((stage, behind)) = stages.split_first_mut() else { return output.write(bytes, out) };
    let mut rest = bytes;
    while !rest.is_empty() {
        let (taken, after) = rest.split_at(stage.run().min(rest.len() as u64) as usize);
        rest = after;
        if stage.encode(taken, encoders).map_err(ApplyError::Recode)? {
            // The coded bytes are lent to the stages behind and come back empty: one buffer serves all nodes.
            let mut coded = core::mem::take(&mut stage.coded);
            push(behind, encoders, &coded, output, out)?;
            coded.clear();
            stage.coded = coded;
        } else {
            push(behind, encoders, taken, output, out)?;
        }
    }
    Ok(())
}

/// One layer at work.
#[cfg(feature = "recode")]
struct Stage<'h> {
    layer: &'h Layer,
    /// The node that comes next or is being encoded.
    next: usize,
    /// Place in the layer's input.
    at: u64,
    /// At work on the node, and how many coded bytes it may still make.
    encoder: Option<(ContentEncoder, u64)>,
    /// Coded bytes on their way out.
    coded: Vec<u8>,
}

#[cfg(feature = "recode")]
impl Stage<'_> {
    /// Bytes until the input changes from passing through to being encoded, or back.
    fn run(&self) -> u64 {
        match self.layer.nodes.get(self.next) {
            None => u64::MAX,
            Some(node) if self.at < node.start => node.start - self.at,
            Some(node) => node.start.saturating_add(node.len).saturating_sub(self.at).max(1),
        }
    }

    /// Takes bytes of one run. `false` when they pass as they are, `true` when what became of them stands in `coded`.
    fn encode(&mut self, bytes: &[u8], encoders: &Encoders<'_>) -> Result<bool, ContentError> {
        let node = self.layer.nodes.get(self.next).filter(|node| node.start <= self.at).copied();
        self.at = self.at.saturating_add(bytes.len() as u64);
        let Some(node) = node else { return Ok(false) };
        let (mut encoder, mut left) = match self.encoder.take() {
            Some(encoder) => encoder,
            None => (encoders.of(&node)?, node.coded_len),
        };
        let wrong_len =
            ContentError::Malformed { field: "stream", reason: "it becomes longer or shorter than promised" };
        encoder.push(bytes, &mut self.coded)?;
        if self.at < node.start.saturating_add(node.len) {
            let Some(less) = left.checked_sub(self.coded.len() as u64) else { return Err(wrong_len) };
            left = less;
            self.encoder = Some((encoder, left));
        } else {
            encoder.finish(&mut self.coded)?;
            if self.coded.len() as u64 != left {
                return Err(wrong_len);
            }
            self.next += 1;
        }
        Ok(true)
    }
}
