//! Zstandard encoding with the linked version or a helper, called the way the original was called.

use zstd::zstd_safe::{
    CCtx, CParameter, InBuffer, OutBuffer,
    zstd_sys::ZSTD_EndDirective::{ZSTD_e_continue, ZSTD_e_end},
};

use super::{
    encode::failed,
    error::ContentError,
    helper::Helpers,
    recipe::{Zstd, ZstdMode, ZstdVersion},
};

/// Room that the encoder gets at a time.
const ROOM: usize = 128 << 10;

/// Sequence store, optimal-parser tables and block buffers.
const FIXED: u64 = 6 << 20;

/// Match tables and window for each byte of window: hash table, binary tree, and the input itself.
const PER_WINDOW: u64 = 18;

/// With jobs: the buffers of two jobs of four windows each, with overlap and output.
const PER_WINDOW_JOBS: u64 = 20;

/// Shortest job.
const MIN_JOB: u64 = 1 << 20;

/// Encoder of one frame.
pub(crate) struct Encoder {
    recipe: Zstd,
    coder: Coder,
    /// Collected content, when it is coded in one call.
    content: Vec<u8>,
}

enum Coder {
    Linked(CCtx<'static>),
    Helper(Helpers),
}

/// Whether the content is collected before it is coded.
pub(crate) fn is_whole(recipe: Zstd) -> bool {
    recipe.mode == ZstdMode::Whole || recipe.version != ZstdVersion::LINKED
}

impl Encoder {
    pub(crate) fn new(recipe: Zstd, content_len: u64, helpers: &Helpers) -> Result<Self, ContentError> {
        let content = Vec::new();
        if helpers.have(recipe.version) {
            return Ok(Self { recipe, coder: Coder::Helper(helpers.clone()), content });
        }
        if recipe.version != ZstdVersion::LINKED || linked() != recipe.version {
            return Err(ContentError::Unavailable { name: "zstd", version: recipe.version.to_string() });
        }
        let mut context = CCtx::create();
        let mut parameters = vec![
            CParameter::CompressionLevel(i32::from(recipe.level)),
            CParameter::ChecksumFlag(recipe.checksum),
            CParameter::ContentSizeFlag(recipe.content_size),
        ];
        if recipe.window_log > 0 {
            parameters.push(CParameter::WindowLog(u32::from(recipe.window_log)));
        }
        if recipe.long {
            parameters.push(CParameter::EnableLongDistanceMatching(true));
        }
        if recipe.mode == ZstdMode::Jobs {
            parameters.push(CParameter::NbWorkers(1));
        }
        for parameter in parameters {
            context.set_parameter(parameter).map_err(|_| failed("zstd"))?;
        }
        if recipe.mode != ZstdMode::Whole && recipe.content_size {
            context.set_pledged_src_size(Some(content_len)).map_err(|_| failed("zstd"))?;
        }
        Ok(Self { recipe, coder: Coder::Linked(context), content })
    }

    pub(crate) fn memory(recipe: Zstd, content_len: u64) -> u64 {
        let level = match recipe.level {
            0..=1 => 19,
            2 => 20,
            3..=8 => 21,
            9..=16 => 22,
            17..=19 => 23,
            20 => 25,
            21 => 26,
            _ => 27,
        };
        let log = if recipe.window_log == 0 { level } else { recipe.window_log };
        let known = recipe.content_size || recipe.mode == ZstdMode::Whole;
        let window = if known { (1u64 << log.min(27)).min(content_len.next_power_of_two()) } else { 1 << log.min(27) };
        FIXED
            + window * PER_WINDOW
            // A helper has the content and its coded form once more.
            + if recipe.version == ZstdVersion::LINKED { 0 } else { content_len.saturating_mul(9) / 4 }
            + match recipe.mode {
                ZstdMode::Whole => content_len.saturating_mul(9) / 4,
                ZstdMode::Stream => window,
                ZstdMode::Jobs => window.max(MIN_JOB) * PER_WINDOW_JOBS,
            }
    }

    pub(crate) fn push(&mut self, content: &[u8], out: &mut Vec<u8>) -> Result<(), ContentError> {
        let Coder::Linked(context) = &mut self.coder else {
            self.content.extend_from_slice(content);
            return Ok(());
        };
        if self.recipe.mode == ZstdMode::Whole {
            self.content.extend_from_slice(content);
            return Ok(());
        }
        let mut input = InBuffer::around(content);
        while input.pos() < content.len() {
            out.reserve(ROOM);
            let at = out.len();
            context
                .compress_stream2(&mut OutBuffer::around_pos(out, at), &mut input, ZSTD_e_continue)
                .map_err(|_| failed("zstd"))?;
        }
        Ok(())
    }

    pub(crate) fn finish(self, out: &mut Vec<u8>) -> Result<(), ContentError> {
        let mut context = match self.coder {
            Coder::Helper(helpers) => return helpers.encode(self.recipe, &self.content, out),
            Coder::Linked(context) => context,
        };
        if self.recipe.mode == ZstdMode::Whole {
            let mut coded = Vec::with_capacity(zstd::zstd_safe::compress_bound(self.content.len()));
            context.compress2(&mut coded, &self.content).map_err(|_| failed("zstd"))?;
            out.extend(coded);
            return Ok(());
        }
        loop {
            out.reserve(ROOM);
            let at = out.len();
            let left = context
                .compress_stream2(&mut OutBuffer::around_pos(out, at), &mut InBuffer::around(&[]), ZSTD_e_end)
                .map_err(|_| failed("zstd"))?;
            if left == 0 {
                return Ok(());
            }
        }
    }
}

/// The version that is really linked.
fn linked() -> ZstdVersion {
    let number = zstd::zstd_safe::version_number();
    ZstdVersion { minor: (number / 100 % 100) as u8, patch: (number % 100) as u8 }
}
