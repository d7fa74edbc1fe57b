//! Notices: what is to be told of a cover that ends or begins, and of a version that is taken back. Pure: from the facts, the
//! moment and what was told already follows what is due, so that it is the same on every replica and after any pause.

use jiff::tz::TimeZone;

use crate::contract::ContractState;
use crate::cover::Windows;
use crate::decide::{Decision, DeviceView, ProductView, ReleaseView, decide, entitled};
use crate::facts::{ContractFacts, Known};
use crate::rollout::Rollout;
use crate::{Reason, Time};

/// Days before the end of cover on which people are told: time to order a renewal, to sign it, and to be reminded.
pub const DAYS_BEFORE: [u8; 3] = [60, 30, 7];

/// A run of cover that ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending {
    /// First moment covered.
    pub from: Time,
    /// First moment no longer covered.
    pub end: Time,
    /// Since when it is known that it ends then. What was to be told before that is told no more.
    pub known_since: Time,
    /// When cover begins again.
    pub again_from: Option<Time>,
}

/// Which of the moments of an ending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Moment {
    /// So many days before the end.
    Before(u8),
    /// The end.
    End,
    /// The end of the grace after it.
    GraceEnd,
}

/// Something to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Which moment.
    pub moment: Moment,
    /// When it was.
    pub at: Time,
    /// Of which ending.
    pub ending: Ending,
}

/// When cover ends, by what is known now. `items` say when the contract covers what is asked about; a contract as a whole is
/// always covered by itself.
pub fn endings(windows: &[Known<(Time, Time)>], items: &[Known<(Time, Time)>], now: Time) -> Vec<Ending> {
    let standing = cut(windows, items, now);
    let items_since = items.iter().map(|item| item.recorded_at).min().unwrap_or(Time::EPOCH);
    // A fact that was taken back and recorded again was known from the first time on.
    let since = |facts: &[Known<(Time, Time)>], end: Time| {
        facts.iter().filter(|fact| fact.fact.1 == end).map(|fact| fact.recorded_at).min()
    };
    let starts = || standing.iter().map(|(from, _)| from);
    standing
        .iter()
        .map(|(from, end)| Ending {
            from,
            end,
            known_since: since(items, end).or_else(|| since(windows, end)).unwrap_or(now).max(items_since),
            again_from: starts().find(|start| *start > end),
        })
        .collect()
}

/// What is due of endings and was not told. Nothing of before `since`, when this server began to tell.
pub fn notices(
    endings: &[Ending],
    grace_days: i32,
    zone: &TimeZone,
    (since, now): (Time, Time),
    already: impl Fn(Moment, Time) -> bool,
) -> Vec<Notice> {
    let mut due = Vec::new();
    for ending in endings {
        let before = DAYS_BEFORE.map(|days| (Moment::Before(days), ending.end.days_before_in(days, zone)));
        let grace_end = ending.end.plus_days(i64::from(grace_days));
        let after = [(Moment::End, ending.end), (Moment::GraceEnd, grace_end)];
        for (moment, at) in before.into_iter().chain(after) {
            let is_one = match moment {
                // A window of a fortnight is not told of as ending before it begins.
                Moment::Before(_) => ending.from <= at,
                Moment::End => true,
                // Without grace there is no end of it, and where cover goes on nothing is lost with it.
                Moment::GraceEnd => grace_days > 0 && ending.again_from.is_none_or(|again| again > at),
            };
            let is_due = at <= now && since <= at && ending.known_since <= at;
            if is_one && is_due && !already(moment, ending.end) {
                due.push(Notice { moment, at, ending: *ending });
            }
        }
    }
    due.sort_by_key(|notice| notice.at);
    due
}

fn cut(windows: &[Known<(Time, Time)>], items: &[Known<(Time, Time)>], known_at: Time) -> Windows {
    let standing = |facts: &[Known<(Time, Time)>]| -> Vec<(Time, Time)> {
        facts.iter().filter(|fact| fact.at(known_at)).map(|fact| fact.fact).collect()
    };
    let items = standing(items);
    let windows = standing(windows).into_iter();
    Windows::new(
        windows.flat_map(|(from, to)| items.iter().map(move |item| (from.max(item.0), to.min(item.1)))).collect(),
    )
}

