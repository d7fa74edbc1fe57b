//! Tokens that are checked without the database: a payload and its HMAC-SHA-256, base64url. The first byte of the payload
//! says what kind it is, so that a token of one kind is never taken for another.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use sluice_catalog::id::DeviceId;
use sluice_catalog::{Digest, Time};

use crate::keys::TokenKey;

/// A session lives a day: long enough that a fleet does not sign challenges all the time.
pub const SESSION_LIFETIME_S: i64 = 24 * 3600;
/// A challenge is signed at once or not at all.
pub const CHALLENGE_LIFETIME_S: i64 = 300;
/// A download may be started this long after the poll; one that runs goes on.
pub const BLOB_LIFETIME_S: i64 = 15 * 60;
/// Most blobs one token opens: components times encodings.
pub const MAX_BLOBS: usize = 48;
/// Longest token that is looked at: one for [`MAX_BLOBS`] blobs is 1.1 kB.
const MAX_TOKEN_LEN: usize = 2048;

const SESSION: u8 = b'S';
const CHALLENGE: u8 = b'C';
const BLOB: u8 = b'B';

/// A session that a token proves: the device, and the epoch it was made in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    /// The device.
    pub device: DeviceId,
    /// Raised on the device, it ends the session.
    pub epoch: i32,
    /// When it ends by itself.
    pub expires: Time,
}

