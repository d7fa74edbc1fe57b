//! When devices may be offered something: weekly windows and blackout dates in the zone of the device's site, with jitter, so
//! that a site's devices do not all start at once.

use std::fmt;

use jiff::civil::{Date, Weekday};
use jiff::tz::TimeZone;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use super::rules::RulesError;
use crate::{Period, Time};

/// Most windows of a schedule.
pub const MAX_WINDOWS: usize = 16;
/// Most blackouts of a schedule.
pub const MAX_BLACKOUTS: usize = 64;
/// Days that are searched for the next opening: a year, and a month of blackouts at its end.
const SEARCH_DAYS: i32 = 400;
/// Openings and closings that are told at most: a month of two windows a day.
const MAX_EDGES: usize = 128;
const DAY_MINUTES: u16 = 24 * 60;

/// A time of day, `HH:MM`, in minutes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(value_type = String, example = "22:30"))]
pub struct Clock(u16);

impl fmt::Display for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.0 / 60, self.0 % 60)
    }
}

impl std::str::FromStr for Clock {
    type Err = RulesError;

    fn from_str(text: &str) -> Result<Self, RulesError> {
        // Digits alone: a number may have a sign, a time of day has none.
        let two = |part: &str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
        let digits = |part: &str| two(part).then(|| part.parse::<u16>().ok()).flatten();
        let parsed = text.split_once(':').and_then(|(hours, minutes)| Some((digits(hours)?, digits(minutes)?)));
        match parsed {
            Some((hours, minutes)) if minutes < 60 && hours * 60 + minutes <= DAY_MINUTES => {
                Ok(Self(hours * 60 + minutes))
            }
            _ => Err(RulesError::new("time of day", text.chars().take(20).collect::<String>(), "write 00:00 to 24:00")),
        }
    }
}

impl Serialize for Clock {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Clock {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// A day of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Day {
    /// Monday.
    Mon,
    /// Tuesday.
    Tue,
    /// Wednesday.
    Wed,
    /// Thursday.
    Thu,
    /// Friday.
    Fri,
    /// Saturday.
    Sat,
    /// Sunday.
    Sun,
}

impl Day {
    const fn weekday(self) -> Weekday {
        match self {
            Self::Mon => Weekday::Monday,
            Self::Tue => Weekday::Tuesday,
            Self::Wed => Weekday::Wednesday,
            Self::Thu => Weekday::Thursday,
            Self::Fri => Weekday::Friday,
            Self::Sat => Weekday::Saturday,
            Self::Sun => Weekday::Sunday,
        }
    }
}

/// A window that opens on some days of the week.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WeeklyWindow {
    /// The days on which it opens; every day when empty.
    #[serde(default)]
    pub days: Vec<Day>,
    /// When it opens.
    pub from: Clock,
    /// When it closes; on the next day, when that is not after it opens.
    pub to: Clock,
}

impl WeeklyWindow {
    const fn minutes(&self) -> u16 {
        if self.to.0 > self.from.0 { self.to.0 - self.from.0 } else { self.to.0 + DAY_MINUTES - self.from.0 }
    }
}

/// Days on which nothing is offered, both included.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Blackout {
    /// The first day, `YYYY-MM-DD`.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = Date))]
    pub from: Date,
    /// The last day.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = Date))]
    pub to: Date,
}

/// When devices may be offered something. The default is: always.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Schedule {
    /// Windows; any of them. Without one the whole day is open.
    pub windows: Vec<WeeklyWindow>,
    /// Days on which nothing is offered.
    pub blackouts: Vec<Blackout>,
    /// The zone of devices whose site has none, such as `Europe/Amsterdam`; UTC when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// How long the devices' own openings are spread, from the opening of a window on.
    pub jitter: Period,
    /// Whether security fixes wait for a window as well.
    pub security_too: bool,
}

impl Default for Schedule {
    fn default() -> Self {
        Self { windows: Vec::new(), blackouts: Vec::new(), time_zone: None, jitter: Period::ZERO, security_too: false }
    }
}

impl Schedule {
    /// Whether nothing is ever closed.
    pub const fn is_always(&self) -> bool {
        self.windows.is_empty() && self.blackouts.is_empty()
    }