/// What covers always: the item of a contract as a whole.
pub const fn always() -> Known<(Time, Time)> {
    Known::new((Time::EPOCH, Time::FOREVER), Time::EPOCH)
}

/// When a contract as a whole covers by what was known at a moment; never, while it did not count.
pub fn whole(contract: &ContractFacts, known_at: Time) -> Windows {
    let counts = contract.states.iter().any(|state| state.at(known_at) && state.fact == ContractState::Active);
    if counts { cut(&contract.windows, &[always()], known_at) } else { Windows::default() }
}

/// The last run of cover that was not there before.
pub fn gained(before: &Windows, after: &Windows) -> Option<(Time, Time)> {
    let inside = |from: Time, to: Time| before.iter().any(|(start, end)| start <= from && to <= end);
    after.iter().rfind(|&(from, to)| !inside(from, to))
}

/// Whether a reason takes a version away that a device had been promised: the device is as it was, and what changed is what it
/// may have. That it runs the version, or cannot install it, takes nothing away.
pub const fn is_denial(reason: Reason) -> bool {
    reason.is_lack_of_cover()
        || matches!(
            reason,
            Reason::DeviceBlocked
                | Reason::DeviceRetired
                | Reason::DeviceReplaced
                | Reason::Withdrawn
                | Reason::Embargoed
                | Reason::CountryBlocked
                | Reason::TrainUnproven
                | Reason::HeldByPolicy
                | Reason::PinnedByPolicy
        )
}

/// Why a device may not have a release that it was promised; nothing when it may, or when that is no loss.
pub fn denied(device: &DeviceView, product: &ProductView, release: &ReleaseView, now: Time) -> Option<Reason> {
    let runs = product_runs(device, product, release);
    let verdict = entitled(device, product, release, now, &mut ());
    (!verdict.pass && !runs && is_denial(verdict.reason)).then_some(verdict.reason)
}

/// Whether the device runs the release or a newer one.
fn product_runs(device: &DeviceView, product: &ProductView, release: &ReleaseView) -> bool {
    device.oldest_running(product) >= release.release.order
}

