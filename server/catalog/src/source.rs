//! Systems that keep contracts elsewhere, and what becomes of cover while one of them is away: a window that was open when its source was
//! last heard of counts on for a while, because the renewal may stand there and not here. Security fixes never depend on it.

use serde::{Deserialize, Serialize};

use crate::Time;
use crate::text::Slug;

/// Hours without a word after which a source is stale, when nobody says otherwise.
pub const DEFAULT_STALE_HOURS: u32 = 48;
/// The longest such time: a year. What is away for longer is not away but gone.
pub const MAX_STALE_HOURS: u32 = 366 * 24;
/// Days after the source was last heard of for which cover counts on: a source that never comes back must not give cover for ever.
pub const MAX_COUNTS_ON_DAYS: i64 = 90;

/// When a source was last heard of, and how long it may be silent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// Its name.
    pub source: Slug,
    /// When it was last heard of.
    pub at: Time,
    /// Milliseconds after which it is stale; never when absent.
    pub stale_after_ms: Option<i64>,
    /// The silence after which it has not told the contract yet.
    pub silence: Option<Silence>,
}

/// A silence that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Silence {
    /// Until when the contract is known as it was before.
    pub before: Time,
    /// Since when its source is heard of again.
    pub back: Time,
}

impl Heard {
    /// When the contract was last known, while its source is back but has not told it yet: a source that comes back tells one contract after
    /// the other. When it was heard of for as long as it may be silent, what it has not told by then has not changed.
    pub fn untold(&self) -> Option<Time> {
        let (silence, ms) = (self.silence?, self.stale_after_ms?);
        (self.at < silence.back.plus_ms(ms)).then_some(silence.before)
    }
}

/// A source as the decision sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceView {
    /// When it was last heard of.
    pub heard: Heard,
    /// By what was known then it is judged; at the moment of the decision when absent. Who asks about the future does not ask what
    /// would be if nobody were heard of until then.
    pub judged_at: Option<Time>,
}

impl SourceView {
    /// When it becomes stale, if it can.
    pub fn stale_from(&self) -> Option<Time> {
        self.heard.stale_after_ms.map(|ms| self.heard.at.plus_ms(ms))
    }

    /// Whether it is stale at a moment.
    pub fn is_stale_at(&self, now: Time) -> bool {
        self.heard.untold().is_some() || self.stale_from().is_some_and(|from| from <= self.judged_at.unwrap_or(now))
    }

    /// How it is stale at a moment, if it is.
    pub fn stale_at(&self, now: Time) -> Option<Stale> {
        if !self.is_stale_at(now) {
            return None;
        }
        let judged_at = self.judged_at.unwrap_or(now);
        let heard_at = self.known_at();
        let age_s = (judged_at.as_ms() - heard_at.as_ms()) / 1000;
        Some(Stale { source: self.heard.source.clone(), heard_at, age_s, counts_until: self.counts_until() })
    }

    /// Until when a window that was open when it was last heard of counts on.
    pub fn counts_until(&self) -> Time {
        self.known_at().plus_days(MAX_COUNTS_ON_DAYS)
    }

    /// From when what is known of the contract is.
    pub fn known_at(&self) -> Time {
        self.heard.untold().unwrap_or(self.heard.at)
    }
}

/// A notice that what is known of a contract is old.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Stale {
    /// The system that keeps the contract.
    pub source: Slug,
    /// When it was last heard of.
    pub heard_at: Time,
    /// How long ago that was, seconds.
    pub age_s: i64,
    /// Until when cover that ended since counts on.
    pub counts_until: Time,
}

/// A source as administrators see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ContractSource {
    /// Its name.
    pub name: Slug,
    /// When it was last heard of.
    pub heard_at: Time,
    /// How long ago that is, seconds.
    pub age_s: i64,
    /// Hours of silence after which it is stale; never when absent.
    pub stale_after_hours: Option<u32>,
    /// Whether it is.
    pub stale: bool,
}

/// What is set of a source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SourceSet {
    /// Hours of silence after which it is stale, 1 to 8784; never when absent.
    #[serde(default)]
    pub stale_after_hours: Option<u32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_stale_from_its_hour_on_and_by_what_was_known() {
        let heard =
            Heard { source: "crm".parse().unwrap(), at: Time::EPOCH, stale_after_ms: Some(3_600_000), silence: None };
        let live = SourceView { heard: heard.clone(), judged_at: None };
        assert_eq!(live.stale_at(Time::EPOCH.plus_s(3599)), None);
        assert_eq!(live.stale_at(Time::EPOCH.plus_s(3600)).map(|stale| stale.age_s), Some(3600));
        let asked = SourceView { heard: heard.clone(), judged_at: Some(Time::EPOCH.plus_s(60)) };
        assert_eq!(asked.stale_at(Time::EPOCH.plus_days(365)), None, "the future is asked by what is known");
        let off = SourceView { heard: Heard { stale_after_ms: None, ..heard }, judged_at: None };
        assert_eq!(off.stale_at(Time::FOREVER), None);
    }

    #[test]
    fn what_was_not_told_since_a_silence_is_as_old_as_before_it() {
        let back = Time::EPOCH.plus_days(10);
        let view = |heard_s: i64| {
            let silence = Some(Silence { before: Time::EPOCH, back });
            let (source, at) = ("crm".parse().unwrap(), back.plus_s(heard_s));
            SourceView { heard: Heard { source, at, stale_after_ms: Some(3_600_000), silence }, judged_at: None }
        };
        let known = |view: SourceView, at: Time| view.stale_at(at).map(|stale| stale.heard_at);
        assert_eq!(known(view(0), back), Some(Time::EPOCH));
        assert_eq!(known(view(0), back.plus_days(20)), Some(Time::EPOCH), "it fell silent again");
        assert_eq!(known(view(3599), back.plus_s(3599)), Some(Time::EPOCH));
        assert_eq!(known(view(3600), back.plus_s(3600)), None, "it had time enough to tell");
        assert_eq!(view(0).counts_until(), Time::EPOCH.plus_days(MAX_COUNTS_ON_DAYS));
    }
}
