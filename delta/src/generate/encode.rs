//! Encoders of single streams, and the choice among them.

use std::io::Read;

use liblzma::stream::{Action, Filters, LzmaOptions, MatchFinder, Mode, Status, Stream};
use lzma_rust2::LzmaReader;

use super::options::Profile;
use crate::{
    error::DiffError,
    head::{Codec, StreamKind},
};

/// Zstandard level: the highest that needs no more memory to decode than the stream is long.
pub(crate) const ZSTD_LEVEL: i32 = 19;

/// Streams up to this length are coded with every setting; longer ones with the setting that won on their first bytes.
const TRIAL_LEN: usize = 256 << 10;

/// LZMA settings: literal context bits, literal position bits, position bits.
type Setting = (u32, u32, u32);

/// Settings worth trying. Differences and literals of code repeat every two or four bytes, control and text do not.
fn settings(kind: StreamKind) -> &'static [Setting] {
    match kind {
        StreamKind::Control => &[(0, 0, 0), (1, 0, 0), (3, 0, 0)],
        StreamKind::Diff => &[(3, 0, 2), (3, 0, 0), (0, 0, 2)],
        StreamKind::Extra => &[(3, 0, 0), (3, 0, 2), (4, 0, 0)],
    }
}

/// Codes `raw` every way the profile allows and keeps the shortest.
pub(crate) fn smallest(kind: StreamKind, raw: &[u8], profile: Profile) -> Result<(Codec, Vec<u8>), DiffError> {
    let coded = match profile {
        Profile::Fast => (Codec::Zstd, zstd(raw)?),
        Profile::Default => {
            let lzma = best_lzma(settings(kind), raw)?;
            // On long streams Zstandard never wins, and its attempt is not free.
            let zstd = if raw.len() <= TRIAL_LEN { Some(zstd(raw)?) } else { None };
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
    let trial = &raw[..raw.len().min(TRIAL_LEN)];
    let mut best: Option<(Setting, Vec<u8>)> = None;
    for &setting in settings {
        let coded = lzma(trial, setting)?;
        if best.as_ref().is_none_or(|(_, best)| coded.len() < best.len()) {
            best = Some((setting, coded));
        }
    }
    let (setting, mut coded) = best.unwrap_or_default();
    if trial.len() < raw.len() {
        coded = lzma(raw, setting)?;
    }
    coded.truncate(read_len(&coded, raw)?);
    Ok(coded)
}

/// Properties byte, then LZMA data with their end marker.
fn lzma(raw: &[u8], (lc, lp, pb): Setting) -> Result<Vec<u8>, DiffError> {
    let mut options = LzmaOptions::new_preset(9).map_err(|error| failed("LZMA", error.to_string()))?;
    options
        .dict_size((raw.len() as u32).max(4 << 10))
        .literal_context_bits(lc)
        .literal_position_bits(lp)
        .position_bits(pb)
        .mode(Mode::Normal)
        .match_finder(MatchFinder::BinaryTree4)
        .nice_len(273)
        .depth(if raw.len() <= TRIAL_LEN { 512 } else { 64 });
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
