//! Any bytes as the coded bytes of a stream: no panic, and no more content than was announced.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sluice_delta::content::{Codec, ContentDecoder};

fuzz_target!(|bytes: &[u8]| {
    let mut rest = bytes;
    let Ok(codec) = Codec::read(&mut rest) else { return };
    let [low, high, coded @ ..] = rest else { return };
    let content_len = usize::from(u16::from_le_bytes([*low, *high]));
    let Ok(mut decoder) = ContentDecoder::new(codec, coded.len() as u64, content_len as u64) else { return };
    let mut source = coded;
    let mut content = vec![0; content_len];
    if decoder.fill(&mut source, &mut content).is_ok() {
        let _ = decoder.finish(&mut source);
    }
});
