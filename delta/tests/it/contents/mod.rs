//! Looking inside compressed firmware.

mod encoders;
mod formats;
mod hostile;
mod old;
pub mod tools;

use sluice_delta::content::{ContentEncoder, FindLimits, Found, Helpers, Side, find};

/// Streams to read from.
fn old(image: &[u8]) -> Vec<Found> {
    find(image, &FindLimits::default(), Side::Old)
}

/// Streams to rebuild.
fn new(image: &[u8]) -> Vec<Found> {
    find(
        image,
        &FindLimits::default(),
        Side::New { unchanged: &|_| false, helpers: &Helpers::none(), whole_files: false },
    )
}

/// Rebuilds a stream from its content, given in pieces of odd lengths.
fn rebuild(stream: &Found) -> Vec<u8> {
    let recipe = stream.recipe.expect("streams of the new side have a recipe");
    let len = stream.content.len() as u64;
    let mut encoder = ContentEncoder::new(stream.codec, recipe, len, &Helpers::none()).expect("the recipe is usable");
    let mut out = Vec::new();
    for piece in stream.content.chunks(4099) {
        encoder.push(piece, &mut out).expect("the content is taken");
    }
    encoder.finish(&mut out).expect("the stream ends");
    out
}

/// Checks that all streams, and those inside them, are in order, apart, and rebuilt from their contents.
fn assert_rebuilds(bytes: &[u8], found: &[Found]) {
    let mut free = 0;
    for stream in found {
        assert!(stream.start >= free, "streams overlap");
        free = stream.start + stream.len;
        let coded = &bytes[stream.start as usize..free as usize];
        assert!(rebuild(stream) == coded, "{} at {} is not rebuilt", stream.codec.name(), stream.start);
        assert_rebuilds(&stream.content, &stream.inner);
    }
}

fn codecs(found: &[Found]) -> Vec<&'static str> {
    found.iter().map(|stream| stream.codec.name()).collect()
}
