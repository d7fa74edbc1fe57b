//! Reads the contents of an old image's streams at random, in memory that is known beforehand.
//!
//! The view is the image as it is, and behind it the content of each stream in order. Streams may lie in the contents of
//! other streams.

mod cache;
mod plan;

use alloc::{vec, vec::Vec};

pub use self::plan::{Access, OldStream, Plan};
use self::{cache::Cache, plan::SPAN};
use super::{
    codec::Codec,
    decode::ContentDecoder,
    error::{ContentError, malformed},
    inflate::Inflate,
};
use crate::{
    io::{self, ErrorKind, Read, Seek, SeekFrom, Write},
    limits::ApplyBudget,
};

/// Bytes moved at a time between an image, decoders and scratch storage.
const STEP: usize = 32 << 10;

/// What is known of the old contents, apart from the image: it outlives the readers that it is used with.
#[derive(Default)]
pub struct Unfolded {
    streams: Vec<OldStream>,
    /// Where each content begins in the view.
    starts: Vec<u64>,
    view_len: u64,
    plan: Plan,
    cache: Cache,
    states: Vec<State>,
}

impl Unfolded {
    /// Plans reading the streams of an image of `image_len` bytes within `budget`. Nothing is decoded yet.
    ///
    /// # Errors
    /// As for [`Plan::new`].
    pub fn new(image_len: u64, streams: Vec<OldStream>, budget: ApplyBudget) -> Result<Self, ContentError> {
        let plan = Plan::new(image_len, &streams, budget)?;
        let mut view_len = image_len;
        let mut starts = Vec::with_capacity(streams.len());
        for stream in &streams {
            starts.push(view_len);
            view_len = view_len.saturating_add(stream.content_len);
        }
        let cache = Cache::new(plan.cache);
        let states = streams.iter().map(|_| State::Untouched).collect();
        Ok(Self { streams, starts, view_len, plan, cache, states })
    }

    /// How the streams are read, and what it takes.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Bytes of the view.
    pub fn view_len(&self) -> u64 {
        self.view_len
    }

    /// Where the image, or the content that holds `offset`, ends in the view.
    pub fn piece_end(&self, offset: u64) -> u64 {
        let after = self.starts.partition_point(|&start| start <= offset);
        self.starts.get(after).copied().unwrap_or(self.view_len)
    }
}

/// The old image with the contents of its streams.
pub struct OldContents<'u, R, S> {
    image: R,
    scratch: S,
    kept: &'u mut Unfolded,
}

/// What was decoded of one stream so far.
enum State {
    Untouched,
    /// Decoders at the beginnings of spans, and how many coded bytes each has consumed.
    Checkpoints(Vec<(Inflate, u64)>),
    Memory(Vec<u8>),
    Scratch,
}

impl<'u, R: Read + Seek, S: Read + Write + Seek> OldContents<'u, R, S> {
    /// The view over an image, which must be the same each time. `scratch` is used from offset 0, and only as far as the
    /// plan says; [`io::empty`](crate::io::empty) does when the budget has none. It keeps what was written there.
    pub fn new(kept: &'u mut Unfolded, image: R, scratch: S) -> Self {
        Self { image, scratch, kept }
    }

    /// Where the image, or the content that holds `offset`, ends in the view.
    pub fn piece_end(&self, offset: u64) -> u64 {
        self.kept.piece_end(offset)
    }

    /// Fills `out` from the view.
    ///
    /// # Errors
    /// A range outside the view, a stream that does not decode as promised, or trouble reading.
    pub fn read_at(&mut self, offset: u64, mut out: &mut [u8]) -> Result<(), ContentError> {
        let end = offset.checked_add(out.len() as u64).filter(|&end| end <= self.kept.view_len);
        end.ok_or(malformed("range", "outside the old view"))?;
        let mut offset = offset;
        while !out.is_empty() {
            let after = self.kept.starts.partition_point(|&start| start <= offset);
            let (holder, start) = match after.checked_sub(1) {
                None => (None, 0),
                Some(stream) => (Some(stream as u32), self.kept.starts.get(stream).copied().unwrap_or_default()),
            };
            let piece_end = self.kept.starts.get(after).copied().unwrap_or(self.kept.view_len);
            let take = usize::try_from(piece_end - offset).unwrap_or(usize::MAX).min(out.len());
            let (now, later) = out.split_at_mut_checked(take).ok_or(malformed("range", "outside the old view"))?;
            self.read_in(holder, offset - start, now)?;
            offset += take as u64;
            out = later;
        }
        Ok(())
    }

