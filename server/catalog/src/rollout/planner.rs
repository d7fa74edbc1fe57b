//! The planner: what a rollout does next, by what is known of it. Pure, and the same in the server and in a simulation; an
//! executor carries a transition out.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::progress::{gate_view, permille};
use super::rules::{StopAction, StopLimit};
use super::stats::{Counts, Stats, Tally, wilson_lower, wilson_upper};
use super::{Rollout, RolloutState};
use crate::Time;

/// Attempts of a class below which no stop rule acts: two devices may fail for reasons of their own.
pub const MIN_STOP: u64 = 3;
/// Controls below which their own silence says nothing.
const MIN_CONTROLS: u64 = 30;
/// What is taken for natural silence where there are no controls: more than a fleet has.
const SILENT_WITHOUT_CONTROLS: f64 = 0.25;

/// Why a rollout moves by itself. Closed, and documented in `docs/rollouts.md`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Cause {
    /// Its start has come.
    Start,
    /// A gate passed.
    Gate,
    /// A stop rule acted.
    Stop {
        /// Which class of failure.
        class: StopClass,
        /// The hardware id it acted on; the whole rollout when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        hardware: Option<String>,
    },
}

/// The class of failure that a stop rule watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum StopClass {
    /// Refused by the device.
    Rejected,
    /// Not downloaded or not written.
    Failed,
    /// Went back.
    RolledBack,
    /// Not heard of.
    Silent,
}

impl StopClass {
    const ALL: [Self; 4] = [Self::Rejected, Self::Failed, Self::RolledBack, Self::Silent];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rejected => "rejected",
            Self::Failed => "failed",
            Self::RolledBack => "rolled_back",
            Self::Silent => "silent",
        }
    }

    /// How many. Without controls nobody knows who goes silent anyway, some time after a success.
    const fn count_in(self, tally: &Tally, controls: u64) -> u64 {
        match self {
            Self::Silent if controls < MIN_CONTROLS => tally.silent,
            _ => self.count(tally),
        }
    }

    const fn count(self, tally: &Tally) -> u64 {
        match self {
            Self::Rejected => tally.rejected,
            Self::Failed => tally.failed,
            Self::RolledBack => tally.rolled_back,
            Self::Silent => tally.unheard(),
        }
    }
}

/// The figures on which a transition was decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Figures {
    /// Attempts and controls, without hardware that was taken out before.
    pub counts: Counts,
    /// A lower bound in thousandths: of success at a gate, of the class that stopped it.
    pub lower_permille: u16,
    /// What it was held against, in thousandths.
    pub against_permille: u16,
}

/// What a rollout does next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Transition {
    /// The state after it.
    pub state: RolloutState,
    /// The stage after it, from 0.
    pub stage: i32,
    /// A hardware id that is taken out.
    pub exclude: Option<String>,
    /// Why.
    pub cause: Cause,
    /// By what figures, where it was about figures.
    pub figures: Option<Figures>,
}

impl Transition {
    /// One sentence for people.
    pub fn sentence(&self) -> String {
        let permille = |figure: u16| format!("{}.{} %", figure / 10, figure % 10);
        match (&self.cause, &self.figures) {
            (Cause::Gate, Some(figures)) => format!(
                "{} of {} matured attempts succeeded: at least {}, {} asked for",
                figures.counts.of_stage.succeeded(),
                figures.counts.of_stage.attempts,
                permille(figures.lower_permille),
                permille(figures.against_permille)
            ),
            (Cause::Stop { class, hardware }, Some(figures)) => format!(
                "{} of {} attempts{} are {}: at least {}, {} allowed{}",
                class.count(&figures.counts.begun),
                figures.counts.begun.attempts,
                hardware.as_ref().map_or_else(String::new, |hardware| format!(" on {hardware}")),
                class.as_str().replace('_', " "),
                permille(figures.lower_permille),
                permille(figures.against_permille),
                if hardware.is_some() { "; this hardware is taken out, the others go on" } else { "" },
            ),
            _ => "its start has come".to_owned(),
        }
    }