/// The version that a rollout had brought to a device before a moment, and that it may not have from that moment on.
pub fn lost<'a>(
    device: &DeviceView,
    product: &'a ProductView,
    at: Time,
) -> Option<(&'a ReleaseView, &'a Rollout, Reason)> {
    match decide(device, product, at.plus_ms(-1), &mut ()) {
        Decision::Offer { release, rollout, .. } => {
            denied(device, product, release, at).map(|reason| (release, rollout, reason))
        }
        Decision::Nothing { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn t(text: &str) -> Time {
        text.parse().unwrap()
    }

    fn zone(name: &str) -> TimeZone {
        TimeZone::get(name).unwrap()
    }

    fn window(from: &str, to: &str, known: &str) -> Known<(Time, Time)> {
        Known::new((t(from), t(to)), t(known))
    }

    /// What is due by a moment, as `moment at`.
    fn due(windows: &[Known<(Time, Time)>], grace: i32, name: &str, now: &str) -> Vec<String> {
        let endings = endings(windows, &[always()], t(now));
        let shown = |notice: Notice| format!("{:?} {}", notice.moment, notice.at);
        let told = notices(&endings, grace, &zone(name), (Time::EPOCH, t(now)), |_, _| false);
        told.into_iter().map(shown).collect()
    }

    #[test]
    fn sixty_thirty_seven_and_no_days_before_the_end_and_when_grace_ends() {
        let windows = [window("2026-01-01", "2027-01-01", "2026-01-01")];
        assert_eq!(
            due(&windows, 14, "UTC", "2027-02-01"),
            [
                "Before(60) 2026-11-02T00:00:00Z",
                "Before(30) 2026-12-02T00:00:00Z",
                "Before(7) 2026-12-25T00:00:00Z",
                "End 2027-01-01T00:00:00Z",
                "GraceEnd 2027-01-15T00:00:00Z",
            ]
        );
        assert_eq!(due(&windows, 14, "UTC", "2026-11-01T23:59:59Z"), [""; 0]);
        assert_eq!(due(&windows, 14, "UTC", "2026-11-02").len(), 1);
        assert_eq!(due(&windows, 0, "UTC", "2027-02-01").len(), 4, "no grace, no end of it");
    }

    #[test]
    fn a_leap_day_is_a_day() {
        let windows = [window("2027-03-01", "2028-03-01", "2027-03-01")];
        assert_eq!(
            due(&windows, 0, "UTC", "2028-02-23"),
            ["Before(60) 2028-01-01T00:00:00Z", "Before(30) 2028-01-31T00:00:00Z", "Before(7) 2028-02-23T00:00:00Z"]
        );
        let on_it = [window("2027-03-01", "2028-02-29", "2027-03-01")];
        assert_eq!(due(&on_it, 1, "UTC", "2028-03-01").last().unwrap(), "GraceEnd 2028-03-01T00:00:00Z");
    }

    #[test]
    fn days_are_those_of_the_zone_also_where_clocks_change() {
        // Ends with April in Amsterdam; clocks went forward on 29 March 2026.
        let windows = [window("2025-05-01", "2026-04-30T22:00:00Z", "2025-05-01")];
        assert_eq!(
            due(&windows, 0, "Europe/Amsterdam", "2026-05-02")[..2],
            ["Before(60) 2026-03-01T23:00:00Z", "Before(30) 2026-03-31T22:00:00Z"]
        );
        assert_eq!(due(&windows, 0, "UTC", "2026-05-02")[0], "Before(60) 2026-03-01T22:00:00Z");
        assert_eq!(t("2026-04-30T22:00:00Z").plus_ms(-1).date_in(&zone("Europe/Amsterdam")), "2026-04-30");
        // Auckland is on the other side of the day.
        assert_eq!(t("2026-04-30T12:00:00Z").plus_ms(-1).date_in(&zone("Pacific/Auckland")), "2026-04-30");
    }

    #[test]
    fn who_renews_in_time_is_not_told_and_the_later_end_is() {
        let first = window("2026-01-01", "2027-01-01", "2026-01-01");
        let renewal = window("2027-01-01", "2028-01-01", "2026-12-10");
        assert_eq!(due(&[first.clone(), renewal.clone()], 14, "UTC", "2027-06-01"), [""; 0]);
        assert_eq!(due(&[first.clone(), renewal], 14, "UTC", "2028-02-01").len(), 5);
        let late = window("2027-02-01", "2028-02-01", "2027-01-20");
        let told = due(&[first, late], 14, "UTC", "2027-02-01");
        assert_eq!(told.len(), 5, "a gap is an end: {told:?}");
    }

    #[test]
    fn where_cover_goes_on_the_end_of_grace_is_nothing() {
        let windows =
            [window("2026-01-01", "2027-01-01", "2026-01-01"), window("2027-01-10", "2028-01-01", "2026-01-01")];
        let told = due(&windows, 14, "UTC", "2027-02-01");
        assert_eq!(told.last().unwrap(), "End 2027-01-01T00:00:00Z");
    }

    #[test]
    fn what_was_not_known_in_time_is_not_told_late_and_a_short_window_not_early() {
        let entered_late = [window("2026-01-01", "2027-01-01", "2026-12-10")];
        assert_eq!(due(&entered_late, 0, "UTC", "2026-12-31"), ["Before(7) 2026-12-25T00:00:00Z"]);
        let trial = [window("2026-12-10", "2026-12-24", "2026-01-01")];
        assert_eq!(due(&trial, 0, "UTC", "2026-12-31"), ["Before(7) 2026-12-17T00:00:00Z", "End 2026-12-24T00:00:00Z"]);
    }

    #[test]
    fn what_is_taken_back_is_not_told_of_and_recorded_again_it_is() {
        let mut taken = window("2026-01-01", "2027-01-01", "2026-01-01");
        taken.superseded_at = Some(t("2026-11-01"));
        assert_eq!(due(std::slice::from_ref(&taken), 0, "UTC", "2027-06-01"), [""; 0]);
        let again = window("2026-01-01", "2027-01-01", "2026-12-31");
        assert_eq!(due(&[taken, again], 0, "UTC", "2027-06-01").len(), 4, "its end was known all the time");
    }

    #[test]
    fn an_item_ends_where_it_is_cut() {
        let windows = [window("2026-01-01", "2027-01-01", "2026-01-01")];
        let items = [window("1970-01-01", "2026-09-01", "2026-03-01")];
        let found = endings(&windows, &items, t("2026-08-30"));
        assert_eq!((found[0].end, found[0].known_since), (t("2026-09-01"), t("2026-03-01")));
    }

    #[test]
    fn gained_is_what_was_not_covered() {
        let windows = |spans: &[(&str, &str)]| Windows::new(spans.iter().map(|(from, to)| (t(from), t(to))).collect());
        let year = windows(&[("2026-01-01", "2027-01-01")]);
        let longer = windows(&[("2026-01-01", "2028-01-01")]);
        assert_eq!(gained(&Windows::default(), &year), Some((t("2026-01-01"), t("2027-01-01"))));
        assert_eq!(gained(&year, &longer), Some((t("2026-01-01"), t("2028-01-01"))));
        assert_eq!(gained(&longer, &year), None, "a correction to less gains nothing");
        assert_eq!(gained(&year, &year), None);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Pass(i64),
        Look,
        Add(i64, i64),
        TakeBack(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (1i64..50).prop_map(Step::Pass),
            3 => Just(Step::Look),
            2 => (-100i64..100, 1i64..200).prop_map(|(from, days)| Step::Add(from, days)),
            1 => (0usize..5).prop_map(Step::TakeBack),
        ];
        prop::collection::vec(step, 1..40)
    }

    proptest! {
        #[test]
        fn nothing_is_told_twice_or_of_what_was_renewed_and_nothing_is_lost_while_nobody_looked(steps in steps()) {
            let (start, zone) = (t("2026-01-01"), zone("Europe/Amsterdam"));
            let mut now = start;
            let mut windows: Vec<Known<(Time, Time)>> = Vec::new();
            let mut told: BTreeSet<(Moment, Time)> = BTreeSet::new();
            for step in steps.into_iter().chain([Step::Look]) {
                match step {
                    Step::Pass(days) => now = now.plus_days(days),
                    Step::Add(from, days) => {
                        let from = now.plus_days(from);
                        windows.push(Known::new((from, from.plus_days(days)), now));
                    }
                    Step::TakeBack(at) => {
                        if let Some(window) = windows.get_mut(at).filter(|window| window.superseded_at.is_none()) {
                            window.superseded_at = Some(now);
                        }
                    }
                    Step::Look => {
                        let endings = endings(&windows, &[always()], now);
                        for notice in notices(&endings, 14, &zone, (start, now), |moment, end| told.contains(&(moment, end))) {
                            prop_assert!(told.insert((notice.moment, notice.ending.end)), "twice: {notice:?}");
                            let standing = cut(&windows, &[always()], now);
                            prop_assert!(standing.iter().any(|(_, end)| end == notice.ending.end), "renewed: {notice:?}");
                        }
                        // Whatever passed while nobody looked, the last day of each run that stands was told of.
                        for (from, end) in cut(&windows, &[always()], now).iter() {
                            let known = windows.iter().filter(|window| window.fact.1 == end).map(|window| window.recorded_at).min();
                            if start <= end && end <= now && known.is_some_and(|known| known <= end) {
                                prop_assert!(told.contains(&(Moment::End, end)), "lost: {from} to {end}");
                            }
                        }
                    }
                }
            }
        }
    }
}
