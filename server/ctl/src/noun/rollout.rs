//! Rollouts: make, move, look at. `rollout_watch` follows one.

use std::path::Path;

use clap::{Args, Subcommand};
use sluice_catalog::rollout::{Filter, MAX_APPROVALS, Preset, Rollout, RolloutState, Selector, Stages};
use sluice_catalog::text::{HardwareId, ProductName, Serial, Slug, Version};
use sluice_catalog::wire::admin::MAX_TITLE_LEN;
use sluice_catalog::wire::rollout::{RolloutAction, RolloutCreate, RolloutDetail, RolloutMove, StopAll};

use sluice_catalog::TextSet;

use crate::args::{Paging, one_of, stages};
use crate::cli::Session;
use crate::client::path;
use crate::failure::Failure;
use crate::noun::rollout_count::{self, Count};
use crate::noun::rollout_failures::Failures;
use crate::noun::rollout_plan::{Approve, PlanFile, waits_text};
use crate::noun::rollout_series::Series;
use crate::noun::rollout_simulate::Simulate;
use crate::noun::{list, rollout_watch, short_text};
use crate::output::{fields, joined, made, table, when};

/// Names of the states.
const STATES: &[&str] =
    &["draft", "review", "approved", "preparing", "scheduled", "running", "paused", "halted", "rolling_back", "done"];

/// Moves one rollout.
#[derive(Args)]
pub struct Move {
    /// The rollout.
    name: Slug,
    /// The stage you saw, counted from 0: if it has moved on since, nothing happens.
    #[arg(long, value_name = "STAGE")]
    from_stage: Option<i32>,
    /// Why, for the history.
    #[arg(long, default_value = "", hide_default_value = true, value_parser = short_text(MAX_TITLE_LEN))]
    cause: String,
    /// Submit or start it although no device is in its audience yet.
    #[arg(long)]
    allow_empty: bool,
}

/// Which devices it is for. Every given kind must fit; of one kind any value is enough.
#[derive(Args)]
pub struct Audience {
    /// These serials only; may be repeated.
    #[arg(long = "serial")]
    serials: Vec<Serial>,
    /// Devices of this customer; may be repeated.
    #[arg(long = "customer")]
    customers: Vec<Slug>,
    /// Devices at this site; may be repeated.
    #[arg(long = "site")]
    sites: Vec<Slug>,
    /// Devices with this tag; may be repeated.
    #[arg(long = "tag")]
    tags: Vec<Slug>,
    /// Devices with this hardware; may be repeated.
    #[arg(long = "hw-id")]
    hw_ids: Vec<HardwareId>,
    /// What else must hold, such as 'version < "2.0" and not tag = "lab"'. Fields: product, hardware, version, customer, site, tag, plan,
    /// last_seen.
    #[arg(long)]
    filter: Option<Filter>,
}

#[derive(Subcommand)]
pub enum Command {
    /// Make a rollout, as a draft. `rollout start` begins it. `rollout apply` takes a plan with everything a rollout can have.
    Create {
        /// A short name.
        name: Slug,
        /// The product.
        #[arg(long)]
        product: ProductName,
        /// The version it brings.
        #[arg(long)]
        version: Version,
        /// Percentages of the audience, stage by stage, such as 1,10,50,100.
        #[arg(long, value_name = "PERCENT,...", value_parser = stages, required_unless_present = "preset")]
        stages: Option<Stages>,
        /// Ready-made stages with gates and stop rules: normal (six days), accelerated (one), emergency (three hours).
        #[arg(long, value_parser = one_of::<Preset>(&["normal", "accelerated", "emergency"]))]
        preset: Option<Preset>,
        /// Approvals by others that it needs before it starts, in place of the preset's.
        #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u8).range(0..=i64::from(MAX_APPROVALS)))]
        approvals: Option<u8>,
        #[command(flatten)]
        audience: Audience,
        /// Among several rollouts for one device the highest weight wins, then the newest version.
        #[arg(
            long,
            default_value_t = 0,
            allow_hyphen_values = true,
            value_parser = clap::value_parser!(i32).range(-1000..=1000)
        )]
        weight: i32,
    },
    /// List rollouts.
    List(Paging),
    /// Show a rollout with its patches, attempts and history.
    Show {
        /// The rollout.
        name: Slug,
    },
    /// Make a rollout from a plan's file, or write the plan over one that has not started.
    Apply(PlanFile),
    /// Count the devices that an audience holds now.
    Count(Count),
    /// Show in what a plan's file differs from what the server holds.
    Diff(PlanFile),
    /// Play a plan's file through before it is one.
    Simulate(Simulate),
    /// Ask for approvals.
    Submit(Move),
    /// Approve a plan.
    Approve(Approve),
    /// Begin: build the patches, then open stage 0.
    Start(Move),
    /// Open the next stage; from the last one, end as done.
    Advance(Move),
    /// Make no new offers until resumed.
    Pause(Move),
    /// Go on after a pause.
    Resume(Move),
    /// End it for good. Devices that have the version keep it.
    Halt(Move),
    /// End it for good, and lead those who run its version to the one that its plan names.
    Rollback(Move),
    /// Stop all rollouts at once, for every device, from its next poll on.
    StopAll {
        /// Why, for whoever finds it so.
        #[arg(long, value_parser = short_text(MAX_TITLE_LEN))]
        reason: String,
    },
    /// Let all rollouts go on after `stop-all`.
    GoOn {
        /// Why.
        #[arg(long, default_value = "", hide_default_value = true, value_parser = short_text(MAX_TITLE_LEN))]
        reason: String,
    },
    /// Show a rollout's figures as time went by.
    Series(Series),
    /// Show which devices failed or went back, newest first, with the end of their logs.
    Failures(Failures),
    /// Follow a rollout until it is done or halted, or as told by --until.
    Watch {
        /// The rollout.
        name: Slug,
        /// Stop when it is in this state. `running` also counts when it has gone past it.
        #[arg(long, value_name = "STATE", value_parser = one_of::<RolloutState>(STATES))]
        until: Option<RolloutState>,
        /// Give up after so many seconds.
        #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=604_800))]
        timeout: Option<u32>,
        /// Seconds between two looks at a server that has no live view.
        #[arg(long, value_name = "SECONDS", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=3600))]
        interval: u32,
    },
}

