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

    /// This much later.
    #[must_use]
    pub const fn plus(self, period: Period) -> Self {
        self.plus_ms(period.as_ms())
    }

    /// This much earlier.
    #[must_use]
    pub const fn minus(self, period: Period) -> Self {
        self.plus_ms(-period.as_ms())
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

/// A length of time in whole seconds. In documents a text such as `90s`, `45m`, `24h` or `6d`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(value_type = String, example = "24h"))]
pub struct Period(u32);

const UNITS: [(u32, char); 4] = [(86_400, 'd'), (3600, 'h'), (60, 'm'), (1, 's')];

impl Period {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// So many seconds.
    pub const fn seconds(seconds: u32) -> Self {
        Self(seconds)
    }

    /// So many minutes.
    pub const fn minutes(minutes: u32) -> Self {
        Self(minutes.saturating_mul(60))
    }

    /// So many hours.
    pub const fn hours(hours: u32) -> Self {
        Self(hours.saturating_mul(3600))
    }

    /// So many days of 24 hours.
    pub const fn days(days: u32) -> Self {
        Self(days.saturating_mul(86_400))
    }

    /// In seconds.
    pub const fn as_s(self) -> u32 {
        self.0
    }

    /// In milliseconds.
    pub const fn as_ms(self) -> i64 {
        self.0 as i64 * 1000
    }
}

impl fmt::Display for Period {
    /// In the largest unit that divides it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, letter) =
            UNITS.into_iter().find(|(unit, _)| self.0 > 0 && self.0.is_multiple_of(*unit)).unwrap_or((1, 's'));
        write!(f, "{}{letter}", self.0 / unit)
    }
}

/// A text that is no length of time.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is no length of time: write a number and its unit, such as 90s, 45m, 24h or 6d")]
pub struct PeriodError(String);

impl std::str::FromStr for Period {
    type Err = PeriodError;

    fn from_str(text: &str) -> Result<Self, PeriodError> {
        let read = || {
            let letter = text.chars().next_back()?;
            let digits = text.strip_suffix(letter)?;
            let (unit, _) = UNITS.into_iter().find(|(_, known)| *known == letter)?;
            let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
            plain.then(|| digits.parse::<u32>().ok()?.checked_mul(unit)).flatten()
        };
        read().map(Self).ok_or_else(|| PeriodError(text.chars().take(20).collect()))
    }
}

impl Serialize for Period {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
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
    fn periods_read_back_in_their_largest_unit_and_others_are_refused() {
        for (text, seconds) in
            [("0s", 0), ("90s", 90), ("45m", 2700), ("24h", 86_400), ("36h", 129_600), ("6d", 518_400)]
        {
            assert_eq!(text.parse(), Ok(Period::seconds(seconds)));
        }
        assert_eq!(Period::hours(24).to_string(), "1d");
        assert_eq!(Period::minutes(90).to_string(), "90m");
        assert_eq!(Period::ZERO.to_string(), "0s");
        for text in ["", "s", "5", "-5m", "+5m", "5 m", "5M", "1.5h", "5µ", "99999999999s", "60000d"] {
            assert!(text.parse::<Period>().is_err(), "{text}");
        }
    }

    #[test]
    fn arithmetic_never_leaves_the_range() {
        assert_eq!(Time::FOREVER.plus_days(i64::MAX), Time::FOREVER);
        assert_eq!(Time::EPOCH.plus_days(-1), Time::EPOCH);
    }
}
