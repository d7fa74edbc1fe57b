//! Rollouts: make, move, look at. `rollout_watch` follows one.

use clap::{Args, Subcommand};
use sluice_catalog::TextSet;
use sluice_catalog::rollout::{Rollout, RolloutState, Selector, Stages};
use sluice_catalog::text::{HardwareId, ProductName, Serial, Slug, Version};
use sluice_catalog::wire::admin::{MAX_TITLE_LEN, RolloutAction, RolloutCreate, RolloutDetail, RolloutMove};

use crate::args::{Paging, one_of, stages};
use crate::cli::Session;
use crate::client::path;
use crate::failure::Failure;
use crate::noun::{list, rollout_watch, short_text};
use crate::output::{fields, joined, made, table, when};

/// Names of the states.
const STATES: &[&str] = &["draft", "preparing", "running", "paused", "halted", "done"];

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
}

#[derive(Subcommand)]
pub enum Command {
    /// Make a rollout, as a draft. `rollout start` begins it.
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
        #[arg(long, value_name = "PERCENT,...", value_parser = stages)]
        stages: Stages,
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
        /// Seconds between two looks.
        #[arg(long, value_name = "SECONDS", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=3600))]
        interval: u32,
    },
}

impl Command {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        let all = path(&["rollouts"]);
        match self {
            Self::Create { name, product, version, stages, audience, weight } => {
                let selector = audience.into();
                let request = RolloutCreate { name, product, version, stages: stages.0, selector, weight };
                let answer = session.client.post::<RolloutDetail>(&all, &request)?;
                session.out.result(&answer.value, |detail| {
                    made(answer.created, &format!("rollout {} ({})", detail.rollout.name, stage_text(&detail.rollout)))
                })
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
            Self::Start(args) => args.send(session, RolloutAction::Start),
            Self::Advance(args) => args.send(session, RolloutAction::Advance),
            Self::Pause(args) => args.send(session, RolloutAction::Pause),
            Self::Resume(args) => args.send(session, RolloutAction::Resume),
            Self::Halt(args) => args.send(session, RolloutAction::Halt),
            Self::Watch { name, until, timeout, interval } => {
                let looks = timeout.map(|timeout| timeout.div_ceil(interval));
                rollout_watch::watch(session, &name, until, looks, interval)
            }
        }
    }
}

impl From<Audience> for Selector {
    fn from(audience: Audience) -> Self {
        Self {
            serials: set(audience.serials),
            customers: set(audience.customers),
            sites: set(audience.sites),
            tags: set(audience.tags),
            hw_ids: set(audience.hw_ids),
        }
    }
}

fn set<T: Into<String>>(texts: Vec<T>) -> TextSet {
    texts.into_iter().collect()
}

impl Move {
    fn send(self, session: &Session, action: RolloutAction) -> Result<(), Failure> {
        let path = path(&["rollouts", self.name.as_str(), "move"]);
        let request = RolloutMove { action, from_stage: self.from_stage, cause: self.cause };
        let detail: RolloutDetail = session.client.post(&path, &request)?.value;
        session
            .out
            .result(&detail, |detail| format!("rollout {} is {}", detail.rollout.name, stage_text(&detail.rollout)))?;
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
        RolloutState::Draft | RolloutState::Preparing => format!("{state}, stages {}", percents(&rollout.stages)),
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

fn text(detail: &RolloutDetail) -> String {
    let rollout = &detail.rollout;
    let audience: Vec<String> = [
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
    let audience = if audience.is_empty() {
        "every device of the product".to_owned()
    } else {
        joined(audience.iter().map(String::as_str))
    };
    let patches = detail.patches;
    let attempts: Vec<String> = detail.attempts.iter().map(|(state, count)| format!("{count} {state}")).collect();
    let mut text = fields(&[
        ("name", rollout.name.to_string()),
        ("brings", format!("{} {}", detail.product, detail.version)),
        ("state", stage_text(rollout)),
        ("stages", percents(&rollout.stages)),
        ("audience", audience),
        ("weight", rollout.weight.to_string()),
        (
            "patches",
            format!(
                "{} ready, {} not worth it, {} to build, {} parked",
                patches.ready, patches.not_worth, patches.pending, patches.parked
            ),
        ),
        ("attempts", attempts.join(", ")),
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
