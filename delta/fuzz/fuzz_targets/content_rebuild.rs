//! Any bytes as a recipe and a content: no panic in the encoders.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sluice_delta::content::{Branch, Codec, ContentEncoder, Dict, Helpers, Recipe};

fuzz_target!(|bytes: &[u8]| {
    let mut rest = bytes;
    let Ok(recipe) = Recipe::read(&mut rest) else { return };
    // Encoders whose tables are larger than what a fuzzer may take are left out.
    if ContentEncoder::memory(recipe, rest.len() as u64) > 64 << 20 {
        return;
    }
    let Some(dict) = Dict::holding(1 << 20) else { return };
    let codec = match recipe {
        Recipe::Zlib { .. } | Recipe::Deflate(_) => Codec::Deflate,
        Recipe::Liblzma(_) => Codec::Lzma2 { dict, branch: Branch::None },
        Recipe::Xz { .. } => Codec::Xz { dict },
        Recipe::LzmaSdk { .. } => Codec::Lzma { dict },
        Recipe::Zstd(_) => Codec::Zstd { window: dict },
    };
    let Ok(mut encoder) = ContentEncoder::new(codec, recipe, rest.len() as u64, &Helpers::none()) else { return };
    let mut out = Vec::new();
    if encoder.push(rest, &mut out).is_ok() {
        let _ = encoder.finish(&mut out);
    }
});