    /// Fills `out` from the image, or from the content of a stream.
    fn read_in(&mut self, holder: Option<u32>, offset: u64, out: &mut [u8]) -> Result<(), ContentError> {
        let Some(number) = holder else {
            self.image.seek(SeekFrom::Start(offset))?;
            self.image.read_exact(out)?;
            return Ok(());
        };
        let (stream, access) = self.stream(number)?;
        if offset.checked_add(out.len() as u64).is_none_or(|end| end > stream.content_len) {
            return Err(malformed("range", "outside the content"));
        }
        match access {
            Access::Blocks => self.read_pieces(number, stream.content_len.max(1), offset, out),
            Access::Index => self.read_pieces(number, SPAN, offset, out),
            Access::Memory => {
                if matches!(self.state(number)?, State::Untouched) {
                    let content = self.decoded(number, &stream)?;
                    *self.state(number)? = State::Memory(content);
                }
                let State::Memory(content) = self.state(number)? else { return Err(broken()) };
                copy(content, offset, out)
            }
            Access::Scratch(base) => {
                if matches!(self.state(number)?, State::Untouched) {
                    self.spool(number, &stream, base)?;
                    *self.state(number)? = State::Scratch;
                }
                self.scratch.seek(SeekFrom::Start(base + offset))?;
                self.scratch.read_exact(out)?;
                Ok(())
            }
        }
    }

    /// Reads from cached pieces of `len` bytes, and decodes those that are not there.
    fn read_pieces(&mut self, number: u32, len: u64, offset: u64, out: &mut [u8]) -> Result<(), ContentError> {
        let (stream, access) = self.stream(number)?;
        let (mut offset, mut out) = (offset, out);
        while !out.is_empty() {
            let span = offset / len;
            let key = (number, span as u32);
            let within = offset - span * len;
            let take = usize::try_from(len - within).unwrap_or(usize::MAX).min(out.len());
            let (now, later) = out.split_at_mut_checked(take).ok_or_else(broken)?;
            if let Some(piece) = self.kept.cache.get(key) {
                copy(piece, within, now)?;
            } else {
                let piece = match access {
                    Access::Index => self.span(number, &stream, span)?,
                    _ => self.decoded(number, &stream)?,
                };
                copy(&piece, within, now)?;
                self.kept.cache.insert(key, piece);
            }
            offset += take as u64;
            out = later;
        }
        Ok(())
    }

    /// The whole content.
    fn decoded(&mut self, number: u32, stream: &OldStream) -> Result<Vec<u8>, ContentError> {
        let len = usize::try_from(stream.content_len).map_err(|_| malformed("content", "too long for this machine"))?;
        let mut decoder = ContentDecoder::new(stream.codec, stream.len, stream.content_len)?;
        let mut content = vec![0; len];
        let mut coded = Coded { contents: self, number, at: 0 };
        decoder.fill(&mut coded, &mut content)?;
        decoder.finish(&mut coded)?;
        Ok(content)
    }

    fn spool(&mut self, number: u32, stream: &OldStream, base: u64) -> Result<(), ContentError> {
        let mut decoder = ContentDecoder::new(stream.codec, stream.len, stream.content_len)?;
        let mut block = vec![0; STEP];
        let (mut done, mut at) = (0, 0);
        while done < stream.content_len {
            let len = usize::try_from(stream.content_len - done).unwrap_or(STEP).min(STEP);
            let block = block.get_mut(..len).unwrap_or_default();
            let mut coded = Coded { contents: self, number, at };
            decoder.fill(&mut coded, block)?;
            at = coded.at;
            // A stream inside a spooled stream reads scratch storage too, so the place is sought each time.
            self.scratch.seek(SeekFrom::Start(base + done))?;
            self.scratch.write_all(block)?;
            done += len as u64;
        }
        decoder.finish(&mut Coded { contents: self, number, at })
    }

