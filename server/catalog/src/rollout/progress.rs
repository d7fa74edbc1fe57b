//! How far a rollout is: the gate of its stage in figures and words, and when it will be through. Pure: the planner opens gates by
//! what is told here, so nobody is told anything else than what it looks at.

use serde::{Deserialize, Serialize};

use super::stats::{Counts, Stats, wilson_lower};
use super::{Rollout, RolloutState};
use crate::{Period, Time};

/// Estimates are rounded up to so much, as what is told must not change with every look.
const ROUNDED_S: i64 = 600;
/// An estimate further ahead than this says only that nobody knows, seconds.
const TOO_FAR_S: f64 = 366.0 * 86_400.0;
/// More attempts than any fleet has: a share that needs more of them to be sure never becomes sure.
const MAX_ATTEMPTS: u64 = 1 << 32;

/// The gate of a stage: everything that it asks for, and what of it is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct GateView {
    /// When soak time and ramp of the stage are through.
    pub soak_until: Time,
    /// Whether they are.
    pub soaked: bool,
    /// Matured attempts of the stage.
    pub matured: u64,
    /// Asked for.
    pub minimum: u64,
    /// Of the matured ones those that succeeded.
    pub succeeded: u64,
    /// Under way or not matured yet.
    pub coming: u64,
    /// The lower bound of success among the matured ones, in thousandths, rounded down.
    pub lower_permille: u16,
    /// Asked for, in thousandths.
    pub need_permille: u16,
    /// Whether the bound suffices: not told by the rounded figures.
    pub sure: bool,
    /// All of that in words.
    #[serde(default)]
    pub sentence: String,
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of 0 to 1")]
pub(super) fn permille(share: f64) -> u16 {
    (share.clamp(0.0, 1.0) * 1000.0).floor() as u16
}

/// What the gate of the present stage says; nothing where there is none.
pub fn gate_view(rollout: &Rollout, counts: &Counts, now: Time) -> Option<GateView> {
    let gate = rollout.stages.gate(rollout.stage)?;
    let ramp = rollout.stages.stage(rollout.stage).map_or(Period::ZERO, |stage| stage.ramp);
    let soak_until = rollout.stage_since.plus(gate.soak.max(ramp));
    // What was seen in earlier stages has opened this one; it says nothing of the devices that this one reached.
    let (matured, succeeded) = (counts.of_stage.attempts, counts.of_stage.succeeded());
    let lower = wilson_lower(succeeded, matured);
    let need = f64::from(gate.success) / 100.0;
    let mut view = GateView {
        soak_until,
        soaked: now >= soak_until,
        matured,
        minimum: u64::from(gate.minimum),
        succeeded,
        coming: counts.begun.attempts.saturating_sub(counts.matured.attempts),
        lower_permille: permille(lower),
        need_permille: permille(need),
        sure: lower >= need,
        sentence: String::new(),
    };
    view.sentence = view.in_words();
    Some(view)
}

impl GateView {
    /// Whether it opens.
    pub const fn opens(&self) -> bool {
        self.soaked && self.sure && self.matured >= self.minimum
    }

    fn in_words(&self) -> String {
        let share = |permille: u16| format!("{}.{:03}", permille / 1000, permille % 1000);
        let coming = if self.coming > 0 { format!(", {} under way", self.coming) } else { String::new() };
        let soak = if self.soaked { String::new() } else { format!("; soak until {}", self.soak_until) };
        format!(
            "{} of {} matured attempts{coming}; lower bound {} of {}{soak}",
            self.matured,
            self.minimum,
            share(self.lower_permille),
            share(self.need_permille)
        )
    }
}

