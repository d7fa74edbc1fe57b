//! What is known before the first segment: the commands of all of them, and for the context-mixing coder where everything
//! moved.

use alloc::vec::Vec;

use super::{control::AllCommands, decode::StreamDecoder};
use crate::{
    error::ApplyError,
    head::{self, Head, StreamKind},
    mix::{Moved, References, Regions, Span},
};

/// What is known of both views.
struct Known {
    old: Regions,
    new: Regions,
    moved: Moved,
}

/// A decoded lead.
pub(super) struct Lead {
    pub commands: AllCommands,
    /// What moved where, for the context-mixing coder.
    known: Option<Known>,
}

impl Lead {
    /// Decodes an authenticated lead.
    pub(super) fn decode(head: &Head, lead: &head::Lead, coded: &[u8]) -> Result<Self, ApplyError> {
        let mut spans = Vec::new();
        let shortest = head.map.map_or(0, |bound| bound.shortest);
        if head.mix.is_some() {
            spans.reserve_exact(lead.commands as usize);
        }
        let commands = AllCommands::decode(head, lead, coded, |command, new| {
            if head.mix.is_some() && command.copy > 0 && command.copy >= shortest {
                spans.push(Span { old: command.old_offset, len: u64::from(command.copy), new });
            }
        })?;
        let known = match head.mix {
            None => None,
            Some(_) => {
                let (old, new) = spaces(head, lead, coded)?;
                Some(Known { old, new, moved: Moved::new(spans) })
            }
        };
        Ok(Self { commands, known })
    }

    /// What mixed segments are decoded with.
    pub(super) fn references(&self) -> Option<References<'_>> {
        let Known { old, new, moved } = self.known.as_ref()?;
        Some(References { old: old.space(), new: new.space(), map: moved.map() })
    }
}

/// The regions of both views; there are none when the lead has no references.
fn spaces(head: &Head, lead: &head::Lead, coded: &[u8]) -> Result<(Regions, Regions), ApplyError> {
    let Some(stream) = lead.stream(StreamKind::References) else { return Ok((Regions::default(), Regions::default())) };
    let failed = |reason| ApplyError::DecodeLead { stream: StreamKind::References.name(), reason };
    let before = lead.stream(StreamKind::Control).map_or(0, |control| control.coded_len as usize);
    let raw = StreamDecoder::whole(stream.codec, stream.raw_len, coded.get(before..).unwrap_or_default());
    let raw = raw.map_err(failed)?;
    let mut rest = raw.as_slice();
    let old = Regions::read(&mut rest, head.views.old_len)?;
    let new = Regions::read(&mut rest, head.views.new_len)?;
    if rest.is_empty() { Ok((old, new)) } else { Err(failed("bytes follow the regions")) }
}
