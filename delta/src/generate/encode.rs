//! Encoders of single streams, and the choice among them.

use std::{borrow::Cow, io::Read, ops::RangeInclusive};

use liblzma::stream::{Action, Filters, LzmaOptions, MatchFinder, Mode, Status, Stream};
use lzma_rust2::LzmaReader;

use super::{
    lzma::{self, Effort, Setting},
    options::Profile,
};
use crate::{
    error::DiffError,
    head::{Codec, StreamKind},
};

/// Zstandard level: the highest that needs no more memory to decode than the stream is long.
pub(crate) const ZSTD_LEVEL: i32 = 19;

/// The share of a stream that stands for all of it when settings are tried, and the bounds of that.
const SAMPLED_SHARE: usize = 32;
const SAMPLED_LEN: RangeInclusive<usize> = 32 << 10..=128 << 10;

/// What a setting must save on the sample of a long sparse stream, as a share, to be preferred to the usual one: of little that
/// is not zero a model learns little, which favours small ones.
const SAVED_SHARE: usize = 32;

/// Pieces of a long stream, spread over it, that make a sample.
const SAMPLES: usize = 4;

/// On longer streams Zstandard never wins, and its attempt is not free.
const ZSTD_TRIAL_LEN: usize = 16 << 10;

/// Up to this length a stream is worth a full search.
const SHORT_LEN: usize = 1 << 20;

/// Streams of which all but this share are zeros are the sparse encoder's.
const SPARSE_SHARE: usize = 4;

/// Matches that the general encoder takes without looking further, and how far it looks. More of either gains nothing on code.
const NICE_LEN: u32 = 128;
const SEARCH_DEPTH: u32 = 48;

/// Settings worth trying, the usual one first. Differences and literals of code repeat every two or four bytes, control and
/// text do not.
fn settings(kind: StreamKind) -> &'static [Setting] {
    match kind {
        StreamKind::Control => &[(0, 0, 0), (1, 0, 0), (3, 0, 0)],
        StreamKind::Diff => &[(3, 0, 2), (3, 0, 0), (0, 0, 2)],
        StreamKind::Extra | StreamKind::References => &[(3, 0, 0), (3, 0, 2), (4, 0, 0)],
    }
}

/// Codes `raw` every way the profile allows and keeps the shortest.
pub(crate) fn smallest(kind: StreamKind, raw: &[u8], profile: Profile) -> Result<(Codec, Vec<u8>), DiffError> {
    let coded = match profile {
        Profile::Fast => (Codec::Zstd, zstd(raw)?),
        // A microcontroller has no memory for a dictionary.
        Profile::Mcu => return Ok((Codec::Raw, raw.to_vec())),
        Profile::Default | Profile::Small => {
            let lzma = best_lzma(settings(kind), raw)?;
            let zstd = if raw.len() <= ZSTD_TRIAL_LEN { Some(zstd(raw)?) } else { None };
            match zstd {
                Some(zstd) if zstd.len() <= lzma.len() => (Codec::Zstd, zstd),
                _ => (Codec::Lzma, lzma),
            }
        }
    };
    Ok(if coded.1.len() < raw.len() { coded } else { (Codec::Raw, raw.to_vec()) })
}

fn zstd(raw: &[u8]) -> Result<Vec<u8>, DiffError> {
    zstd::bulk::compress(raw, ZSTD_LEVEL).map_err(|error| failed("Zstandard", error.to_string()))
}

fn best_lzma(settings: &[Setting], raw: &[u8]) -> Result<Vec<u8>, DiffError> {
    let others: usize = raw.iter().map(|&byte| usize::from(byte != 0)).sum();
    let mut coded =
        if others * SPARSE_SHARE < raw.len() { sparse_lzma(settings, raw) } else { best_general_lzma(settings, raw)? };
    coded.truncate(read_len(&coded, raw)?);
    Ok(coded)
}

fn sparse_lzma(settings: &[Setting], raw: &[u8]) -> Vec<u8> {
    let sample = sample(raw);
    let (effort, saved) =
        if raw.len() <= SHORT_LEN { (Effort::SHORT, None) } else { (Effort::LONG, Some(SAVED_SHARE)) };
    let tried = settings.iter().map(|&setting| (setting, lzma::encode(&sample, setting, Effort::TRIAL)));
    let (setting, _) = preferred(tried.collect(), saved).unwrap_or_default();
    lzma::encode(raw, setting, effort)
}

