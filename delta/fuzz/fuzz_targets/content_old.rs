//! Any claims about the streams of an image: no panic, and no range outside.

#![no_main]

use std::io::Cursor;

use libfuzzer_sys::fuzz_target;
use sluice_delta::{
    ApplyBudget,
    content::{Codec, OldContents, OldStream, Unfolded},
};

fuzz_target!(|bytes: &[u8]| {
    let (mut rest, mut streams) = (bytes, Vec::new());
    for _ in 0..4 {
        let Ok(codec) = Codec::read(&mut rest) else { break };
        let Some((&[parent, start, len, a, b, c], after)) = rest.split_first_chunk::<6>() else { break };
        rest = after;
        let parent = parent.checked_sub(1).map(u32::from);
        let content_len = u64::from(u32::from_le_bytes([a, b, c, 0])) >> 3;
        streams.push(OldStream { parent, start: u64::from(start), len: u64::from(len) * 16, codec, content_len });
    }
    let budget = ApplyBudget { ram: 64 << 20, scratch: 4 << 20 };
    let Ok(mut unfolded) = Unfolded::new(bytes.len() as u64, streams, budget) else { return };
    let view_len = unfolded.view_len();
    let mut contents = OldContents::new(&mut unfolded, Cursor::new(bytes), Cursor::new(Vec::new()));
    let mut out = [0; 300];
    for part in 0..8 {
        let at = view_len / 8 * part;
        let len = (view_len - at).min(300) as usize;
        let _ = contents.read_at(at, &mut out[..len]);
    }
    assert!(contents.read_at(view_len, &mut [0]).is_err());
});
