//! Looks for the recipe that rebuilds a stream byte for byte.
//!
//! A setting is given up at the first byte that differs, and what rebuilt some blocks of a file system is what
//! is tried for the others.

use rayon::prelude::*;

use super::{
    super::{
        codec::Codec,
        decode::{LZMA_HEADER, LzmaHeader},
        encode::ContentEncoder,
        helper::Helpers,
        recipe::{Deflate, Lzma, Recipe, Zstd, ZstdMode, ZstdVersion},
    },
    Found,
    scan::Candidate,
    xz::BlockHeader,
};

/// Streams that one program made in one go share settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    /// On its own.
    Single,
    /// An entry of an archive: its neighbours' settings are tried first.
    Zip,
    /// Data block of a file system: if the sample has no recipe, none has.
    Blocks,
    /// Metadata block of a file system.
    Metadata,
}

/// Streams of a family that are searched in full before the others.
const SAMPLE: usize = 6;

/// Content given to an encoder between two comparisons.
const STEP: usize = 32 << 10;

/// What the search needs to know besides the stream.
pub(super) struct Search<'a> {
    /// What the streams lie in.
    pub(super) bytes: &'a [u8],
    /// Memory that a device may take to rebuild one.
    pub(super) ram: u64,
    pub(super) helpers: &'a Helpers,
}

