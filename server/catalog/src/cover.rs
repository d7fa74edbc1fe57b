//! Cover: how a plan's rule decides about a release from the windows of a contract. Intervals are half-open, `[from, to)`,
//! sorted and merged, so touching windows are one and gaps are real.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::pool::PoolPlace;
use crate::product::Channel;
use crate::source::{SourceView, Stale};
use crate::text::{Code, ContractNumber, Slug};
use crate::{TextSet, Time};

/// Most months that a fallback rule can ask for: ten years.
pub const MAX_FALLBACK_MONTHS: u8 = 120;

/// How cover decides about a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum CoverRule {
    /// The train became generally available in a window (or its grace): fixes of a train you own stay yours. The default.
    TrainGa,
    /// A window (or its grace) is open now.
    Live,
    /// The release was published in a window (or its grace).
    ReleaseDate,
    /// As `live`; and a train that was available for this many calendar months of one window stays yours when cover ends.
    Fallback(u8),
    /// Always.
    Open,
}

#[cfg(feature = "openapi")]
impl utoipa::PartialSchema for CoverRule {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        let rules = "train-ga, live, release-date, open, or fallback-N with N from 1 to 120 months";
        utoipa::openapi::ObjectBuilder::new()
            .schema_type(utoipa::openapi::schema::Type::String)
            .description(Some(rules))
            .examples(["train-ga", "fallback-12"])
            .build()
            .into()
    }
}

#[cfg(feature = "openapi")]
impl utoipa::ToSchema for CoverRule {}

impl fmt::Display for CoverRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TrainGa => f.write_str("train-ga"),
            Self::Live => f.write_str("live"),
            Self::ReleaseDate => f.write_str("release-date"),
            Self::Fallback(months) => write!(f, "fallback-{months}"),
            Self::Open => f.write_str("open"),
        }
    }
}

/// A text that is no rule.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "`{0}` is no cover rule: train-ga, live, release-date, open or fallback-N with N from 1 to {MAX_FALLBACK_MONTHS} months"
)]
pub struct UnknownRule(String);

impl FromStr for CoverRule {
    type Err = UnknownRule;

    fn from_str(text: &str) -> Result<Self, UnknownRule> {
        match text {
            "train-ga" => return Ok(Self::TrainGa),
            "live" => return Ok(Self::Live),
            "release-date" => return Ok(Self::ReleaseDate),
            "open" => return Ok(Self::Open),
            _ => {}
        }
        let months = text.strip_prefix("fallback-").filter(|digits| !digits.starts_with(['0', '+']));
        match months.and_then(|digits| digits.parse().ok()) {
            Some(months) if months <= MAX_FALLBACK_MONTHS => Ok(Self::Fallback(months)),
            _ => Err(UnknownRule(text.chars().take(40).collect())),
        }
    }
}

impl From<CoverRule> for String {
    fn from(rule: CoverRule) -> Self {
        rule.to_string()
    }
}

impl TryFrom<String> for CoverRule {
    type Error = UnknownRule;

    fn try_from(text: String) -> Result<Self, UnknownRule> {
        text.parse()
    }
}

/// Sorted, merged, half-open intervals.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Windows(Vec<(Time, Time)>);

impl Windows {
    /// Sorts and merges intervals and drops empty ones: overlapping or touching windows become one.
    pub fn new(mut windows: Vec<(Time, Time)>) -> Self {
        windows.retain(|(from, to)| from < to);
        windows.sort_unstable();
        let mut merged: Vec<(Time, Time)> = Vec::with_capacity(windows.len());
        for (from, to) in windows {
            match merged.last_mut() {
                Some(last) if from <= last.1 => last.1 = last.1.max(to),
                _ => merged.push((from, to)),
            }
        }
        Self(merged)
    }

    /// The intervals in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (Time, Time)> {
        self.0.iter().copied()
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The interval that holds a moment.
    pub fn at(&self, at: Time) -> Option<(Time, Time)> {
        self.0.iter().copied().find(|&(from, to)| from <= at && at < to)
    }

