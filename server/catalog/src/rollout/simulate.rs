//! A rollout played through before it is one: the same planner, membership and counting, against a model of a fleet. Time and
//! chance come from a seed; the same seed plays the same.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::planner::{Transition, plan};
use super::stats::{Observed, Stats};
use super::{AttemptState, Rollout, RolloutState, bucket};
use crate::Time;
use crate::id::CohortId;

/// Most devices of a model: what a laptop plays through in a minute.
pub const MAX_DEVICES: u32 = 2_000_000;
/// Minutes between two looks of the planner and the model.
const STEP_MIN: i64 = 5;
/// A rollout that has not ended after so many days never will.
const MAX_DAYS: i64 = 60;
/// How long a device stays away once it is offline, on average: a night.
const OFFLINE_MIN: f64 = 8.0 * 60.0;
/// An update takes this long at least, and up to as much again five times.
const UPDATE_MIN: i64 = 5;

/// What a bad release does to a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// It is never heard of again.
    #[default]
    Brick,
    /// It goes back to what it ran before, and says so.
    RollBack,
}

/// What goes wrong, and where.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Trouble {
    /// Share of devices that fail, 0 to 1.
    pub rate: f64,
    /// Minutes from installing to failing.
    pub after_min: u32,
    /// Only on this hardware.
    pub hardware: Option<String>,
    /// How.
    pub fault: Fault,
}

/// A fleet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Model {
    /// Devices by hardware id.
    pub hardware: Vec<(String, u32)>,
    /// Minutes between two polls of a device, unless the rollout's rules ask for other.
    pub poll_min: u32,
    /// Share of devices that are offline at any moment, 0 to below 1.
    pub offline: f64,
    /// What goes wrong.
    pub trouble: Trouble,
    /// Plays the same again.
    pub seed: u64,
}

/// A transition with when it came.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Moved {
    /// Minutes from the start.
    pub minute: i64,
    /// Devices that had installed the release by then.
    pub installed: u64,
    /// What happened.
    pub transition: Transition,
}

/// How it went.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Where it ended.
    pub state: RolloutState,
    /// Minutes until then.
    pub minutes: i64,
    /// Devices.
    pub devices: u64,
    /// Devices that installed the release.
    pub installed: u64,
    /// Of those, devices that it broke or will break.
    pub broken: u64,
    /// Hardware that was taken out.
    pub excluded: Vec<String>,
    /// Every transition.
    pub transitions: Vec<Moved>,
}

/// SplitMix64 (Steele, Lea and Flood, 2014): enough for a model, and the same everywhere.
struct Dice(u64);

impl Dice {
    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// 0 to below 1.
    #[expect(clippy::cast_precision_loss, reason = "53 bits are taken")]
    fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// 0 to below `end`.
    fn below(&mut self, end: i64) -> i64 {
        let end = u64::try_from(end).unwrap_or(1).max(1);
        i64::try_from(self.next() % end).unwrap_or(0)
    }

    /// Minutes until something that happens every `mean` minutes.
    #[expect(clippy::cast_possible_truncation, reason = "some days of minutes")]
    fn wait(&mut self, mean: f64) -> i64 {
        ((-(1.0 - self.share()).ln() * mean).min(1e6) as i64).max(1)
    }
}

/// One device of the model. Times in minutes.
struct Device {
    bucket: u16,
    hardware: usize,
    /// Whether the release breaks it.
    weak: bool,
    online: bool,
    /// When it comes or goes.
    toggles_at: i64,
    polls_at: i64,
    last_seen: i64,
    began_at: i64,
    /// When its update ends, or when what it installed breaks.
    acts_at: i64,
    /// `None` before it began; [`AttemptState::Applied`] for one that broke before it was healthy.
    state: Option<AttemptState>,
    /// Whether the release is on it, and whether that ended it.
    body: Body,
}

/// What the release has made of a device.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Body {
    /// It runs what it ran before.
    Old,
    /// It has had the release.
    New,
    /// It is never heard of again.
    Dead,
}

const NEVER: i64 = i64::MAX;

/// Plays a rollout from its present state on; it is put to `running` first.
pub fn simulate(rollout: &Rollout, model: &Model) -> Outcome {
    let start = rollout.stage_since;
    let mut rollout = Rollout { state: RolloutState::Running, opened_at: start, ..rollout.clone() };
    let mut dice = Dice(model.seed);
    let mut devices = fleet(&rollout, model, &mut dice);
    let count = u64::try_from(devices.len()).unwrap_or(0);
    let mut outcome = Outcome {
        state: rollout.state,
        minutes: 0,
        devices: count,
        installed: 0,
        broken: 0,
        excluded: Vec::new(),
        transitions: Vec::new(),
    };
    let mut minute = 0;
    while minute < MAX_DAYS * 24 * 60 && rollout.state == RolloutState::Running {
        minute += STEP_MIN;
        let now = start.plus_s(60 * minute);
        let offers: Vec<u16> = model
            .hardware
            .iter()
            .map(|(hardware, _)| if rollout.excluded.contains(hardware) { 0 } else { rollout.reach(now) })
            .collect();
        for device in &mut devices {
            let reach = offers.get(device.hardware).copied().unwrap_or(0);
            device.live((start, minute), reach, &rollout, model, &mut dice);
        }
        let stats = look(&devices, &rollout, model, (start, minute));
        while let Some(transition) = plan(&rollout, &stats, now) {
            rollout = rollout.after(&transition, now);
            let installed = installed(&devices);
            outcome.transitions.push(Moved { minute, installed, transition });
            if rollout.state != RolloutState::Running {
                break;
            }
        }
    }
    outcome.state = rollout.state;
    outcome.minutes = minute;
    outcome.installed = installed(&devices);
    outcome.broken =
        devices.iter().filter(|device| device.body != Body::Old && device.weak).count().try_into().unwrap_or(0);
    outcome.excluded = rollout.excluded.iter().map(str::to_owned).collect();
    outcome
}