impl Search<'_> {
    /// Recipes that rebuilt a sample of each family, the most frequent first.
    pub(super) fn sample(&self, candidates: &[Candidate]) -> Vec<(Family, Vec<Recipe>)> {
        [Family::Zip, Family::Blocks, Family::Metadata]
            .into_iter()
            .filter_map(|family| {
                let members: Vec<&Candidate> =
                    candidates.iter().filter(|candidate| candidate.family == family).collect();
                if members.len() <= SAMPLE {
                    return None;
                }
                let sample: Vec<Option<Recipe>> = (0..SAMPLE)
                    .into_par_iter()
                    .map(|n| {
                        let member = members.get(n * members.len() / SAMPLE)?;
                        let candidate = (*member).clone().unpacked(self.bytes)?;
                        self.exact(&candidate, &self.all(&candidate)).map(|(recipe, _)| recipe)
                    })
                    .collect();
                let mut counted: Vec<(Recipe, usize)> = Vec::new();
                for recipe in sample.into_iter().flatten() {
                    match counted.iter_mut().find(|other| other.0 == recipe) {
                        Some((_, count)) => *count += 1,
                        None => counted.push((recipe, 1)),
                    }
                }
                counted.sort_by_key(|recipe| std::cmp::Reverse(recipe.1));
                let recipes = counted.into_iter().map(|recipe| recipe.0).collect();
                Some((family, recipes))
            })
            .collect()
    }

    /// The stream with the recipe that rebuilds it. `known` are recipes of its family, when that has many members.
    pub(super) fn recipe(&self, candidate: Candidate, known: Option<&[Recipe]>) -> Option<Found> {
        let all = self.all(&candidate);
        let recipes = match known {
            // Recipes are shared, but what a stream's own header says is the stream's own.
            Some(known) => {
                let mut recipes: Vec<Recipe> = known.iter().copied().filter(|recipe| all.contains(recipe)).collect();
                // Entries of an archive may have come from elsewhere; a program makes all blocks of a file system.
                if candidate.family == Family::Zip {
                    recipes.extend(all.iter().filter(|recipe| !known.contains(recipe)));
                }
                recipes
            }
            None => all,
        };
        if let Some((recipe, len)) = self.exact(&candidate, &recipes) {
            let mut found = candidate.found(Some(recipe));
            found.len = len as u64;
            return Some(found);
        }
        self.without_header(candidate)
    }

    /// A zlib stream whose deflate data another encoder than zlib made: header and checksum stay outside.
    fn without_header(&self, mut candidate: Candidate) -> Option<Found> {
        if candidate.codec != Codec::Zlib {
            return None;
        }
        candidate.start += 2;
        candidate.len = candidate.len.checked_sub(6)?;
        candidate.codec = Codec::Deflate;
        let (recipe, _) = self.exact(&candidate, &family(false))?;
        Some(candidate.found(Some(recipe)))
    }

    /// The first recipe that rebuilds the stream, and how long the stream then is.
    fn exact(&self, candidate: &Candidate, recipes: &[Recipe]) -> Option<(Recipe, usize)> {
        let rest = self.bytes.get(candidate.start..)?;
        let rest = match candidate.codec {
            // The last bytes of its range coder need not be read, so the decoder cannot tell whether they belong to it.
            Codec::Lzma { .. } => rest.get(..candidate.len + LZMA_SURPLUS).unwrap_or(rest),
            _ => rest.get(..candidate.len)?,
        };
        let content_len = candidate.content.len() as u64;
        let mut fitting = recipes.iter().filter(|&&recipe| ContentEncoder::memory(recipe, content_len) <= self.ram);
        fitting.find_map(|recipe| Some((*recipe, self.rebuilt_len(candidate, *recipe, rest)?)))
    }

    /// Bytes that the encoder makes, when they are those of the image.
    fn rebuilt_len(&self, candidate: &Candidate, recipe: Recipe, rest: &[u8]) -> Option<usize> {
        let content = &candidate.content;
        let mut encoder = ContentEncoder::new(candidate.codec, recipe, content.len() as u64, self.helpers).ok()?;
        let mut out = Vec::new();
        let mut compared = 0;
        for step in content.chunks(STEP) {
            encoder.push(step, &mut out).ok()?;
            if rest.get(compared..)?.get(..out.len())? != out {
                return None;
            }
            compared += out.len();
            out.clear();
        }
        encoder.finish(&mut out).ok()?;
        let len = compared + out.len();
        (rest.get(compared..len)? == out && len >= candidate.len).then_some(len)
    }

    /// Every recipe that could have made the stream, the likeliest first.
    fn all(&self, candidate: &Candidate) -> Vec<Recipe> {
        let Some(coded) = candidate.coded(self.bytes) else { return Vec::new() };
        match candidate.codec {
            Codec::Deflate => [zlib(15, &LEVELS), family(candidate.family == Family::Zip)].concat(),
            Codec::Zlib => zlib_by_header(coded),
            Codec::Lzma { .. } => lzma(coded).unwrap_or_default(),
            Codec::Lzma2 { dict, .. } => presets(lzma2_props(coded), dict).into_iter().map(Recipe::Liblzma).collect(),
            Codec::Xz { .. } => xz(coded).unwrap_or_default(),
            Codec::Zstd { .. } => self.zstd(candidate, coded).unwrap_or_default(),
        }
    }

    /// The frame header tells the flags; version, level and mode are tried.
    fn zstd(&self, candidate: &Candidate, coded: &[u8]) -> Option<Vec<Recipe>> {
        let descriptor = *coded.get(4)?;
        let checksum = descriptor & 4 != 0;
        let content_size = descriptor >> 6 != 0 || descriptor & 0x20 != 0;
        let modes: &[ZstdMode] = match (candidate.family, content_size && !checksum) {
            (Family::Blocks | Family::Metadata, _) => &[ZstdMode::Whole],
            (_, true) => &[ZstdMode::Whole, ZstdMode::Jobs, ZstdMode::Stream],
            _ => &[ZstdMode::Jobs, ZstdMode::Stream],
        };
        let levels = [19, 15, 3, 22, 9, 1, 2, 4, 5, 6, 7, 8, 10, 11, 12, 13, 14, 16, 17, 18, 20, 21];
        let versions: Vec<ZstdVersion> = std::iter::once(ZstdVersion::LINKED).chain(self.helpers.versions()).collect();
        let mut recipes = Vec::new();
        for level in levels {
            for &mode in modes {
                for &version in &versions {
                    let (window_log, long) = (0, false);
                    recipes.push(Recipe::Zstd(Zstd { version, level, mode, checksum, content_size, window_log, long }));
                }
            }
        }
        Some(recipes)
    }
}

/// Bytes of a range coder's flush.
const LZMA_SURPLUS: usize = 5;

