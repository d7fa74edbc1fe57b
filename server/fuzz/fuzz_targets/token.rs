//! Tokens that are checked by their MAC alone: none that we did not make is accepted, and one of ours only as what it is.
#![no_main]

/// What the module below takes from the server.
mod keys {
    pub struct TokenKey(pub(crate) zeroize::Zeroizing<[u8; 32]>);
}
// The module itself: the server around it has hundreds of dependencies that would take an hour to instrument.
#[expect(dead_code, reason = "a constant that only the server uses")]
#[path = "../../src/poll/tokens.rs"]
mod tokens;

use keys::TokenKey;
use libfuzzer_sys::fuzz_target;
use sluice_catalog::id::DeviceId;
use sluice_catalog::{Digest, Time};
use tokens::Session;

const NOW: Time = Time::from_ms(1_800_000_000_000);

fuzz_target!(|input: (&str, u8, usize)| {
    let (text, bits, at) = input;
    let key = TokenKey([7; 32].into());
    let device: DeviceId = "019b0000-0000-7000-8000-000000000001".parse().unwrap();
    let blob = Digest([3; 32]);
    let accepts = |token: &str| {
        key.session_open(token, NOW).is_some() || key.challenge_ok(token, NOW) || key.blobs_open(token, blob, NOW).is_some()
    };
    assert!(!accepts(text), "a made-up token");
    let session = Session { device, epoch: 1, expires: NOW.plus_s(60) };
    for token in [key.session(session), key.challenge(NOW, [9; 16]), key.blobs(device, &[blob], NOW)] {
        assert!(accepts(&token));
        let mut bytes = token.into_bytes();
        let at = at % bytes.len();
        bytes[at] ^= bits;
        // The last character of unpadded base64 has bits to spare, but ours decodes strictly.
        if let (true, Ok(altered)) = (bits != 0, String::from_utf8(bytes)) {
            assert!(!accepts(&altered), "an altered token");
        }
    }
});
