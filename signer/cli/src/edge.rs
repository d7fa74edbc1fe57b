//! The edge of the program: its only clock, its only randomness, its only questions to a person.

use crate::failure::Failure;
use anyhow::Context as _;
use jiff::fmt::temporal::DateTimeParser;
use jiff::tz::Disambiguation;
use jiff::{SignedDuration, Timestamp};
use rand::TryRng as _;
use sluice_signer::Limits;
use std::io::IsTerminal as _;
use std::path::Path;
use zeroize::Zeroizing;

/// Bytes of a file that holds one passphrase or token.
const MAX_SECRET_BYTES: u64 = 4_096;
/// Shortest passphrase accepted for a new key: a private key file travels on sticks and in backups.
const MIN_PASSPHRASE_CHARS: usize = 8;

/// The time: the one given, or the clock's.
pub fn now(given: Option<&str>) -> anyhow::Result<Timestamp> {
    #[expect(clippy::disallowed_methods, reason = "the one place where this program reads the clock")]
    let clock = Timestamp::now;
    match given {
        None => Ok(clock()),
        Some(text) => sluice_signer::time::parse(text)
            .ok_or_else(|| Failure::file(format!("--now {text}: not a time"), "write YYYY-MM-DDTHH:MM:SSZ")),
    }
}

/// What this program's verifier accepts. In debug builds tests play later programs, which know later signing epochs.
pub fn limits() -> Limits {
    let limits = Limits::default();
    #[cfg(debug_assertions)]
    if let Some(newest_epoch) = std::env::var("SLUICE_NEWEST_EPOCH").ok().and_then(|text| text.parse().ok()) {
        return Limits { newest_epoch, ..limits };
    }
    limits
}

/// The moment this many days from now, in whole seconds.
pub fn in_days(now: Timestamp, days: u32) -> anyhow::Result<Timestamp> {
    let moment =
        now.checked_add(SignedDuration::from_hours(24 * i64::from(days))).context("the time is out of range")?;
    Timestamp::from_second(moment.as_second()).context("the time is out of range")
}

/// A moment as people write it: with an offset, or in a time zone. One that a change of clocks skips or repeats is no moment.
pub fn moment(text: &str) -> anyhow::Result<Timestamp> {
    const PARSER: DateTimeParser = DateTimeParser::new().disambiguation(Disambiguation::Reject);
    let read = if text.contains('[') { PARSER.parse_zoned(text).map(|zoned| zoned.timestamp()) } else { text.parse() };
    let moment: Timestamp = read.map_err(|error| {
        let next = "write 2026-12-01T09:00:00Z, or with a time zone 2026-12-01T10:00[Europe/Berlin]";
        Failure::refused(format!("{text}: no moment: {error}"), next)
    })?;
    if moment.subsec_nanosecond() != 0 {
        return Err(Failure::refused(format!("{text}: has a fraction of a second"), "give whole seconds"));
    }
    Ok(moment)
}

/// Random bytes from the operating system.
pub fn random<const N: usize>() -> anyhow::Result<Zeroizing<[u8; N]>> {
    let mut bytes = Zeroizing::new([0; N]);
    rand::rngs::SysRng.try_fill_bytes(bytes.as_mut_slice()).context("the system gives no randomness")?;
    Ok(bytes)
}

/// The first line of a file that holds a secret.
pub fn secret_file(path: &Path) -> anyhow::Result<Zeroizing<String>> {
    let bytes = Zeroizing::new(crate::folder::read_limited(path, MAX_SECRET_BYTES)?);
    let text = std::str::from_utf8(&bytes).with_context(|| format!("{}: not UTF-8", path.display()))?;
    Ok(Zeroizing::new(text.lines().next().unwrap_or_default().to_owned()))
}

/// A passphrase for a new key: from the file, or asked twice.
pub fn new_passphrase(file: Option<&Path>) -> anyhow::Result<Zeroizing<String>> {
    let passphrase = if let Some(path) = file {
        secret_file(path)?
    } else {
        let first = ask("Passphrase for the new key: ")?;
        if first != ask("The same again: ")? {
            return Err(Failure::refused("the two passphrases differ", "run the command again"));
        }
        first
    };
    if passphrase.chars().count() < MIN_PASSPHRASE_CHARS {
        let message = format!("the passphrase is shorter than {MIN_PASSPHRASE_CHARS} characters");
        return Err(Failure::refused(message, "choose a longer one, or give --no-passphrase for a test key"));
    }
    Ok(passphrase)
}

/// The passphrase of an existing key: from the file, or asked.
pub fn passphrase(file: Option<&Path>, key: &Path) -> anyhow::Result<Zeroizing<String>> {
    match file {
        Some(path) => secret_file(path),
        None => ask(&format!("Passphrase of {}: ", key.display())),
    }
}

/// The PIN of a token: from the file, or asked.
pub fn pin(file: Option<&Path>, token: &str) -> anyhow::Result<Zeroizing<String>> {
    match file {
        Some(path) => secret_file(path),
        None => ask(&format!("PIN of token {token}: ")),
    }
}

fn ask(prompt: &str) -> anyhow::Result<Zeroizing<String>> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::file(
            "a passphrase or PIN is needed and there is no terminal",
            "give --passphrase-file FILE",
        ));
    }
    rpassword::prompt_password(prompt).map(Zeroizing::new).context("the terminal gives no passphrase")
}

/// Whether the person at the terminal agrees. Without a terminal there is nobody to ask.
pub fn confirm(question: &str, yes: bool) -> anyhow::Result<bool> {
    if yes || !std::io::stdin().is_terminal() {
        return Ok(true);
    }
    eprint!("{question} [y/N] ");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    Ok(matches!(line.trim(), "y" | "Y" | "yes"))
}

/// Whether the person at the terminal types these words. Without a terminal nobody does.
pub fn typed(words: &str) -> anyhow::Result<bool> {
    if !std::io::stdin().is_terminal() {
        return Ok(false);
    }
    eprint!("Type {words:?} to agree: ");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    Ok(line.trim() == words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_one_moment_wherever_it_is_read() {
        let read = |text: &str| moment(text).map(sluice_signer::time::format).map_err(|error| error.to_string());
        for same in [
            "2026-12-01T09:00:00Z",
            "2026-12-01T10:00:00+01:00",
            "2026-12-01T10:00[Europe/Berlin]",
            "2026-12-01T10:00:00+01:00[Europe/Berlin]",
            "2026-12-01T18:00[Asia/Tokyo]",
        ] {
            assert_eq!(read(same), Ok("2026-12-01T09:00:00Z".to_owned()), "{same}");
        }
        assert_eq!(read("2026-07-01T10:00[Europe/Berlin]"), Ok("2026-07-01T08:00:00Z".to_owned()));
        for bad in [
            "",
            "tomorrow",
            "2026-12-01",
            "2026-12-01T09:00:00",
            "2026-12-01T09:00:00.5Z",
            "2026-12-01T10:00[Europe/Nowhere]",
            // Clocks go forward over it, and back over it.
            "2026-03-29T02:30[Europe/Berlin]",
            "2026-10-25T02:30[Europe/Berlin]",
            "2026-12-01T10:00+03:00[Europe/Berlin]",
        ] {
            assert!(read(bad).is_err(), "{bad}: {:?}", read(bad));
        }
    }
}