/// When a rollout will be done, by its plan and the pace so far. Nothing where that cannot be told: somebody has to act, nothing has
/// begun in this stage, windows are shut at times, or the gate asks for more success than there is.
pub fn completes_at(rollout: &Rollout, stats: &Stats, now: Time) -> Option<Time> {
    let schedule = &rollout.rules.schedule;
    if rollout.state != RolloutState::Running || !schedule.windows.is_empty() || !schedule.blackouts.is_empty() {
        return None;
    }
    let counts = stats.total(&rollout.excluded);
    let percent = |stage: i32| f64::from(rollout.stages.percent(stage));
    let gained = |stage: i32| percent(stage) - percent(stage - 1);
    let view = gate_view(rollout, &counts, now)?;
    let opened_s = seconds(rollout.opened_at);
    let elapsed = (seconds(now) - opened_s).max(1.0);
    let begun = count(view.matured + view.coming);
    let mature = f64::from(rollout.rules.mature.as_s());
    // Attempts a second: what the stage brought since it opened.
    let pace = begun / elapsed;
    let need = count(attempts_needed(&view)?);
    let enough = view.matured >= view.minimum && view.sure;
    if !enough && (begun <= 0.0 || gained(rollout.stage) <= 0.0) {
        return None;
    }
    let by_attempts = if enough { seconds(now) } else { opened_s + need / pace + mature };
    let mut at = seconds(view.soak_until).max(by_attempts).max(seconds(now));
    for stage in rollout.stage + 1..=rollout.stages.last() {
        let gate = rollout.stages.gate(stage)?;
        let ramp = rollout.stages.stage(stage).map_or(Period::ZERO, |stage| stage.ramp);
        // More of the audience begins in the same time where a stage brings more of it.
        let of_stage = pace * gained(stage) / gained(rollout.stage).max(1.0);
        if of_stage <= 0.0 {
            return None;
        }
        let by_attempts = f64::from(gate.minimum) / of_stage + mature;
        at += f64::from(gate.soak.max(ramp).as_s()).max(by_attempts);
    }
    (at - seconds(now) < TOO_FAR_S).then(|| rounded(at))
}