    /// The interval whose grace holds a moment that no interval holds.
    pub fn in_grace(&self, at: Time, days: i32) -> Option<(Time, Time)> {
        self.0.iter().copied().rfind(|&(_, to)| to <= at && at < to.plus_days(i64::from(days)))
    }

    /// When the last interval ends.
    pub fn end(&self) -> Option<Time> {
        self.0.last().map(|&(_, to)| to)
    }
}

/// One contract's cover of one device, as the decision needs it: only facts that hold by what is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cover {
    /// The contract, for the trace.
    pub contract: ContractNumber,
    /// The plan's name, for the trace.
    pub plan: Slug,
    /// How it decides.
    pub rule: CoverRule,
    /// Days of grace after each window.
    pub grace_days: i32,
    /// Codes granted for the device's product family, with their channel ceilings.
    pub codes: Vec<(Code, Channel)>,
    /// Windows already cut to the item's own dates.
    pub windows: Windows,
    /// Where it comes from.
    pub origin: Origin,
}

/// Where cover comes from. Few contracts have any of it and every device in memory has contracts, so it stands elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The system that keeps the contract; none of a contract that is kept here.
    pub source: Option<Box<SourceView>>,
    /// The pool in which the device has a place.
    pub pool: Option<Box<PoolPlace>>,
}

/// Which part of a cover lets something through, or why none does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The moment that counts lies in this window.
    Window(Time, Time),
    /// It lies in the grace after this window.
    Grace(Time, Time),
    /// The train was available for the rule's months of this window.
    Fallback(Time, Time),
    /// No date counts.
    Open,
    /// This window was open when the source of the contract was last heard of, and counts on.
    CountsOn(Time, Time),
    /// None.
    Outside,
}

impl Cover {
    /// The codes as a set, for printing.
    pub fn code_set(&self) -> TextSet {
        self.codes.iter().map(|(code, _)| code.as_str()).collect()
    }

    /// The highest channel to which a code is granted.
    pub fn ceiling(&self, code: &str) -> Option<Channel> {
        self.codes.iter().filter(|(granted, _)| granted.as_str() == code).map(|(_, ceiling)| *ceiling).max()
    }

    /// The moment that the rule looks at. `now` for rules that look at the present.
    pub const fn reference(&self, train_ga: Time, published_at: Time, now: Time) -> Time {
        match self.rule {
            CoverRule::TrainGa => train_ga,
            CoverRule::ReleaseDate => published_at,
            CoverRule::Live | CoverRule::Fallback(_) | CoverRule::Open => now,
        }
    }

    /// What the rule says about a release.
    pub fn standing(&self, train_ga: Time, published_at: Time, now: Time) -> Standing {
        if self.rule == CoverRule::Open {
            return Standing::Open;
        }
        let standing = self.standing_at(self.reference(train_ga, published_at, now), now);
        let weaker = matches!(standing, Standing::Outside | Standing::Grace(..) | Standing::CountsOn(..));
        if let (true, CoverRule::Fallback(months)) = (weaker, self.rule)
            && let Some((from, to)) = self.fallback_window(train_ga, now, months)
        {
            return Standing::Fallback(from, to);
        }
        standing
    }

    /// Whether a moment is covered, by a window, its grace, or by one that counts on, as far as that is known now.
    pub fn standing_at(&self, at: Time, now: Time) -> Standing {
        if self.rule == CoverRule::Open {
            Standing::Open
        } else if let Some((from, to)) = self.windows.at(at) {
            Standing::Window(from, to)
        } else if let Some((from, to)) = self.windows.in_grace(at, self.grace_days) {
            Standing::Grace(from, to)
        } else if let Some((from, to)) = self.counts_on(at, now) {
            Standing::CountsOn(from, to)
        } else {
            Standing::Outside
        }
    }