fn best_general_lzma(settings: &[Setting], raw: &[u8]) -> Result<Vec<u8>, DiffError> {
    let sample = sample(raw);
    let tried = settings.iter().map(|&setting| Ok((setting, general_lzma(&sample, setting)?)));
    let tried = tried.collect::<Result<_, DiffError>>()?;
    let (setting, coded) = preferred(tried, None).unwrap_or_default();
    if sample.len() < raw.len() { general_lzma(raw, setting) } else { Ok(coded) }
}

/// The setting that made the least of what it was tried on, and what it made: the first one, unless another saves more than
/// this share of it.
fn preferred(tried: Vec<(Setting, Vec<u8>)>, share: Option<usize>) -> Option<(Setting, Vec<u8>)> {
    let mut tried = tried.into_iter();
    let usual = tried.next()?;
    let saved = share.map_or(0, |share| usual.1.len() / share);
    let best = tried.min_by_key(|(_, coded)| coded.len());
    best.filter(|(_, coded)| coded.len() + saved < usual.1.len()).or(Some(usual))
}

/// Pieces from all over a long stream. They begin at multiples of 16, so that position bits mean the same.
fn sample(raw: &[u8]) -> Cow<'_, [u8]> {
    let len = (raw.len() / SAMPLED_SHARE).clamp(*SAMPLED_LEN.start(), *SAMPLED_LEN.end());
    if raw.len() <= len {
        return Cow::Borrowed(raw);
    }
    let len = len / SAMPLES;
    let piece = |number: usize| {
        let from = (raw.len() - len) / (SAMPLES - 1) * number / 16 * 16;
        &raw[from..from + len]
    };
    (0..SAMPLES).flat_map(piece).copied().collect()
}

/// Properties byte, then LZMA data with their end marker.
fn general_lzma(raw: &[u8], (lc, lp, pb): Setting) -> Result<Vec<u8>, DiffError> {
    let mut options = LzmaOptions::new_preset(9).map_err(|error| failed("LZMA", error.to_string()))?;
    options
        .dict_size((raw.len() as u32).max(4 << 10))
        .literal_context_bits(lc)
        .literal_position_bits(lp)
        .position_bits(pb)
        .mode(Mode::Normal)
        .match_finder(MatchFinder::BinaryTree4)
        .nice_len(NICE_LEN)
        .depth(SEARCH_DEPTH);
    let mut filters = Filters::new();
    filters.lzma1(&options);
    let mut encoder = Stream::new_raw_encoder(&filters).map_err(|error| failed("LZMA", error.to_string()))?;
    // LZMA expands incompressible data by less than this.
    let mut coded = Vec::with_capacity(raw.len() + raw.len() / 16 + 1024);
    coded.push(((pb * 5 + lp) * 9 + lc) as u8);
    match encoder.process_vec(raw, &mut coded, Action::Finish) {
        Ok(Status::StreamEnd) => Ok(coded),
        Ok(_) => Err(failed("LZMA", "the output is longer than expected")),
        Err(error) => Err(failed("LZMA", error.to_string())),
    }
}

/// How many bytes of `coded` a decoder reads that knows the length of `raw`: it needs neither the end marker nor all of the
/// flush behind the data. Proves on the way that the device's decoder gives `raw` back.
fn read_len(coded: &[u8], raw: &[u8]) -> Result<usize, DiffError> {
    let [props, data @ ..] = coded else { return Err(failed("LZMA", "no output")) };
    let mut reader = LzmaReader::new_with_props(data, raw.len() as u64, *props, raw.len() as u32, None)
        .map_err(|error| failed("LZMA", error.to_string()))?;
    let mut block = vec![0; 64 << 10];
    let mut rest = raw;
    loop {
        let read = reader.read(&mut block).map_err(|error| failed("LZMA", error.to_string()))?;
        if read == 0 {
            break;
        }
        rest = rest.strip_prefix(&block[..read]).ok_or_else(|| failed("LZMA", "does not decode into its input"))?;
    }
    if !rest.is_empty() {
        return Err(failed("LZMA", "does not decode into its input"));
    }
    let (unread, buffered) = reader.into_parts();
    Ok(coded.len() - unread.len() - buffered.len())
}

fn failed(stage: &'static str, reason: impl Into<String>) -> DiffError {
    DiffError::Internal { stage, reason: reason.into() }
}
