//! The old view, read at random: the old image through one block, and behind it the contents of its streams.

use std::io::{Read, Seek, SeekFrom};

use super::memory::BLOCK;
use crate::{content::ContentDecoder, error::ApplyError, head::Head, views::OldContent};

/// What is kept of the old view between segments.
pub(super) struct OldView<'h> {
    head: &'h Head,
    block: Vec<u8>,
    /// Contents that were read before.
    contents: Vec<Vec<u8>>,
}

impl<'h> OldView<'h> {
    pub(super) fn new(head: &'h Head) -> Self {
        Self { head, block: vec![0; BLOCK], contents: vec![Vec::new(); head.views.contents.len()] }
    }

    /// The view with its image at hand. Nothing of the image is kept from before: between two segments the caller may have
    /// given another reader.
    pub(super) fn over<'a, O>(&'a mut self, image: &'a mut O) -> OpenView<'a, 'h, O> {
        OpenView { view: self, image, start: 0, filled: 0 }
    }
}

/// The old view for the time of one segment.
pub(super) struct OpenView<'a, 'h, O> {
    view: &'a mut OldView<'h>,
    image: &'a mut O,
    /// Offset of the block in the view.
    start: u64,
    /// Bytes of the block that are valid.
    filled: usize,
}

impl<O: Read + Seek> OpenView<'_, '_, O> {
    /// Bytes of the view.
    pub(super) fn len(&self) -> u64 {
        self.view.head.views.old_len
    }

    /// Up to `wanted` bytes at `offset`, at least one; commands were already held against the length of the view.
    pub(super) fn at(&mut self, offset: u64, wanted: usize) -> Result<&[u8], ApplyError> {
        if offset >= self.view.head.old_len {
            return self.content_at(offset, wanted);
        }
        let held = offset.checked_sub(self.start).and_then(|skip| usize::try_from(skip).ok());
        let skip = if let Some(skip) = held.filter(|&skip| skip < self.filled) {
            skip
        } else {
            self.load(offset)?;
            0
        };
        let end = self.filled.min(skip.saturating_add(wanted));
        Ok(self.view.block.get(skip..end).unwrap_or_default())
    }

    fn load(&mut self, offset: u64) -> Result<(), ApplyError> {
        self.filled = 0;
        let left = self.view.head.old_len.saturating_sub(offset);
        let len = usize::try_from(left).unwrap_or(BLOCK).min(self.view.block.len());
        let block = self.view.block.get_mut(..len).unwrap_or_default();
        self.image.seek(SeekFrom::Start(offset)).map_err(ApplyError::ReadOld)?;
        self.image.read_exact(block).map_err(ApplyError::ReadOld)?;
        self.start = offset;
        self.filled = len;
        Ok(())
    }

    fn content_at(&mut self, offset: u64, wanted: usize) -> Result<&[u8], ApplyError> {
        let contents = &self.view.head.views.contents;
        let number = contents.partition_point(|content| content.start.saturating_add(content.len) <= offset);
        let outside = ApplyError::Malformed { field: "views", reason: "a copy reaches past the old view" };
        let content = contents.get(number).copied().ok_or(outside)?;
        self.unfold(number, content)?;
        let skip = usize::try_from(offset.saturating_sub(content.start)).unwrap_or(usize::MAX);
        let bytes = self.view.contents.get(number).and_then(|bytes| bytes.get(skip..)).unwrap_or_default();
        Ok(bytes.get(..wanted.min(bytes.len())).unwrap_or_default())
    }

    fn unfold(&mut self, number: usize, content: OldContent) -> Result<(), ApplyError> {
        if self.view.contents.get(number).is_none_or(|bytes| !bytes.is_empty()) {
            return Ok(());
        }
        let failed = |source| ApplyError::OldContent { content: number, source };
        let unlisted = ApplyError::Malformed { field: "views", reason: "a content names a codec that is not listed" };
        let codec = *self.view.head.views.codecs.get(content.codec).ok_or(unlisted)?;
        let mut decoder = ContentDecoder::new(codec, content.coded_len, content.len).map_err(failed)?;
        let mut bytes = vec![0; content.len as usize];
        if content.source < self.view.head.old_len {
            self.image.seek(SeekFrom::Start(content.source)).map_err(ApplyError::ReadOld)?;
            let mut coded = self.image.take(content.coded_len);
            decoder.fill(&mut coded, &mut bytes).map_err(failed)?;
        } else {
            let mut coded = Vec::new();
            let mut at = content.source;
            while (coded.len() as u64) < content.coded_len {
                let more = self.at(at, (content.coded_len as usize) - coded.len())?.to_vec();
                at += more.len() as u64;
                coded.extend(more);
            }
            decoder.fill(&mut coded.as_slice(), &mut bytes).map_err(failed)?;
        }
        if let Some(slot) = self.view.contents.get_mut(number) {
            *slot = bytes;
        }
        Ok(())
    }
}