    /// Checks counts, dates, the zone, and that it opens at all.
    pub fn check(&self) -> Result<(), RulesError> {
        if self.windows.len() > MAX_WINDOWS {
            return Err(RulesError::new(
                "rules.schedule.windows",
                self.windows.len(),
                format!("at most {MAX_WINDOWS}"),
            ));
        }
        if self.blackouts.len() > MAX_BLACKOUTS {
            let count = self.blackouts.len();
            return Err(RulesError::new("rules.schedule.blackouts", count, format!("at most {MAX_BLACKOUTS}")));
        }
        for (index, window) in self.windows.iter().enumerate() {
            if u32::from(window.minutes()) * 60 <= self.jitter.as_s() {
                return Err(RulesError::new(
                    format!("rules.schedule.windows[{index}]"),
                    format!("{} to {}", window.from, window.to),
                    format!("it must be longer than jitter ({}), or some devices never see it open", self.jitter),
                ));
            }
        }
        for (index, blackout) in self.blackouts.iter().enumerate() {
            if blackout.to < blackout.from {
                return Err(RulesError::new(
                    format!("rules.schedule.blackouts[{index}]"),
                    format!("{} to {}", blackout.from, blackout.to),
                    "the last day is before the first",
                ));
            }
            // A search for the next opening must find one.
            let days = blackout.from.until(blackout.to).map_or(i32::MAX, |span| span.get_days());
            if days >= 366 {
                return Err(RulesError::new(
                    format!("rules.schedule.blackouts[{index}]"),
                    format!("{} to {}", blackout.from, blackout.to),
                    "a year at most",
                ));
            }
        }
        if let Some(zone) = &self.time_zone
            && TimeZone::get(zone).is_err()
        {
            return Err(RulesError::new("rules.schedule.time_zone", zone, "a zone such as `Europe/Amsterdam`"));
        }
        Ok(())
    }

    /// Whether it opens at least once in the year after a moment, by its own zone. One that never does is a mistake in a plan.
    pub fn opens_after(&self, now: Time) -> Result<(), RulesError> {
        match self.next_open(now, None, 0) {
            Some(_) => Ok(()),
            None => Err(RulesError::new("rules.schedule", "no opening", "blackouts leave no window in the next year")),
        }
    }

    /// The next time from which a device may be offered something: not later than now when it may be now. `zone` is its site's;
    /// `bucket` (0 to 9,999) spreads devices over the jitter. None when nothing opens for a year.
    pub fn next_open(&self, now: Time, zone: Option<&str>, bucket: u16) -> Option<Time> {
        self.next(now, zone, bucket).map(|(open, _)| open)
    }

    /// When it opens and closes between two moments, as far as [`MAX_EDGES`] go.
    pub fn edges(&self, after: Time, until: Time, zone: Option<&str>, bucket: u16) -> Vec<Time> {
        let mut edges = Vec::new();
        let mut at = after;
        while !self.is_always() && edges.len() < MAX_EDGES {
            let Some((open, close)) = self.next(at, zone, bucket).filter(|(open, _)| *open < until) else { break };
            edges.extend([open, close]);
            at = close;
        }
        edges
    }

    /// The next piece of time that is open: it begins now when it is open now.
    fn next(&self, now: Time, zone: Option<&str>, bucket: u16) -> Option<(Time, Time)> {
        if self.is_always() {
            return Some((now, Time::FOREVER));
        }
        let named = zone.or(self.time_zone.as_deref());
        // A zone is checked when it is entered; one that is gone from the data all the same is UTC.
        let zone = named.and_then(|name| TimeZone::get(name).ok()).unwrap_or(TimeZone::UTC);
        let stamp = jiff::Timestamp::from_millisecond(now.as_ms()).ok()?;
        let today = stamp.to_zoned(zone.clone()).date();
        let delay = self.jitter.as_ms() * i64::from(bucket) / 10_000;
        let whole_day = [WeeklyWindow { days: Vec::new(), from: Clock(0), to: Clock(DAY_MINUTES) }];
        let (windows, delay) =
            if self.windows.is_empty() { (whole_day.as_slice(), 0) } else { (self.windows.as_slice(), delay) };
        // From yesterday on: its windows may end today.
        (-1..SEARCH_DAYS).find_map(|offset| {
            let day = today.checked_add(jiff::Span::new().days(offset)).ok()?;
            let opens = windows.iter().filter(|window| {
                window.days.is_empty() || window.days.iter().any(|open| open.weekday() == day.weekday())
            });
            opens
                .filter_map(|window| {
                    let from = moment(day, window.from.0, &zone)?.plus_ms(delay);
                    let last = if window.to.0 > window.from.0 { day } else { day.tomorrow().ok()? };
                    self.first_open(now.max(from), moment(last, window.to.0, &zone)?, &zone)
                })
                .min()
        })
    }