    /// A digest over who moved what when, and on which figures: kept with the transition, so that evidence cannot be exchanged
    /// later without that being seen.
    pub fn digest(&self, rollout: &Rollout, actor: &str, at: Time) -> crate::Digest {
        let text = serde_json::json!({
            "rollout": rollout.id, "from": [rollout.state.as_str(), rollout.stage.to_string()], "to": self, "actor": actor, "at": at,
        });
        crate::Digest(Sha256::digest(text.to_string().as_bytes()).into())
    }
}

/// What the next gate waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Waits {
    /// For somebody to act: draft, review, a pause, or a stage without a gate.
    Hand,
    /// For patches.
    Patches,
    /// For its start.
    Start {
        /// When.
        at: Time,
    },
    /// For the soak time of the stage.
    Soak {
        /// When it ends.
        until: Time,
    },
    /// For attempts to mature.
    Attempts {
        /// Matured.
        have: u64,
        /// Asked for.
        need: u64,
        /// Under way or not matured yet.
        coming: u64,
    },
    /// For a better share of success, which more attempts may bring.
    Success {
        /// The lower bound, in thousandths.
        lower_permille: u16,
        /// Asked for.
        need_permille: u16,
    },
    /// For nothing: it moves at the next look, or has ended.
    Nothing,
}

impl Rollout {
    /// What began until then is matured, and who was last heard of before then is silent.
    pub fn mature_before(&self, now: Time) -> Time {
        now.minus(self.rules.mature)
    }
}

type Side = fn(&Counts) -> &Tally;

/// The two sides from which a part of an audience is looked at: all that began, seen at once, and the matured ones alone, as a
/// wave of new attempts would hide the old failures.
const SIDES: [Side; 2] = [|counts| &counts.begun, |counts| &counts.matured];

/// Whether a limit is passed, by which figures, and seen from which side.
fn passed(class: StopClass, limit: StopLimit, counts: &Counts) -> Option<(Figures, Side)> {
    let share = f64::from(limit.percent) / 100.0;
    let against = match class {
        // Devices go silent by themselves; what counts is how many more of those that were treated.
        StopClass::Silent if counts.controls >= MIN_CONTROLS => {
            share + wilson_upper(counts.controls_silent, counts.controls)
        }
        StopClass::Silent => share + SILENT_WITHOUT_CONTROLS,
        _ => share,
    };
    SIDES.into_iter().find_map(|side| {
        let tally = side(counts);
        let count = class.count_in(tally, counts.controls);
        let lower = wilson_lower(count, tally.attempts);
        // A limit of everything can be reached and not passed. Where all controls are silent as well, it is not the release.
        let all = limit.percent >= 100 && class != StopClass::Silent && count == tally.attempts;
        let stops = count >= MIN_STOP && (lower > against || all);
        stops.then(|| {
            let (lower_permille, against_permille) = (permille(lower), permille(against));
            (Figures { counts: *counts, lower_permille, against_permille }, side)
        })
    })
}