fn installed(devices: &[Device]) -> u64 {
    devices.iter().filter(|device| device.body != Body::Old).count().try_into().unwrap_or(0)
}

fn fleet(rollout: &Rollout, model: &Model, dice: &mut Dice) -> Vec<Device> {
    let mut devices = Vec::new();
    for (hardware, (id, count)) in model.hardware.iter().enumerate() {
        let hit = model.trouble.hardware.as_ref().is_none_or(|only| only == id);
        for _ in 0..*count {
            let cohort = CohortId(Uuid::from_u64_pair(dice.next(), dice.next()));
            let online = dice.share() >= model.offline;
            devices.push(Device {
                bucket: bucket(&rollout.salt, cohort),
                hardware,
                weak: hit && dice.share() < model.trouble.rate,
                online,
                toggles_at: away(model, online, dice),
                polls_at: dice.below(i64::from(model.poll_min)),
                // Not heard of since the start.
                last_seen: -1,
                began_at: NEVER,
                acts_at: NEVER,
                state: None,
                body: Body::Old,
            });
        }
    }
    devices
}

/// Minutes until a device comes or goes.
fn away(model: &Model, online: bool, dice: &mut Dice) -> i64 {
    if model.offline <= 0.0 {
        NEVER
    } else if online {
        dice.wait(OFFLINE_MIN * (1.0 - model.offline) / model.offline)
    } else {
        dice.wait(OFFLINE_MIN)
    }
}

impl Device {
    /// Lives through the time until `minute`.
    fn live(&mut self, (start, minute): (Time, i64), reach: u16, rollout: &Rollout, model: &Model, dice: &mut Dice) {
        if self.body == Body::Dead || minute < self.toggles_at.min(self.polls_at).min(self.acts_at) {
            return;
        }
        if minute >= self.toggles_at {
            self.online = !self.online;
            self.toggles_at = minute.saturating_add(away(model, self.online, dice));
        }
        if minute >= self.acts_at {
            self.act(minute, model);
        }
        if minute >= self.polls_at {
            let every = rollout.rules.poll.map_or(i64::from(model.poll_min), |poll| i64::from(poll.as_s() / 60));
            self.polls_at = minute + every.max(1);
            if self.online && self.body != Body::Dead {
                self.last_seen = minute;
                // The model's devices are of one site.
                let rated = rollout.rate_at(None, || self.bucket).is_some_and(|at| at > start.plus_s(60 * minute));
                if self.state.is_none() && self.bucket < reach && !rated {
                    self.state = Some(AttemptState::Downloading);
                    self.began_at = minute;
                    self.acts_at = minute + UPDATE_MIN + dice.below(5 * UPDATE_MIN);
                }
            }
        }
    }

    /// Its update ends, or what it installed breaks.
    fn act(&mut self, minute: i64, model: &Model) {
        if self.state == Some(AttemptState::Downloading) && !self.online {
            // It goes on when it is back.
            self.acts_at = self.toggles_at;
            return;
        }
        let breaks = self.weak && (self.body == Body::New || model.trouble.after_min == 0);
        self.body = Body::New;
        self.acts_at = NEVER;
        if breaks {
            match model.trouble.fault {
                Fault::Brick => {
                    self.body = Body::Dead;
                    if self.state == Some(AttemptState::Downloading) {
                        self.state = Some(AttemptState::Applied);
                    }
                }
                Fault::RollBack => {
                    self.state = Some(AttemptState::RolledBack);
                    self.last_seen = minute;
                }
            }
        } else {
            self.state = Some(AttemptState::Healthy);
            self.last_seen = minute;
            if self.weak {
                self.acts_at = minute + i64::from(model.trouble.after_min);
            }
        }
    }
}

