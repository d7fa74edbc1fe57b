//! Time: milliseconds since the Unix epoch, UTC. In JSON an RFC 3339 string, in the database a BIGINT.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// Milliseconds in a day.
pub const DAY_MS: i64 = 86_400_000;

/// A moment, in milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "sql", derive(sqlx::Type), sqlx(transparent))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(value_type = String, format = DateTime))]
pub struct Time(i64);

impl Time {
    /// The Unix epoch.
    pub const EPOCH: Self = Self(0);
    /// Later than every real moment (9999-12-30T00:00:00Z, a little before the last that jiff can print), the end of an
    /// open interval.
    pub const FOREVER: Self = Self(253_402_128_000_000);

    /// From milliseconds. Values outside year 1970 to 9999 are clamped: no document carries them.
    pub const fn from_ms(ms: i64) -> Self {
        if ms < 0 {
            Self(0)
        } else if ms > Self::FOREVER.0 {
            Self::FOREVER
        } else {
            Self(ms)
        }
    }

    /// Milliseconds since the epoch.
    pub const fn as_ms(self) -> i64 {
        self.0
    }

    /// Whole seconds since the epoch.
    pub const fn as_s(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// This many milliseconds later (earlier when negative), clamped.
    #[must_use]
    pub const fn plus_ms(self, ms: i64) -> Self {
        Self::from_ms(self.0.saturating_add(ms))
    }

    /// This many seconds later.
    #[must_use]
    pub const fn plus_s(self, s: i64) -> Self {
        self.plus_ms(s.saturating_mul(1000))
    }

    /// This many days of 24 hours later.
    #[must_use]
    pub const fn plus_days(self, days: i64) -> Self {
        self.plus_ms(days.saturating_mul(DAY_MS))
    }

    /// This many calendar months later, by the UTC calendar: the same day of the month, or its last day.
    #[must_use]
    pub fn plus_months(self, months: u8) -> Self {
        let zoned = self.timestamp().to_zoned(jiff::tz::TimeZone::UTC);
        let later = zoned.checked_add(jiff::Span::new().months(i64::from(months)));
        later.map_or(Self::FOREVER, |later| Self::from_ms(later.timestamp().as_millisecond()))
    }

    /// This many calendar days earlier at the same time of day in a zone: where clocks change, a day has 23 or 25 hours.
    #[must_use]
    pub fn days_before_in(self, days: u8, zone: &jiff::tz::TimeZone) -> Self {
        let zoned = self.timestamp().to_zoned(zone.clone());
        let earlier = zoned.checked_sub(jiff::Span::new().days(i64::from(days)));
        earlier.map_or(Self::EPOCH, |earlier| Self::from_ms(earlier.timestamp().as_millisecond()))
    }

    /// The date in a zone, `YYYY-MM-DD`.
    pub fn date_in(self, zone: &jiff::tz::TimeZone) -> String {
        self.timestamp().to_zoned(zone.clone()).strftime("%Y-%m-%d").to_string()
    }

    /// Midnight UTC of a `YYYY-MM-DD` date.
    pub fn from_date(text: &str) -> Result<Self, TimeError> {
        let date: jiff::civil::Date = text.parse().map_err(|_| TimeError(text.chars().take(40).collect()))?;
        let zoned = date.to_zoned(jiff::tz::TimeZone::UTC).map_err(|_| TimeError(text.chars().take(40).collect()))?;
        Ok(Self::from_ms(zoned.timestamp().as_millisecond()))
    }

    /// The UTC date, `YYYY-MM-DD`.
    pub fn date(self) -> String {
        self.timestamp().strftime("%Y-%m-%d").to_string()
    }

    fn timestamp(self) -> jiff::Timestamp {
        jiff::Timestamp::from_millisecond(self.0).unwrap_or(jiff::Timestamp::UNIX_EPOCH)
    }
}

/// A text that is neither an RFC 3339 time nor a date.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is no time: write RFC 3339, such as 2026-03-01T09:30:00Z, or a date such as 2026-03-01")]
pub struct TimeError(String);

impl std::str::FromStr for Time {
    type Err = TimeError;

    /// Accepts RFC 3339 with any offset, and a bare date as midnight UTC.
    fn from_str(text: &str) -> Result<Self, TimeError> {
        if text.len() == 10 {
            return Self::from_date(text);
        }
        let stamp: jiff::Timestamp = text.parse().map_err(|_| TimeError(text.chars().take(40).collect()))?;
        Ok(Self::from_ms(stamp.as_millisecond()))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.timestamp())
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes_rfc_3339() {
        let time: Time = "2026-03-01T10:30:00+01:00".parse().unwrap();
        assert_eq!(time.to_string(), "2026-03-01T09:30:00Z");
        assert_eq!("2026-03-01".parse::<Time>().unwrap().date(), "2026-03-01");
        assert!("yesterday".parse::<Time>().is_err());
        assert!("2026-02-30".parse::<Time>().is_err(), "a day that does not exist");
    }

    #[test]
    fn the_end_of_an_open_interval_prints_and_reads_back() {
        assert_eq!(Time::FOREVER.to_string(), "9999-12-30T00:00:00Z");
        assert_eq!(Time::FOREVER.to_string().parse(), Ok(Time::FOREVER));
    }

    #[test]
    fn arithmetic_never_leaves_the_range() {
        assert_eq!(Time::FOREVER.plus_days(i64::MAX), Time::FOREVER);
        assert_eq!(Time::EPOCH.plus_days(-1), Time::EPOCH);
    }
}
