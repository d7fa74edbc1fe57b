//! A rollout played through against a model of the fleet, with the planner that the server uses.

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use sluice_catalog::id::{ReleaseId, RolloutId};
use sluice_catalog::rollout::simulate::{Fault, MAX_DEVICES, Model, Outcome, Trouble, simulate};
use sluice_catalog::rollout::{Rollout, RolloutState};
use sluice_catalog::text::HardwareId;
use sluice_catalog::{Period, TextSet, Time};

use crate::args::one_of;
use crate::failure::Failure;
use crate::noun::rollout_plan::PlanFile;
use crate::output::{Output, fields, table};

/// Play a plan through: the same planner, membership and rules against a model of a fleet. Nothing is sent to devices.
#[derive(Args)]
pub struct Simulate {
    #[command(flatten)]
    plan: PlanFile,
    /// Devices of the model.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_DEVICES)))]
    devices: u32,
    /// Hardware ids with their shares in percent, such as cam-r2=90,cam-r3=10.
    #[arg(long, value_name = "HW=PERCENT,...", default_value = "any=100", value_parser = shares)]
    hardware: Shares,
    /// Percent of devices that are offline at any moment.
    #[arg(long, value_name = "PERCENT", default_value_t = 10.0, value_parser = percent)]
    offline: f64,
    /// Minutes between two polls, unless the plan asks for another period.
    #[arg(long, value_name = "MINUTES", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=1440))]
    poll: u32,
    /// Percent of devices that the release breaks.
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0, value_parser = percent)]
    failure_rate: f64,
    /// How long after installing, such as 24h.
    #[arg(long, value_name = "PERIOD", default_value = "0s")]
    fail_after: Period,
    /// Only on this hardware.
    #[arg(long, value_name = "HW")]
    fail_where: Option<HardwareId>,
    /// How: never heard of again, or back to the version before.
    #[arg(long, default_value = "brick", value_parser = one_of::<Fault>(&["brick", "roll_back"]))]
    fail_how: Fault,
    /// Where chance starts. The same number plays the same.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Plays it so often, with the next seeds.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    runs: u32,
}

/// Shares of hardware.
#[derive(Clone)]
struct Shares(Vec<(String, f64)>);

fn percent(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(percent),
        _ => Err(format!("`{text}`: 0 to 100")),
    }
}

fn shares(text: &str) -> Result<Shares, String> {
    let share = |part: &str| {
        let (hardware, share) = part.split_once('=').ok_or("write HW=PERCENT")?;
        let hardware: HardwareId = hardware.parse().map_err(|error| format!("{error}"))?;
        Ok((hardware.to_string(), percent(share)?))
    };
    let shares = text.split(',').map(share).collect::<Result<Vec<_>, String>>()?;
    let sum: f64 = shares.iter().map(|(_, share)| share).sum();
    if (sum - 100.0).abs() > 0.01 { Err(format!("the shares make {sum} percent, not 100")) } else { Ok(Shares(shares)) }
}

/// All runs.
#[derive(Serialize)]
struct Simulated {
    /// Percent of the fleet that had the release when it ended, at most.
    installed_percent_most: f64,
    /// Percent of the fleet that it broke, at most.
    broken_percent_most: f64,
    /// Runs that reached everyone.
    completed: usize,
    /// Minutes until the last one ended.
    minutes_most: i64,
    /// Each run, in the order of seeds.
    runs: Vec<Outcome>,
}