fn look(devices: &[Device], rollout: &Rollout, model: &Model, (start, minute): (Time, i64)) -> Stats {
    // Before the start lies as much time as rules may give an attempt.
    let at = |minute: i64| Time::EPOCH.plus_s(60 * (minute + i64::from(super::rules::MAX_PERIOD.as_s() / 30)));
    let mature_before = at(minute).minus(rollout.rules.mature);
    let opened_at = at((rollout.opened_at.as_s() - start.as_s()) / 60);
    let mut stats = vec![super::stats::Counts::default(); model.hardware.len()];
    for device in devices {
        let Some(counts) = stats.get_mut(device.hardware) else { continue };
        match device.state {
            Some(state) => counts.observe(
                &Observed { state, failure: None, began_at: at(device.began_at), last_seen: at(device.last_seen) },
                mature_before,
                opened_at,
            ),
            None if device.last_seen >= 0 => {
                counts.controls += 1;
                counts.controls_silent += u64::from(at(device.last_seen) < mature_before);
            }
            None => {}
        }
    }
    Stats { hardware: model.hardware.iter().map(|(id, _)| id.clone()).zip(stats).collect(), ..Stats::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::rules::Preset;
    use crate::rollout::tests::sample;

    fn model(trouble: Trouble, seed: u64) -> Model {
        let hardware = vec![("cam-r2".to_owned(), 7200), ("cam-r3".to_owned(), 800)];
        Model { hardware, poll_min: 60, offline: 0.1, trouble, seed }
    }

    fn play(preset: Preset, trouble: Trouble, seed: u64) -> Outcome {
        simulate(&sample(preset.stages(), preset.rules()), &model(trouble, seed))
    }

    #[expect(clippy::cast_precision_loss, reason = "shares of counts far below 2^53")]
    fn share(part: u64, outcome: &Outcome) -> f64 {
        part as f64 / outcome.devices as f64
    }

    #[test]
    fn a_release_that_bricks_at_once_is_stopped_in_the_first_stage() {
        let trouble = Trouble { rate: 1.0, ..Trouble::default() };
        for (preset, most) in [(Preset::Normal, 0.013), (Preset::Accelerated, 0.06), (Preset::Emergency, 0.11)] {
            let outcome = play(preset, trouble.clone(), 1);
            assert_eq!(outcome.state, RolloutState::Paused, "{}", preset.as_str());
            assert!(share(outcome.installed, &outcome) <= most, "{}: {}", preset.as_str(), outcome.installed);
            assert_eq!(outcome.installed, outcome.broken);
            assert!(outcome.excluded.is_empty(), "it is the release and not some hardware");
        }
    }

    #[test]
    fn what_fails_a_day_later_is_seen_on_one_in_twenty() {
        for fault in [Fault::Brick, Fault::RollBack] {
            let trouble = Trouble { rate: 1.0, after_min: 24 * 60, hardware: None, fault };
            let outcome = play(Preset::Normal, trouble, 2);
            assert_eq!(outcome.state, RolloutState::Paused);
            assert!(share(outcome.installed, &outcome) <= 0.06, "{fault:?}: {}", outcome.installed);
        }
    }

    #[test]
    fn a_hardware_revision_that_bricks_is_taken_out_and_the_others_complete() {
        let trouble = Trouble { rate: 0.5, hardware: Some("cam-r3".to_owned()), ..Trouble::default() };
        let outcome = play(Preset::Normal, trouble, 3);
        assert_eq!(outcome.excluded, ["cam-r3"]);
        assert_eq!(outcome.state, RolloutState::Done);
        assert!(share(outcome.broken, &outcome) < 0.005, "{}", outcome.broken);
    }

    #[test]
    fn a_rate_makes_one_stage_last_as_long() {
        let mut rollout =
            sample(crate::rollout::Stages(vec![crate::rollout::Stage::of(100)]), Preset::Emergency.rules());
        rollout.stages.0[0].gate = Preset::Emergency.stages().gate(0);
        rollout.rules.rates.per_site = Some(crate::Period::hours(48));
        let half = |rollout: &Rollout, hours: i64| {
            let at = rollout.stage_since.plus_s(3600 * hours);
            (0..10_000u16).filter(|bucket| rollout.rate_at(None, || *bucket).unwrap() <= at).count()
        };
        assert_eq!((half(&rollout, 12), half(&rollout, 24), half(&rollout, 48)), (2501, 5001, 10_000));
        let outcome = simulate(&rollout, &model(Trouble::default(), 6));
        let slow = outcome.installed;
        rollout.rules.rates.per_site = None;
        assert!(
            slow < simulate(&rollout, &model(Trouble::default(), 6)).installed / 2,
            "its gate opened before: {slow}"
        );
    }

    #[test]
    fn a_good_release_completes_and_the_same_seed_plays_the_same() {
        let outcome = play(Preset::Normal, Trouble::default(), 4);
        assert_eq!(outcome.state, RolloutState::Done);
        assert_eq!(outcome.minutes / 60 / 24, 7, "six days to the last stage, and one for its own gate");
        assert!(share(outcome.installed, &outcome) > 0.95);
        let stages: Vec<i32> = outcome.transitions.iter().map(|moved| moved.transition.stage).collect();
        assert_eq!(stages, [1, 2, 3, 4, 5, 6, 6]);
        assert_eq!(play(Preset::Normal, Trouble::default(), 4), outcome);
        assert_ne!(play(Preset::Normal, Trouble::default(), 5), outcome);
    }
}