fn zlib(window_bits: u8, levels: &[u8]) -> Vec<Recipe> {
    levels.iter().map(|&level| Recipe::Zlib { level, window_bits }).collect()
}

/// Levels of deflate encoders, the likeliest first.
const LEVELS: [u8; 9] = [6, 9, 1, 8, 7, 5, 4, 3, 2];

/// Encoders of zlib's family: GNU gzip, Info-ZIP, and zlib at memory level 9.
/// Often only the last bytes of a stream tell the first two from each other.
fn family(zip: bool) -> Vec<Recipe> {
    let encoders = [(15, true, zip), (15, true, !zip), (16, false, true)];
    let settings = LEVELS.into_iter().flat_map(|level| encoders.map(|encoder| (level, encoder)));
    settings
        .map(|(level, (hash_bits, early, clamped))| {
            Recipe::Deflate(Deflate { level, hash_bits, symbol_bits: 15, early, clamped })
        })
        .collect()
}

/// The header of zlib tells the window, and the level roughly.
fn zlib_by_header(coded: &[u8]) -> Vec<Recipe> {
    let (Some(&method), Some(&flags)) = (coded.first(), coded.get(1)) else { return Vec::new() };
    let levels: &[u8] = match flags >> 6 {
        0 => &[1],
        1 => &[5, 4, 3, 2],
        2 => &[6],
        _ => &[9, 8, 7],
    };
    zlib((method >> 4) + 8, levels)
}

/// `lc` 3, `lp` 0, `pb` 2.
const DEFAULT_PROPS: u8 = 0x5d;

/// Properties of the first chunk that states them; chunks of stored bytes may stand before it.
fn lzma2_props(mut data: &[u8]) -> u8 {
    loop {
        match data {
            [0xc0..=0xff, _, _, _, _, props, ..] if *props < 225 => return *props,
            [1 | 2, high, low, rest @ ..] => {
                let len = usize::from(u16::from_be_bytes([*high, *low])) + 1;
                data = rest.get(len..).unwrap_or_default();
            }
            _ => return DEFAULT_PROPS,
        }
    }
}

/// liblzma's presets with the dictionary of the stream.
fn presets(props: u8, dict: crate::content::Dict) -> Vec<Lzma> {
    let order =
        [(6, false), (9, false), (9, true), (6, true), (8, false), (7, false), (5, false), (4, false), (3, false)];
    let rest = [(2, false), (1, false), (0, false), (8, true), (7, true), (5, true), (4, true), (3, true), (2, true)];
    let last = [(1, true), (0, true)];
    order.into_iter().chain(rest).chain(last).map(|(preset, extreme)| Lzma { preset, extreme, props, dict }).collect()
}

/// Encoders of LZMA with a header: the SDK when the header has the length, liblzma when not.
fn lzma(coded: &[u8]) -> Option<Vec<Recipe>> {
    let header = LzmaHeader::parse(coded.get(..LZMA_HEADER)?).ok()?;
    let dict =
        crate::content::Dict::holding(u64::from(header.dict_len)).filter(|dict| dict.bytes() == header.dict_len)?;
    if header.content_len.is_none() {
        return Some(presets(header.props, dict).into_iter().map(Recipe::Liblzma).collect());
    }
    // Fast bytes and match cycles of the SDK's levels.
    let settings = [(32, 32), (64, 48), (128, 48), (273, 152), (273, 48), (64, 64), (128, 80)];
    Some(
        settings
            .into_iter()
            .map(|(fast_bytes, cycles)| Recipe::LzmaSdk { props: header.props, dict, fast_bytes, cycles })
            .collect(),
    )
}

fn xz(coded: &[u8]) -> Option<Vec<Recipe>> {
    let check = *coded.get(7)?;
    let header = BlockHeader::parse(coded.get(12..)?)?;
    let words = *coded.get(12)?;
    let props = lzma2_props(coded.get(12 + header.len..)?);
    let presets = presets(props, header.dict).into_iter();
    Some(
        presets
            .map(|lzma| Recipe::Xz { lzma, branch: header.branch, check, sizes: header.sizes, header: words })
            .collect(),
    )
}