impl Simulate {
    pub fn run(self, out: Output) -> Result<(), Failure> {
        let plan = self.plan.read()?;
        let (stages, rules) = plan.resolve().map_err(|error| Failure::Usage(error.to_string()))?;
        if let Some(hardware) = &self.fail_where
            && !self.hardware.0.iter().any(|(id, _)| id == hardware.as_str())
        {
            return Err(Failure::Usage(format!("--fail-where {hardware}: no such hardware in --hardware")));
        }
        let rollout = Rollout {
            id: RolloutId::new(Time::EPOCH, [0; 10]),
            release_id: ReleaseId::new(Time::EPOCH, [0; 10]),
            name: plan.name.clone(),
            author: String::new(),
            state: RolloutState::Running,
            salt: "simulation".to_owned(),
            weight: plan.weight,
            stages,
            stage: 0,
            // Windows are in the time of day: the model begins on a Monday at midnight UTC.
            opened_at: Time::EPOCH.plus_days(4),
            stage_since: Time::EPOCH.plus_days(4),
            reached: 0,
            ran_ms: 0,
            judged_at: None,
            excluded: TextSet::default(),
            rules,
            selector: plan.selector.clone(),
            created_at: Time::EPOCH,
        };
        let bar = ProgressBar::new(self.runs.into());
        if let Ok(style) = ProgressStyle::with_template("simulating [{wide_bar}] {pos}/{len}") {
            bar.set_style(style);
        }
        let mut runs = Vec::new();
        for run in 0..self.runs {
            runs.push(simulate(&rollout, &self.model(self.seed.wrapping_add(run.into()))));
            bar.inc(1);
        }
        bar.finish_and_clear();
        let most =
            |of: fn(&Outcome) -> u64| runs.iter().map(|run| of_hundred(of(run), run.devices)).fold(0.0, f64::max);
        let simulated = Simulated {
            installed_percent_most: most(|run| run.installed),
            broken_percent_most: most(|run| run.broken),
            completed: runs.iter().filter(|run| run.state == RolloutState::Done).count(),
            minutes_most: runs.iter().map(|run| run.minutes).max().unwrap_or(0),
            runs,
        };
        out.result(&simulated, text)
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of at most two million")]
    fn model(&self, seed: u64) -> Model {
        let count = |share: f64| (f64::from(self.devices) * share / 100.0).round() as u32;
        Model {
            hardware: self.hardware.0.iter().map(|(id, share)| (id.clone(), count(*share))).collect(),
            poll_min: self.poll,
            // Of a fleet that is always away nothing can be said.
            offline: (self.offline / 100.0).min(0.99),
            trouble: Trouble {
                rate: self.failure_rate / 100.0,
                after_min: self.fail_after.as_s() / 60,
                hardware: self.fail_where.as_ref().map(ToString::to_string),
                fault: self.fail_how,
            },
            seed,
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "shares of counts far below 2^53")]
fn of_hundred(part: u64, all: u64) -> f64 {
    if all == 0 { 0.0 } else { part as f64 * 100.0 / all as f64 }
}

fn duration(minutes: i64) -> String {
    format!("{}d {:02}:{:02}", minutes / 1440, minutes / 60 % 24, minutes % 60)
}

fn text(simulated: &Simulated) -> String {
    let mut text = fields(&[
        ("runs", format!("{}, {} completed", simulated.runs.len(), simulated.completed)),
        ("installed", format!("{:.2} % of the fleet at most", simulated.installed_percent_most)),
        ("broken", format!("{:.2} % of the fleet at most", simulated.broken_percent_most)),
        ("ended", format!("after {} at most", duration(simulated.minutes_most))),
    ]);
    // The transitions of one run say what happens; the others are in `--json`.
    if let Some(first) = simulated.runs.first() {
        text.push('\n');
        let row = |moved: &sluice_catalog::rollout::simulate::Moved| {
            vec![
                duration(moved.minute),
                moved.transition.state.as_str().to_owned(),
                moved.transition.stage.to_string(),
                format!("{:.2} %", of_hundred(moved.installed, first.devices)),
                moved.transition.sentence(),
            ]
        };
        text.push_str(&table(&["AFTER", "STATE", "STAGE", "INSTALLED", "CAUSE"], first.transitions.iter().map(row)));
        text.push('\n');
    }
    text
}
