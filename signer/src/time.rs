//! The one spelling of time in TUF documents: `YYYY-MM-DDTHH:MM:SSZ`, UTC, whole seconds.

use jiff::Timestamp;

/// How a time is written.
const FORMAT: &str = "%Y-%m-%dT%H:%M:%SZ";

/// Reads exactly `YYYY-MM-DDTHH:MM:SSZ`. Fractions, offsets and other spellings are refused: clients in other
/// languages read nothing else, and a second spelling of one time is a second document with the same meaning.
pub fn parse(text: &str) -> Option<Timestamp> {
    const SHAPE: &[u8; 20] = b"dddd-dd-ddTdd:dd:ddZ";
    let fits = text.len() == SHAPE.len()
        && text.bytes().zip(SHAPE).all(|(byte, shape)| match shape {
            b'd' => byte.is_ascii_digit(),
            other => byte == *other,
        });
    if !fits {
        return None;
    }
    let time: Timestamp = text.parse().ok()?;
    // A leap second reads as the second before it and would not print as it was read.
    (format(time) == text).then_some(time)
}

/// Writes a time; fractions of a second are dropped.
pub fn format(time: Timestamp) -> String {
    time.strftime(FORMAT).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_form_is_read() {
        let good = "2026-03-01T12:30:59Z";
        assert_eq!(parse(good).map(format).as_deref(), Some(good));
        for bad in [
            "",
            "2026-03-01",
            "2026-03-01T12:30:59",
            "2026-03-01T12:30:59.0Z",
            "2026-03-01T12:30:59+00:00",
            "2026-03-01 12:30:59Z",
            "2026-03-01t12:30:59z",
            "2026-13-01T12:30:59Z",
            "2026-02-30T12:30:59Z",
            "2026-12-31T23:59:60Z",
            "+026-03-01T12:30:59Z",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