    /// The first piece of `[from, to)` that is in no blackout.
    fn first_open(&self, from: Time, to: Time, zone: &TimeZone) -> Option<(Time, Time)> {
        let mut at = from;
        // A window of two days at most touches each blackout once.
        for _ in 0..=self.blackouts.len() {
            if at >= to {
                return None;
            }
            let day = jiff::Timestamp::from_millisecond(at.as_ms()).ok()?.to_zoned(zone.clone()).date();
            let Some(blackout) = self.blackouts.iter().find(|one| one.from <= day && day <= one.to) else {
                let begins = self.blackouts.iter().filter_map(|one| moment(one.from, 0, zone));
                return Some((at, begins.filter(|&begin| begin > at).fold(to, Time::min)));
            };
            at = moment(blackout.to.tomorrow().ok()?, 0, zone)?;
        }
        None
    }
}

/// A local time of a day. Where clocks jump forward a time that there is not is an hour later by the clock (a window within that
/// hour does not open that day); where they are set back it is the first of both.
fn moment(day: Date, minutes: u16, zone: &TimeZone) -> Option<Time> {
    let day = if minutes >= DAY_MINUTES { day.tomorrow().ok()? } else { day };
    let minutes = minutes % DAY_MINUTES;
    let hour = i8::try_from(minutes / 60).ok()?;
    let minute = i8::try_from(minutes % 60).ok()?;
    let zoned = day.at(hour, minute, 0, 0).to_zoned(zone.clone()).ok()?;
    Some(Time::from_ms(zoned.timestamp().as_millisecond()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> Time {
        text.parse().unwrap()
    }

    fn nights() -> Schedule {
        serde_json::from_str(
            r#"{"windows": [{"days": ["fri", "sat"], "from": "22:00", "to": "04:00"}],
                "blackouts": [{"from": "2026-12-25", "to": "2026-12-26"}], "time_zone": "Europe/Amsterdam"}"#,
        )
        .unwrap()
    }

    #[test]
    fn a_window_opens_on_its_days_and_runs_past_midnight() {
        let nights = nights();
        assert_eq!(nights.check(), Ok(()));
        let next = |now: &str| nights.next_open(at(now), None, 0).unwrap().to_string();
        assert_eq!(next("2026-11-26T12:00:00Z"), "2026-11-27T21:00:00Z", "Thursday noon waits for Friday 22:00");
        assert_eq!(next("2026-11-27T23:30:00Z"), "2026-11-27T23:30:00Z", "open");
        assert_eq!(next("2026-11-28T02:59:59Z"), "2026-11-28T02:59:59Z", "still, on Saturday before 04:00");
        assert_eq!(next("2026-11-28T03:00:00Z"), "2026-11-28T21:00:00Z", "closed at 04:00 sharp");
        assert_eq!(next("2026-11-29T03:00:00Z"), "2026-12-04T21:00:00Z", "Sunday night is none of its days");
    }

    #[test]
    fn a_blackout_closes_local_days_whole() {
        // Friday the 25th and Saturday the 26th; Thursday night is no window; Saturday's window opens when the blackout ends.
        let next = nights().next_open(at("2026-12-25T12:00:00Z"), None, 0).unwrap();
        assert_eq!(next.to_string(), "2026-12-26T23:00:00Z");
    }

    #[test]
    fn the_sites_zone_decides_and_daylight_saving_moves_the_moment_not_the_clock() {
        let daily: Schedule = serde_json::from_str(r#"{"windows": [{"from": "02:30", "to": "04:00"}]}"#).unwrap();
        let next = |now: &str, zone| daily.next_open(at(now), zone, 0).unwrap().to_string();
        assert_eq!(next("2026-03-01T00:00:00Z", None), "2026-03-01T02:30:00Z");
        assert_eq!(next("2026-03-01T00:00:00Z", Some("Asia/Tokyo")), "2026-03-01T17:30:00Z");
        // In Amsterdam there is no 02:30 on 2026-03-29: it opens an hour later by the clock.
        assert_eq!(next("2026-03-29T00:00:00Z", Some("Europe/Amsterdam")), "2026-03-29T01:30:00Z");
        assert_eq!(next("2026-10-24T22:00:00Z", Some("Europe/Amsterdam")), "2026-10-25T00:30:00Z", "the first 02:30");
    }

    #[test]
    fn edges_are_every_opening_and_closing() {
        let edges = nights().edges(at("2026-12-18T12:00:00Z"), at("2027-01-02T12:00:00Z"), None, 0);
        let told: Vec<String> = edges.iter().map(ToString::to_string).collect();
        let open_and_close = [
            ("2026-12-18T21:00:00Z", "2026-12-19T03:00:00Z"),
            ("2026-12-19T21:00:00Z", "2026-12-20T03:00:00Z"),
            // The 25th and the 26th are dark: what is left of Saturday's window begins on Sunday.
            ("2026-12-26T23:00:00Z", "2026-12-27T03:00:00Z"),
            ("2027-01-01T21:00:00Z", "2027-01-02T03:00:00Z"),
        ];
        assert_eq!(told, open_and_close.iter().flat_map(|(open, close)| [*open, *close]).collect::<Vec<_>>());
        assert!(Schedule::default().edges(at("2026-12-18"), at("2027-12-18"), None, 0).is_empty());
    }

    #[test]
    fn jitter_delays_each_device_by_its_own_part() {
        let mut nights = nights();
        nights.jitter = Period::minutes(100);
        let next = |bucket| nights.next_open(at("2026-11-27T12:00:00Z"), None, bucket).unwrap().to_string();
        assert_eq!(next(0), "2026-11-27T21:00:00Z");
        assert_eq!(next(5000), "2026-11-27T21:50:00Z");
        nights.jitter = Period::hours(6);
        assert!(nights.check().unwrap_err().to_string().contains("longer than jitter"));
    }

    #[test]
    fn a_schedule_that_never_opens_is_refused() {
        let mut never = nights();
        never.blackouts = (0..4)
            .map(|quarter| Blackout {
                from: Date::constant(2026, 1 + quarter * 3, 1),
                to: Date::constant(2026, 1 + quarter * 3, 28).checked_add(jiff::Span::new().days(75)).unwrap(),
            })
            .collect();
        never.blackouts.push(Blackout { from: Date::constant(2027, 1, 1), to: Date::constant(2027, 12, 31) });
        assert_eq!(never.check(), Ok(()));
        assert!(never.opens_after(at("2026-06-01")).is_err());
        assert_eq!(never.opens_after(at("2027-06-01")), Ok(()));
        never.blackouts = vec![Blackout { from: Date::constant(2026, 2, 2), to: Date::constant(2026, 2, 1) }];
        assert_eq!(never.check().unwrap_err().field, "rules.schedule.blackouts[0]");
        never.blackouts.clear();
        never.time_zone = Some("Mars/Olympus".into());
        assert_eq!(never.check().unwrap_err().field, "rules.schedule.time_zone");
    }

    #[test]
    fn times_of_day_read_back_and_others_are_refused() {
        for text in ["00:00", "04:05", "23:59", "24:00"] {
            assert_eq!(text.parse::<Clock>().unwrap().to_string(), text);
        }
        for text in ["", "4:05", "24:01", "12:60", "-1:00", "+4:05", "12:+5", "12", "12:000", "1é:00"] {
            assert!(text.parse::<Clock>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn the_next_opening_is_open_and_nothing_before_it_is(
            minutes in 0i64..60 * 24 * 600, from in 0u16..1440, to in 0u16..=1440, days in 0usize..128,
            zone in prop::sample::select(vec!["UTC", "America/New_York", "Asia/Kolkata", "Pacific/Apia", "Europe/London"]),
            black in 0i32..600, length in 0i32..20, bucket in 0u16..10_000,
        ) {
            let all = [Day::Mon, Day::Tue, Day::Wed, Day::Thu, Day::Fri, Day::Sat, Day::Sun];
            let days = all.into_iter().enumerate().filter(|(bit, _)| days >> bit & 1 == 1).map(|(_, day)| day).collect();
            let start = Date::constant(2026, 1, 1).checked_add(jiff::Span::new().days(black)).unwrap();
            let schedule = Schedule {
                windows: vec![WeeklyWindow { days, from: Clock(from), to: Clock(to) }],
                blackouts: vec![Blackout { from: start, to: start.checked_add(jiff::Span::new().days(length)).unwrap() }],
                jitter: Period::ZERO, ..Schedule::default()
            };
            prop_assume!(schedule.check().is_ok());
            let now = at("2026-01-01").plus_s(60 * minutes);
            let next = schedule.next_open(now, Some(zone), bucket).unwrap();
            prop_assert!(next >= now);
            prop_assert_eq!(schedule.next_open(next, Some(zone), bucket), Some(next), "then it is open");
            if next > now {
                let before = next.plus_s(-60).max(now);
                prop_assert_eq!(schedule.next_open(before, Some(zone), bucket), Some(next), "and not a minute earlier");
            }
        }
    }
}