    /// One span of a deflate stream, from its checkpoint. Checkpoints are made on the way.
    fn span(&mut self, number: u32, stream: &OldStream, span: u64) -> Result<Vec<u8>, ContentError> {
        if matches!(self.state(number)?, State::Untouched) {
            let first = (Inflate::new(stream.codec == Codec::Zlib), 0);
            *self.state(number)? = State::Checkpoints(vec![first]);
        }
        loop {
            let State::Checkpoints(checkpoints) = self.state(number)? else { return Err(broken()) };
            let known = checkpoints.len() as u64 - 1;
            let from = known.min(span);
            let (mut inflate, mut at) = checkpoints.get(from as usize).cloned().ok_or_else(broken)?;
            let len = SPAN.min(stream.content_len.saturating_sub(from * SPAN));
            let mut piece = vec![0; len as usize];
            self.inflate(number, stream, &mut inflate, &mut at, &mut piece)?;
            if from == known
                && let State::Checkpoints(checkpoints) = self.state(number)?
            {
                checkpoints.push((inflate, at));
            }
            if from == span {
                return Ok(piece);
            }
        }
    }

    /// Goes on decoding at coded byte `at` until `out` is full.
    fn inflate(
        &mut self,
        number: u32,
        stream: &OldStream,
        inflate: &mut Inflate,
        at: &mut u64,
        mut out: &mut [u8],
    ) -> Result<(), ContentError> {
        let mut input = vec![0; STEP];
        while !out.is_empty() {
            let left = stream.len.saturating_sub(*at);
            let len = usize::try_from(left).unwrap_or(STEP).min(STEP);
            let input = input.get_mut(..len).unwrap_or_default();
            self.read_coded(number, *at, input)?;
            let mut rest: &[u8] = input;
            loop {
                let more = left > len as u64;
                let (consumed, produced, ended) = inflate.step(rest, out, more)?;
                rest = rest.get(consumed..).unwrap_or_default();
                *at += consumed as u64;
                out = out.get_mut(produced..).unwrap_or_default();
                if out.is_empty() {
                    return Ok(());
                }
                if ended || (consumed == 0 && produced == 0 && !more) {
                    return Err(malformed("deflate data", "end too early"));
                }
                if rest.is_empty() && produced == 0 {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Fills `out` with coded bytes of a stream.
    fn read_coded(&mut self, number: u32, at: u64, out: &mut [u8]) -> Result<(), ContentError> {
        let (stream, _) = self.stream(number)?;
        self.read_in(stream.parent, stream.start + at, out)
    }

    fn stream(&self, number: u32) -> Result<(OldStream, Access), ContentError> {
        let stream = self.kept.streams.get(number as usize).copied();
        let access = self.kept.plan.access.get(number as usize).copied();
        stream.zip(access).ok_or_else(broken)
    }

    fn state(&mut self, number: u32) -> Result<&mut State, ContentError> {
        self.kept.states.get_mut(number as usize).ok_or_else(broken)
    }
}

/// Coded bytes of one stream, for a decoder.
struct Coded<'a, 'u, R, S> {
    contents: &'a mut OldContents<'u, R, S>,
    number: u32,
    at: u64,
}

impl<R: Read + Seek, S: Read + Write + Seek> Read for Coded<'_, '_, R, S> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let other = |_| io::Error::from(ErrorKind::InvalidData);
        let (stream, _) = self.contents.stream(self.number).map_err(other)?;
        let left = usize::try_from(stream.len.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let len = left.min(out.len()).min(STEP);
        let out = out.get_mut(..len).unwrap_or_default();
        match self.contents.read_coded(self.number, self.at, out) {
            Ok(()) => {
                self.at += len as u64;
                Ok(len)
            }
            Err(ContentError::Io(error)) => Err(error),
            Err(error) => Err(io::Error::new(ErrorKind::InvalidData, error)),
        }
    }
}

fn copy(from: &[u8], offset: u64, out: &mut [u8]) -> Result<(), ContentError> {
    let offset = usize::try_from(offset).map_err(|_| broken())?;
    let bytes = from.get(offset..).and_then(|rest| rest.get(..out.len())).ok_or_else(broken)?;
    out.copy_from_slice(bytes);
    Ok(())
}

fn broken() -> ContentError {
    malformed("old contents", "a position is out of range")
}
