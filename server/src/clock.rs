//! The one place that reads the clock and draws random numbers. Everything else is handed a [`Clock`] or [`Dice`], so
//! that tests set the time and a decision can be asked about any moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use rand::TryRng as _;
use sluice_catalog::Time;

/// Tells the time.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    /// Milliseconds to add to the system's time; tests move it.
    offset_ms: Arc<AtomicI64>,
}

impl Clock {
    /// Now.
    #[expect(clippy::disallowed_methods, reason = "the server's one clock")]
    pub fn now(&self) -> Time {
        let system = jiff::Timestamp::now().as_millisecond();
        Time::from_ms(system.saturating_add(self.offset_ms.load(Ordering::Relaxed)))
    }

    /// Moves the clock, forward or back (tests only).
    pub fn advance_ms(&self, ms: i64) {
        self.offset_ms.fetch_add(ms, Ordering::Relaxed);
    }
}

/// Gives random bytes from the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct Dice;

impl Dice {
    /// `N` random bytes.
    ///
    /// # Panics
    /// When the operating system has no randomness: nothing secret can be made then, so the process must not go on.
    pub fn bytes<const N: usize>(self) -> [u8; N] {
        let mut bytes = [0; N];
        rand::rngs::SysRng.try_fill_bytes(&mut bytes).expect("the operating system gives randomness");
        bytes
    }

    /// The random half of an id.
    pub fn id(self) -> [u8; 10] {
        self.bytes()
    }

    /// A secret text with 256 random bits behind a prefix that secret scanners recognise.
    pub fn secret(self, prefix: &str) -> String {
        use base64::Engine as _;
        let bytes = self.bytes::<32>();
        format!("{prefix}_{}", base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes))
    }
}
