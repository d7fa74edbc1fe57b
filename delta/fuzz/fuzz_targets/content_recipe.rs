//! Any bytes as codec and recipe: no panic, and what is accepted is written as it was read.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sluice_delta::content::{Codec, ContentEncoder, Recipe};

fuzz_target!(|bytes: &[u8]| {
    let mut rest = bytes;
    if let Ok(codec) = Codec::read(&mut rest) {
        let mut again = Vec::new();
        codec.write(&mut again);
        assert_eq!(again, bytes[..bytes.len() - rest.len()]);
    }
    let mut rest = bytes;
    if let Ok(recipe) = Recipe::read(&mut rest) {
        let mut again = Vec::new();
        recipe.write(&mut again);
        assert_eq!(again, bytes[..bytes.len() - rest.len()]);
        assert!(ContentEncoder::memory(recipe, 1 << 31) > 0);
    }
});