impl Command {
    pub fn run(self, session: &Session, config: &Path) -> Result<(), Failure> {
        let all = path(&["rollouts"]);
        match self {
            Self::Create { name, product, version, stages, preset, approvals, audience, weight } => {
                let selector = audience.into();
                let stages = stages.map(|stages| stages.0).unwrap_or_default();
                let rules = approvals.map(|approvals| serde_json::json!({"approvals": approvals}));
                let request = RolloutCreate { name, product, version, preset, stages, selector, weight, rules };
                let answer = session.client.post::<RolloutDetail>(&all, &request)?;
                session.out.result(&answer.value, |detail| {
                    made(answer.created, &format!("rollout {} ({})", detail.rollout.name, stage_text(&detail.rollout)))
                })?;
                rollout_count::note(session, &answer.value.rollout.name);
                Ok(())
            }
            Self::List(paging) => list(
                session,
                &all,
                &[],
                &paging,
                &["NAME", "STATE", "STAGE", "STAGES", "WEIGHT", "CREATED"],
                |rollout: &Rollout| {
                    vec![
                        rollout.name.to_string(),
                        rollout.state.as_str().to_owned(),
                        rollout.stage.to_string(),
                        percents(&rollout.stages),
                        rollout.weight.to_string(),
                        when(rollout.created_at),
                    ]
                },
            ),
            Self::Show { name } => {
                let detail: RolloutDetail = session.client.get(&path(&["rollouts", name.as_str()]), &[])?;
                session.out.result(&detail, text)
            }
            Self::Apply(plan) => plan.apply(session),
            Self::Count(args) => args.run(session),
            Self::Diff(plan) => plan.diff(session),
            Self::Simulate(args) => args.run(session.out),
            Self::Series(args) => args.run(session),
            Self::Failures(args) => args.run(session),
            Self::Submit(args) => args.send(session, RolloutAction::Submit),
            Self::Approve(args) => args.run(session, config),
            Self::Rollback(args) => args.send(session, RolloutAction::RollBack),
            Self::StopAll { reason } => switch(session, true, reason),
            Self::GoOn { reason } => switch(session, false, reason),
            Self::Start(args) => args.send(session, RolloutAction::Start),
            Self::Advance(args) => args.send(session, RolloutAction::Advance),
            Self::Pause(args) => args.send(session, RolloutAction::Pause),
            Self::Resume(args) => args.send(session, RolloutAction::Resume),
            Self::Halt(args) => args.send(session, RolloutAction::Halt),
            Self::Watch { name, until, timeout, interval } => {
                rollout_watch::watch(session, &name, until, timeout, interval)
            }
        }
    }
}

fn switch(session: &Session, stopped: bool, reason: String) -> Result<(), Failure> {
    let request = StopAll { stopped, reason, ..StopAll::default() };
    let set: StopAll = session.client.put(&path(&["stop-all"]), &request)?.value;
    session.out.result(&set, |set| {
        let (by, at) = (&set.by, when(set.at));
        if set.stopped { format!("all rollouts are stopped, by {by} at {at}") } else { "rollouts go on".to_owned() }
    })
}

impl From<Audience> for Selector {
    fn from(audience: Audience) -> Self {
        Self {
            serials: set(audience.serials),
            customers: set(audience.customers),
            sites: set(audience.sites),
            tags: set(audience.tags),
            hw_ids: set(audience.hw_ids),
            filter: audience.filter,
        }
    }
}

fn set<T: Into<String>>(texts: Vec<T>) -> TextSet {
    texts.into_iter().collect()
}