fn stop(rollout: &Rollout, stats: &Stats) -> Option<Transition> {
    let rules = &rollout.rules.stop;
    let limit = |class| match class {
        StopClass::Rejected => rules.rejected,
        StopClass::Failed => rules.failed,
        StopClass::RolledBack => rules.rolled_back,
        StopClass::Silent => rules.silent,
    };
    let whole = stats.total(&rollout.excluded);
    // Whoever lets it go on has judged the failures that were there.
    let looked_at = if rollout.judged_at.is_some() { &stats.fresh } else { &stats.hardware };
    let total = Stats { hardware: looked_at.clone(), ..Stats::default() }.total(&rollout.excluded);
    // What it is held against stands in the evidence: controls of the same hardware, or of all where there are too few of it.
    let beside = |counts: &Counts, hardware: Option<&String>| {
        let same = hardware.and_then(|id| stats.hardware.get(id)).filter(|same| same.controls >= MIN_CONTROLS);
        let Counts { controls, controls_silent, .. } = *same.unwrap_or(&whole);
        Counts { controls, controls_silent, ..*counts }
    };
    let stay = |class, hardware: Option<&String>, figures| Transition {
        state: rollout.state,
        stage: rollout.stage,
        exclude: hardware.cloned(),
        cause: Cause::Stop { class, hardware: hardware.cloned() },
        figures: Some(figures),
    };
    let left: Vec<(&String, Counts)> = looked_at
        .iter()
        .filter(|(hardware, _)| !rollout.excluded.contains(hardware))
        .map(|(hardware, counts)| (hardware, beside(counts, Some(hardware))))
        .collect();
    // One bad hardware revision is taken out before it speaks for the others.
    for class in StopClass::ALL.into_iter().filter(|_| rollout.rules.by_hardware) {
        let Some(limit) = limit(class) else { continue };
        for (id, counts) in &left {
            let Some((figures, side)) = passed(class, limit, counts) else { continue };
            // When the others are no better it is the release and not the hardware.
            let others = left.iter().filter(|(other, _)| other != id);
            let (count, known) = others.fold((0, 0), |(count, known), (_, counts)| {
                let tally = side(counts);
                (count + class.count_in(tally, counts.controls), known + tally.attempts - tally.pending - tally.late)
            });
            if wilson_upper(count, known) < f64::from(figures.lower_permille) / 1000.0 {
                return Some(stay(class, Some(id), figures));
            }
        }
    }
    for class in StopClass::ALL {
        let Some(limit) = limit(class) else { continue };
        if let Some((figures, _)) = passed(class, limit, &beside(&total, None)) {
            let state = match limit.action {
                StopAction::Pause => RolloutState::Paused,
                StopAction::Halt => RolloutState::Halted,
                StopAction::RollBack => RolloutState::RollingBack,
            };
            return Some(Transition { state, ..stay(class, None, figures) });
        }
    }
    None
}

/// What the gate of the present stage says.
fn gate(rollout: &Rollout, counts: &Counts, now: Time) -> Result<Figures, Waits> {
    let Some(view) = gate_view(rollout, counts, now) else { return Err(Waits::Hand) };
    let (lower_permille, need_permille) = (view.lower_permille, view.need_permille);
    if !view.soaked {
        return Err(Waits::Soak { until: view.soak_until });
    }
    if view.matured < view.minimum {
        return Err(Waits::Attempts { have: view.matured, need: view.minimum, coming: view.coming });
    }
    if !view.sure {
        return Err(Waits::Success { lower_permille, need_permille });
    }
    Ok(Figures { counts: *counts, lower_permille, against_permille: need_permille })
}

/// What a rollout does now, if anything. After it was carried out, ask again: one look moves it by one step.
pub fn plan(rollout: &Rollout, stats: &Stats, now: Time) -> Option<Transition> {
    match rollout.state {
        RolloutState::Scheduled if rollout.rules.start_at.is_none_or(|at| at <= now) => Some(Transition {
            state: RolloutState::Running,
            stage: rollout.stage,
            exclude: None,
            cause: Cause::Start,
            figures: None,
        }),
        RolloutState::Running | RolloutState::Done => {
            if let Some(stop) = stop(rollout, stats) {
                return Some(stop);
            }
            if rollout.state == RolloutState::Done {
                return None;
            }
            let figures = gate(rollout, &stats.total(&rollout.excluded), now).ok()?;
            let last = rollout.stage >= rollout.stages.last();
            Some(Transition {
                state: if last { RolloutState::Done } else { RolloutState::Running },
                stage: if last { rollout.stage } else { rollout.stage + 1 },
                exclude: None,
                cause: Cause::Gate,
                figures: Some(figures),
            })
        }
        _ => None,
    }
}

/// What it waits for.
pub fn waits(rollout: &Rollout, stats: &Stats, now: Time) -> Waits {
    match rollout.state {
        RolloutState::Draft | RolloutState::Review | RolloutState::Approved | RolloutState::Paused => Waits::Hand,
        RolloutState::Preparing => Waits::Patches,
        RolloutState::Scheduled => match rollout.rules.start_at {
            Some(at) if at > now => Waits::Start { at },
            _ => Waits::Nothing,
        },
        RolloutState::Running => gate(rollout, &stats.total(&rollout.excluded), now).err().unwrap_or(Waits::Nothing),
        RolloutState::Halted | RolloutState::RollingBack | RolloutState::Done => Waits::Nothing,
    }
}

#[cfg(test)]
mod tests;
