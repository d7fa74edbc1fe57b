//! From the new view to the new image: what segments make passes through the layers, each of which re-encodes its streams.

use std::io::Write;

use sha2::{Digest, Sha256};

use crate::{
    content::{ContentEncoder, ContentError},
    error::ApplyError,
    views::{Layer, NewNode, Views},
};

/// Where the bytes of the new image go: hashed, then written.
#[derive(Clone)]
pub(super) struct Output {
    /// Over the image since the last resume point.
    pub check: Sha256,
    /// Over the whole image, as long as it is made in order.
    pub whole: Option<Sha256>,
}

impl Output {
    pub(super) fn new(in_order: bool) -> Self {
        Self { check: Sha256::new(), whole: in_order.then(Sha256::new) }
    }

    /// The digest since the last resume point, which is here now.
    pub(super) fn take_check(&mut self) -> [u8; 32] {
        std::mem::take(&mut self.check).finalize().into()
    }

    fn write(&mut self, bytes: &[u8], out: &mut impl Write) -> Result<(), ApplyError> {
        self.check.update(bytes);
        if let Some(whole) = &mut self.whole {
            whole.update(bytes);
        }
        out.write_all(bytes).map_err(ApplyError::WriteNew)
    }
}

/// The layers at work, the innermost first.
pub(super) struct Rebuilder<'h> {
    stages: Vec<Stage<'h>>,
}

impl<'h> Rebuilder<'h> {
    /// Begins at a place of the new view that has a place in the image.
    pub(super) fn new(views: &'h Views, mut at: u64) -> Self {
        let mut stages = Vec::new();
        for layer in views.layers.iter().rev() {
            let next = layer.nodes.partition_point(|node| node.start < at);
            stages.push(Stage { layer, views, next, at, encoder: None, coded: Vec::new() });
            at = layer.output_offset(at).unwrap_or(layer.output_len);
        }
        Self { stages }
    }

    /// Takes the next bytes of the new view.
    pub(super) fn push(&mut self, bytes: &[u8], output: &mut Output, out: &mut impl Write) -> Result<(), ApplyError> {
        push(&mut self.stages, bytes, output, out)
    }
}

/// Passes bytes through the first stage into those behind it.
fn push(stages: &mut [Stage<'_>], bytes: &[u8], output: &mut Output, out: &mut impl Write) -> Result<(), ApplyError> {
    let Some((stage, behind)) = stages.split_first_mut() else { return output.write(bytes, out) };
    let mut rest = bytes;
    while !rest.is_empty() {
        let (taken, after) = rest.split_at(stage.run().min(rest.len() as u64) as usize);
        rest = after;
        if stage.encode(taken)? {
            // The coded bytes are lent to the stages behind and come back empty: one buffer serves all nodes.
            let mut coded = std::mem::take(&mut stage.coded);
            push(behind, &coded, output, out)?;
            coded.clear();
            stage.coded = coded;
        } else {
            push(behind, taken, output, out)?;
        }
    }
    Ok(())
}

/// One layer at work.
struct Stage<'h> {
    layer: &'h Layer,
    views: &'h Views,
    /// The node that comes next or is being encoded.
    next: usize,
    /// Place in the layer's input.
    at: u64,
    encoder: Option<ContentEncoder>,
    /// Coded bytes on their way out.
    coded: Vec<u8>,
}

impl Stage<'_> {
    fn node(&self) -> Option<&NewNode> {
        self.layer.nodes.get(self.next)
    }

    /// Bytes until the input changes from passing through to being encoded, or back.
    fn run(&self) -> u64 {
        match self.node() {
            None => u64::MAX,
            Some(node) if self.at < node.start => node.start - self.at,
            Some(node) => node.start.saturating_add(node.len).saturating_sub(self.at).max(1),
        }
    }

    /// Takes bytes of one run. `false` when they pass as they are, `true` when what became of them stands in `coded`.
    fn encode(&mut self, bytes: &[u8]) -> Result<bool, ApplyError> {
        let node = self.layer.nodes.get(self.next).filter(|node| node.start <= self.at).copied();
        self.at = self.at.saturating_add(bytes.len() as u64);
        let Some(node) = node else { return Ok(false) };
        let mut encoder = match self.encoder.take() {
            Some(encoder) => encoder,
            None => {
                let unlisted = ContentError::Malformed { field: "encoding", reason: "not listed" };
                let encoding = self.views.encodings.get(node.encoding).ok_or(ApplyError::Recode(unlisted))?;
                ContentEncoder::new(encoding.codec, encoding.recipe, node.len).map_err(ApplyError::Recode)?
            }
        };
        encoder.push(bytes, &mut self.coded).map_err(ApplyError::Recode)?;
        if self.at >= node.start.saturating_add(node.len) {
            encoder.finish(&mut self.coded).map_err(ApplyError::Recode)?;
            self.next += 1;
        } else {
            self.encoder = Some(encoder);
        }
        Ok(true)
    }
}