impl TokenKey {
    fn seal(&self, payload: &[u8]) -> String {
        let mut bytes = payload.to_vec();
        bytes.extend_from_slice(&self.mac(payload).finalize().into_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    fn mac(&self, payload: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&*self.0).unwrap_or_else(|_| unreachable!("any length is a key"));
        mac.update(payload);
        mac
    }

    fn open(&self, token: &str, kind: u8) -> Option<Vec<u8>> {
        if token.len() > MAX_TOKEN_LEN {
            return None;
        }
        let mut bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let at = bytes.len().checked_sub(32)?;
        let tag = bytes.split_off(at);
        // Constant time.
        self.mac(&bytes).verify_slice(&tag).ok()?;
        (bytes.first() == Some(&kind)).then_some(bytes)
    }

    /// Makes a session token.
    pub fn session(&self, session: Session) -> String {
        let mut payload = vec![SESSION];
        payload.extend_from_slice(session.device.0.as_bytes());
        payload.extend_from_slice(&session.epoch.to_be_bytes());
        payload.extend_from_slice(&session.expires.as_ms().to_be_bytes());
        self.seal(&payload)
    }

    /// Reads a session token that has not ended.
    pub fn session_open(&self, token: &str, now: Time) -> Option<Session> {
        let payload = self.open(token, SESSION)?;
        let (device, rest) = payload.get(1..)?.split_first_chunk::<16>()?;
        let (epoch, rest) = rest.split_first_chunk::<4>()?;
        let expires = Time::from_ms(i64::from_be_bytes(rest.try_into().ok()?));
        (now < expires).then_some(Session {
            device: DeviceId(uuid::Uuid::from_bytes(*device)),
            epoch: i32::from_be_bytes(*epoch),
            expires,
        })
    }

    /// Makes a challenge.
    pub fn challenge(&self, now: Time, random: [u8; 16]) -> String {
        let mut payload = vec![CHALLENGE];
        payload.extend_from_slice(&now.as_ms().to_be_bytes());
        payload.extend_from_slice(&random);
        self.seal(&payload)
    }

    /// Whether a challenge is ours and fresh.
    pub fn challenge_ok(&self, challenge: &str, now: Time) -> bool {
        let made = || {
            let payload = self.open(challenge, CHALLENGE)?;
            let (made, _) = payload.get(1..)?.split_first_chunk::<8>()?;
            Some(Time::from_ms(i64::from_be_bytes(*made)))
        };
        // A replica's clock may be a little ahead.
        made().is_some_and(|made| made.plus_s(-CHALLENGE_LIFETIME_S) <= now && now <= made.plus_s(CHALLENGE_LIFETIME_S))
    }

    /// Makes a token that opens blobs for a device.
    pub fn blobs(&self, device: DeviceId, blobs: &[Digest], now: Time) -> String {
        let mut payload = vec![BLOB];
        payload.extend_from_slice(device.0.as_bytes());
        payload.extend_from_slice(&now.plus_s(BLOB_LIFETIME_S).as_ms().to_be_bytes());
        for blob in blobs.iter().take(MAX_BLOBS) {
            // 16 of 32 bytes: a second blob of ours with the same half would take 2^64 signed images.
            payload.extend(blob.0.iter().take(16));
        }
        self.seal(&payload)
    }

    /// The device for which a token opens a blob now.
    pub fn blobs_open(&self, token: &str, blob: Digest, now: Time) -> Option<DeviceId> {
        let payload = self.open(token, BLOB)?;
        let (device, rest) = payload.get(1..)?.split_first_chunk::<16>()?;
        let (expires, blobs) = rest.split_first_chunk::<8>()?;
        let wanted = blob.0.get(..16)?;
        (now < Time::from_ms(i64::from_be_bytes(*expires)) && blobs.chunks_exact(16).any(|half| half == wanted))
            .then_some(DeviceId(uuid::Uuid::from_bytes(*device)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use zeroize::Zeroizing;

    use super::*;

    fn key(byte: u8) -> TokenKey {
        TokenKey(Zeroizing::new([byte; 32]))
    }

    fn now() -> Time {
        Time::from_ms(1_800_000_000_000)
    }

    fn session() -> Session {
        Session { device: DeviceId(uuid::Uuid::from_u128(7)), epoch: 3, expires: now().plus_s(SESSION_LIFETIME_S) }
    }

    #[test]
    fn a_session_ends_at_its_moment_and_is_worth_nothing_under_another_key() {
        let token = key(1).session(session());
        assert_eq!(key(1).session_open(&token, now()), Some(session()));
        assert_eq!(key(1).session_open(&token, session().expires.plus_ms(-1)), Some(session()));
        assert_eq!(key(1).session_open(&token, session().expires), None);
        assert_eq!(key(2).session_open(&token, now()), None);
    }

    #[test]
    fn a_token_of_one_kind_is_never_another() {
        let device = session().device;
        let blobs = [Digest::of(b"a")];
        let blob_token = key(1).blobs(device, &blobs, now());
        assert_eq!(key(1).session_open(&blob_token, now()), None);
        assert!(!key(1).challenge_ok(&blob_token, now()));
        assert_eq!(key(1).blobs_open(&key(1).session(session()), blobs[0], now()), None);
    }

    #[test]
    fn a_blob_token_opens_its_blobs_for_a_quarter_of_an_hour() {
        let blobs = [Digest::of(b"a"), Digest::of(b"b")];
        let token = key(1).blobs(session().device, &blobs, now());
        assert_eq!(key(1).blobs_open(&token, blobs[1], now()), Some(session().device));
        assert_eq!(key(1).blobs_open(&token, Digest::of(b"c"), now()), None);
        assert_eq!(key(1).blobs_open(&token, blobs[0], now().plus_s(BLOB_LIFETIME_S)), None);
    }

    #[test]
    fn a_challenge_lives_five_minutes() {
        let challenge = key(1).challenge(now(), [9; 16]);
        assert!(key(1).challenge_ok(&challenge, now().plus_s(299)));
        assert!(!key(1).challenge_ok(&challenge, now().plus_s(301)));
    }

    proptest! {
        #[test]
        fn any_changed_byte_is_refused(at: prop::sample::Index, bit in 0u8..8) {
            let token = key(1).session(session());
            let mut bytes = URL_SAFE_NO_PAD.decode(&token).unwrap();
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            prop_assert_eq!(key(1).session_open(&URL_SAFE_NO_PAD.encode(bytes), now()), None);
        }

        #[test]
        fn arbitrary_text_is_refused(text in ".{0,200}") {
            prop_assert_eq!(key(1).session_open(&text, now()), None);
            prop_assert_eq!(key(1).blobs_open(&text, Digest::of(b"a"), now()), None);
        }
    }
}