impl Move {
    fn send(self, session: &Session, action: RolloutAction) -> Result<(), Failure> {
        let path = path(&["rollouts", self.name.as_str(), "move"]);
        let allow_empty = self.allow_empty;
        let request = RolloutMove { action, from_stage: self.from_stage, cause: self.cause, allow_empty };
        let detail: RolloutDetail = session.client.post(&path, &request)?.value;
        session
            .out
            .result(&detail, |detail| format!("rollout {} is {}", detail.rollout.name, stage_text(&detail.rollout)))?;
        // Once for each plan: what was approved was counted when it was submitted.
        if action == RolloutAction::Submit || (action == RolloutAction::Start && detail.rollout.rules.approvals == 0) {
            rollout_count::note(session, &detail.rollout.name);
        }
        if detail.rollout.state == RolloutState::Preparing {
            let name = &detail.rollout.name;
            session.out.note(&format!("Patches are being built: `sluicectl rollout watch {name} --until running`"));
        }
        Ok(())
    }
}

/// State and stage in words.
pub fn stage_text(rollout: &Rollout) -> String {
    let state = rollout.state.as_str();
    match rollout.state {
        RolloutState::Draft
        | RolloutState::Review
        | RolloutState::Approved
        | RolloutState::Preparing
        | RolloutState::Scheduled => format!("{state}, stages {}", percents(&rollout.stages)),
        _ => format!(
            "{state}, stage {} of {}: {} %",
            rollout.stage,
            rollout.stages.0.len().saturating_sub(1),
            rollout.stages.percent(rollout.stage)
        ),
    }
}

fn percents(stages: &Stages) -> String {
    let percents: Vec<String> = stages.0.iter().map(|stage| stage.percent.to_string()).collect();
    percents.join(",")
}

/// Which devices it is for.
pub fn audience_text(rollout: &Rollout) -> String {
    let mut audience: Vec<String> = [
        ("serial", &rollout.selector.serials),
        ("customer", &rollout.selector.customers),
        ("site", &rollout.selector.sites),
        ("tag", &rollout.selector.tags),
        ("hardware", &rollout.selector.hw_ids),
    ]
    .into_iter()
    .filter(|(_, set)| !set.is_empty())
    .map(|(kind, set)| format!("{kind}={}", set.iter().collect::<Vec<_>>().join(",")))
    .collect();
    audience.extend(rollout.selector.filter.as_ref().map(|filter| format!("filter {filter}")));
    if audience.is_empty() {
        "every device of the product".to_owned()
    } else {
        joined(audience.iter().map(String::as_str))
    }
}

fn text(detail: &RolloutDetail) -> String {
    let rollout = &detail.rollout;
    let (begun, matured) = (&detail.counts.begun, &detail.counts.matured);
    let have = detail.approvals.iter().filter(|approval| approval.counts).count();
    let who: Vec<String> = detail.approvals.iter().map(|approval| approval.principal.to_string()).collect();
    let patches = detail.patches;
    let attempts: Vec<String> = detail.attempts.iter().map(|(state, count)| format!("{count} {state}")).collect();
    let failures: Vec<String> = detail.failures.iter().map(|(code, count)| format!("{count} {code}")).collect();
    let mut text = fields(&[
        ("name", rollout.name.to_string()),
        ("brings", format!("{} {}", detail.product, detail.version)),
        ("state", stage_text(rollout)),
        ("stages", percents(&rollout.stages)),
        ("waits for", waits_text(&detail.waits)),
        ("next gate", detail.gate.as_ref().map(|gate| gate.sentence.clone()).unwrap_or_default()),
        ("done about", when(detail.completes_at)),
        ("audience", audience_text(rollout)),
        ("weight", rollout.weight.to_string()),
        (
            "patches",
            format!(
                "{} ready, {} not worth it, {} to build, {} parked",
                patches.ready, patches.not_worth, patches.pending, patches.parked
            ),
        ),
        ("attempts", attempts.join(", ")),
        ("failures", failures.join(", ")),
        (
            "outcomes",
            format!(
                "{} begun: {} healthy, {} lost, {} rejected, {} failed, {} rolled back, {} silent, {} late, {} under way; {} matured",
                begun.attempts,
                begun.healthy,
                begun.lost,
                begun.rejected,
                begun.failed,
                begun.rolled_back,
                begun.silent,
                begun.late,
                begun.pending,
                matured.attempts
            ),
        ),
        ("taken out", joined(rollout.excluded.iter())),
        ("approvals", format!("{have} of {} {}", rollout.rules.approvals, who.join(", ")).trim_end().to_owned()),
        ("plan", detail.digest.to_string()),
    ]);
    text.push('\n');
    text.push_str(&table(
        &["AT", "STATE", "STAGE", "BY", "CAUSE"],
        detail.transitions.iter().map(|transition| {
            vec![
                when(transition.at),
                transition.state.as_str().to_owned(),
                transition.stage.to_string(),
                transition.actor.clone(),
                transition.cause.clone(),
            ]
        }),
    ));
    text
}