    /// The window that was open, or in its grace, when the source was last heard of, while the source is stale, and for so long.
    fn counts_on(&self, at: Time, now: Time) -> Option<(Time, Time)> {
        // Without a word of the evidence: every device whose cover ended is asked this, poll after poll.
        let source = self.origin.source.as_deref().filter(|source| source.is_stale_at(now))?;
        let heard_at = source.known_at();
        let open = self.windows.at(heard_at).or_else(|| self.windows.in_grace(heard_at, self.grace_days))?;
        (open.1 <= at && at < source.counts_until()).then_some(open)
    }

    /// Whether what is known of the contract is old.
    pub fn stale_at(&self, now: Time) -> Option<Stale> {
        self.origin.source.as_ref()?.stale_at(now)
    }

    /// The window in which a train had been available for that many months, by now.
    fn fallback_window(&self, train_ga: Time, now: Time, months: u8) -> Option<(Time, Time)> {
        self.windows.iter().find(|&(from, to)| {
            let earned = from.max(train_ga).plus_months(months);
            earned <= to && earned <= now
        })
    }

    /// The moments at which what this cover says of a train may change.
    pub fn boundaries(&self, train_ga: Time) -> impl Iterator<Item = Time> {
        let grace = i64::from(self.grace_days);
        let edges = self.windows.iter().flat_map(move |(from, to)| {
            let earned = match self.rule {
                CoverRule::Fallback(months) => from.max(train_ga).plus_months(months),
                _ => to,
            };
            [from, to, to.plus_days(grace), earned]
        });
        let source = self.origin.source.iter().flat_map(|source| {
            let stale_from = source.stale_from().filter(|_| source.judged_at.is_none());
            stale_from.into_iter().chain([source.counts_until()])
        });
        edges.chain(source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn t(day: i64) -> Time {
        Time::EPOCH.plus_days(day)
    }

    #[test]
    fn windows_merge_and_gaps_stay() {
        let merged = Windows::new(vec![(t(20), t(30)), (t(0), t(10)), (t(9), t(12)), (t(12), t(15)), (t(5), t(5))]);
        assert_eq!(merged, Windows(vec![(t(0), t(15)), (t(20), t(30))]));
        assert_eq!(merged.at(t(15)), None, "the end is not covered");
        assert_eq!(merged.at(t(20)), Some((t(20), t(30))));
    }

    #[test]
    fn rules_read_back_and_others_are_refused() {
        for text in ["train-ga", "live", "release-date", "open", "fallback-1", "fallback-12", "fallback-120"] {
            assert_eq!(text.parse::<CoverRule>().unwrap().to_string(), text);
            assert_eq!(serde_json::to_value(text.parse::<CoverRule>().unwrap()).unwrap(), text);
        }
        for text in [
            "",
            "TRAIN-GA",
            "fallback",
            "fallback-",
            "fallback-0",
            "fallback-012",
            "fallback-121",
            "fallback--1",
            "fallback-+3",
        ] {
            assert!(text.parse::<CoverRule>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_fallback_train_is_earned_by_whole_calendar_months() {
        let date = |text: &str| text.parse::<Time>().unwrap();
        let cover = |from, to| Cover {
            contract: "C-1".parse().unwrap(),
            plan: "plus".parse().unwrap(),
            rule: CoverRule::Fallback(12),
            grace_days: 0,
            codes: vec![],
            windows: Windows::new(vec![(date(from), date(to))]),
            origin: Origin::default(),
        };
        let standing = |cover: &Cover, ga: &str, now: &str| cover.standing(date(ga), date(ga), date(now));
        let year = cover("2024-02-29", "2025-02-28");
        assert!(
            matches!(standing(&year, "2024-01-01", "2026-01-01"), Standing::Fallback(..)),
            "a leap day's year ends on the 28th"
        );
        assert_eq!(standing(&year, "2024-03-01", "2026-01-01"), Standing::Outside, "one day short of twelve months");
        assert!(matches!(standing(&year, "2024-03-01", "2024-06-01"), Standing::Window(..)), "covered now");
        let short = cover("2024-03-01", "2025-02-28");
        assert_eq!(standing(&short, "2024-01-01", "2026-01-01"), Standing::Outside);
    }
}