/// How many matured attempts open a gate when success goes on as it is; nothing when no number does.
fn attempts_needed(view: &GateView) -> Option<u64> {
    if view.sure || view.matured == 0 {
        return Some(view.minimum);
    }
    let share = count(view.succeeded) / count(view.matured);
    let need = f64::from(view.need_permille) / 1000.0;
    // The bound at this share narrows with every doubling.
    let mut all = view.matured.max(view.minimum);
    while wilson_lower(part(share, all), all) < need {
        all = all.saturating_mul(2);
        if share <= need || all > MAX_ATTEMPTS {
            return None;
        }
    }
    let (mut less, mut enough) = (all / 2, all);
    while enough - less > 1 {
        let middle = less + (enough - less) / 2;
        if wilson_lower(part(share, middle), middle) < need { less = middle } else { enough = middle }
    }
    Some(enough.max(view.minimum))
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a count is one")]
fn part(share: f64, all: u64) -> u64 {
    (share * count(all)).floor() as u64
}

#[expect(clippy::cast_precision_loss, reason = "exact to 2^53 attempts")]
const fn count(number: u64) -> f64 {
    number as f64
}

#[expect(clippy::cast_precision_loss, reason = "exact for 285 million years")]
const fn seconds(time: Time) -> f64 {
    time.as_s() as f64
}

#[expect(clippy::cast_possible_truncation, reason = "at most a year ahead")]
fn rounded(at: f64) -> Time {
    Time::EPOCH.plus_s((at.round() as i64 + ROUNDED_S - 1).div_euclid(ROUNDED_S) * ROUNDED_S)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::sample;
    use super::super::{Class, Preset, Rules, Stage, StageGate, Stages, Waits, plan, waits};
    use super::*;

    fn t(minute: i64) -> Time {
        Time::EPOCH.plus_s(60 * minute)
    }

    /// Two stages of half the audience each: ten matured attempts, half an hour to mature, an hour of soak.
    fn halves(minimum: u32, success: u8) -> Rollout {
        let gate = StageGate { minimum, success, soak: Period::hours(1) };
        let stage = |percent| Stage { percent, ramp: Period::ZERO, gate: Some(gate) };
        sample(Stages(vec![stage(50), stage(100)]), Rules { mature: Period::minutes(30), ..Rules::default() })
    }

    fn seen(matured: &[(Class, u64)], coming: u64) -> Stats {
        let mut counts = Counts::default();
        for &(class, count) in matured {
            counts.count(class, count, true, true);
        }
        counts.count(Class::Pending, coming, false, false);
        Stats { hardware: [("r1".to_owned(), counts)].into(), ..Stats::default() }
    }

    #[test]
    fn a_gate_tells_all_that_it_waits_for() {
        let rollout = halves(500, 99);
        let stats = seen(&[(Class::Healthy, 411), (Class::Failed, 1)], 7);
        let view = gate_view(&rollout, &stats.total(&rollout.excluded), t(5)).unwrap();
        assert_eq!(
            view.sentence,
            "412 of 500 matured attempts, 7 under way; lower bound 0.986 of 0.990; soak until 1970-01-01T01:00:00Z"
        );
        assert!(!view.opens());
    }

    #[test]
    fn what_is_told_is_when_it_happens_at_an_even_pace() {
        // One attempt a minute: the tenth begins at 00:10 and is matured at 00:40, before the soak time ends.
        let rollout = halves(10, 60);
        assert_eq!(completes_at(&rollout, &seen(&[], 5), t(5)), Some(t(120)), "soak decides, twice");
        // A hundred: begun at 01:40, matured at 02:10; the second half takes as long from then on.
        let rollout = halves(100, 60);
        assert_eq!(completes_at(&rollout, &seen(&[(Class::Healthy, 30)], 30), t(60)), Some(t(2 * 130)));
    }

    #[test]
    fn nothing_is_told_where_nobody_knows() {
        let rollout = halves(10, 60);
        let some = seen(&[(Class::Healthy, 5)], 5);
        assert_eq!(completes_at(&rollout, &seen(&[], 0), t(30)), None, "nothing has begun");
        assert_eq!(completes_at(&halves(10, 60), &seen(&[(Class::Failed, 10)], 5), t(30)), None, "it never succeeds");
        for state in [RolloutState::Paused, RolloutState::Done, RolloutState::Halted, RolloutState::Scheduled] {
            assert_eq!(completes_at(&Rollout { state, ..rollout.clone() }, &some, t(30)), None, "{state:?}");
        }
        let mut by_hand = rollout.clone();
        by_hand.stages.0[1].gate = None;
        assert_eq!(completes_at(&by_hand, &some, t(30)), None, "somebody has to act later");
        let mut level = rollout.clone();
        level.stages.0[1].percent = 50;
        assert_eq!(completes_at(&level, &some, t(30)), None, "the last stage brings nobody");
        let mut shut = rollout;
        shut.rules.schedule.windows.push(serde_json::from_str(r#"{"from": "22:00", "to": "04:00"}"#).unwrap());
        assert_eq!(completes_at(&shut, &some, t(30)), None, "windows are shut at times");
        assert_eq!(completes_at(&halves(u32::MAX, 60), &some, t(30)), None, "in some thousands of years");
    }

    #[test]
    fn a_clock_that_was_set_back_tells_nothing_absurd() {
        let mut rollout = halves(10, 60);
        (rollout.opened_at, rollout.stage_since) = (t(1000), t(1000));
        let told = completes_at(&rollout, &seen(&[], 5), t(0)).unwrap();
        assert!(told >= t(1060) && told < t(2000), "{told}");
    }

    proptest! {
        /// What is told to people and what moves the rollout are one.
        #[test]
        fn the_planner_opens_a_gate_exactly_when_its_view_opens(
            healthy in 0u64..300, failed in 0u64..20, late in 0u64..20, coming in 0u64..50, minimum in 1u32..200,
            success in 1u8..=99, minute in 0i64..120,
        ) {
            let rollout = halves(minimum, success);
            let stats = seen(&[(Class::Healthy, healthy), (Class::Failed, failed), (Class::Late, late)], coming);
            let view = gate_view(&rollout, &stats.total(&rollout.excluded), t(minute)).unwrap();
            prop_assert_eq!(view.opens(), plan(&rollout, &stats, t(minute)).is_some());
            let told = waits(&rollout, &stats, t(minute));
            prop_assert_eq!(view.opens(), told == Waits::Nothing);
            if let Waits::Soak { until } = told {
                prop_assert_eq!(until, view.soak_until);
            }
            if let Some(at) = completes_at(&rollout, &stats, t(minute)) {
                prop_assert!(at >= t(minute) && at >= view.soak_until);
            }
        }

        #[test]
        fn every_preset_is_estimated_or_not_and_never_in_the_past(
            healthy in 0u64..5000, failed in 0u64..100, coming in 0u64..5000, minute in 0i64..20_000, which in 0usize..3,
        ) {
            let preset = [Preset::Normal, Preset::Accelerated, Preset::Emergency][which];
            let rollout = sample(preset.stages(), preset.rules());
            let stats = seen(&[(Class::Healthy, healthy), (Class::Failed, failed)], coming);
            if let Some(at) = completes_at(&rollout, &stats, t(minute)) {
                prop_assert!(at >= t(minute));
            }
        }
    }
}
