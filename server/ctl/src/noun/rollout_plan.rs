//! Plans of rollouts as files that live in version control, and approvals of what a server holds.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use ed25519_dalek::Signer as _;
use sluice_catalog::rollout::{Rollout, StageGate, Waits, approval_message};
use sluice_catalog::text::{ProductName, Slug, Version};
use sluice_catalog::wire::rollout::{RolloutApprove, RolloutCreate, RolloutDetail};
use sluice_catalog::{Kind, Period};

use crate::cli::Session;
use crate::client::path;
use crate::failure::Failure;
use crate::noun::approver::KeyFile;
use crate::noun::rollout::{audience_text, stage_text};
use crate::noun::rollout_count;
use crate::output::{fields, made};

/// Longest plan, bytes: a thousand serials and every rule written out have half of that.
const MAX_PLAN_LEN: u64 = 256 << 10;

/// A plan's file.
#[derive(Args)]
pub struct PlanFile {
    /// The plan: TOML, or JSON when it ends in `.json`.
    #[arg(value_name = "PLAN")]
    file: PathBuf,
}

impl PlanFile {
    /// Reads and checks it.
    pub fn read(&self) -> Result<RolloutCreate, Failure> {
        let shown = self.file.display();
        let mut text = String::new();
        let file = File::open(&self.file).with_context(|| shown.to_string())?;
        file.take(MAX_PLAN_LEN + 1).read_to_string(&mut text).with_context(|| shown.to_string())?;
        if text.len() as u64 > MAX_PLAN_LEN {
            return Err(Failure::Usage(format!("{shown}: more than {MAX_PLAN_LEN} bytes")));
        }
        let read = if self.file.extension().is_some_and(|end| end == "json") {
            serde_json::from_str(&text).map_err(|error| error.to_string())
        } else {
            toml::from_str(&text).map_err(|error| error.to_string())
        };
        let plan: RolloutCreate = read.map_err(|error| Failure::Usage(format!("{shown}: {}", error.trim_end())))?;
        plan.resolve().map_err(|error| Failure::Usage(format!("{shown}: {error}")))?;
        Ok(plan)
    }

    /// Makes the rollout, or writes the plan over one that has not started. The same plan again changes nothing.
    pub fn apply(&self, session: &Session) -> Result<(), Failure> {
        let plan = self.read()?;
        let (detail, created) = match there(session, &plan.name)? {
            Some(_) => {
                let path = path(&["rollouts", plan.name.as_str()]);
                (session.client.put::<RolloutDetail>(&path, &plan)?.value, false)
            }
            None => {
                let answer = session.client.post::<RolloutDetail>(&path(&["rollouts"]), &plan)?;
                (answer.value, answer.created)
            }
        };
        session.out.result(&detail, |detail| {
            made(created, &format!("rollout {} ({})", detail.rollout.name, stage_text(&detail.rollout)))
        })?;
        rollout_count::note(session, &detail.rollout.name);
        Ok(())
    }

    /// Shows in what the plan differs from what the server holds; exit code 0 when in nothing, else that of a refusal.
    pub fn diff(&self, session: &Session) -> Result<(), Failure> {
        let plan = self.read()?;
        let Some(detail) = there(session, &plan.name)? else {
            return Err(Failure::Refused(format!("there is no rollout {} yet", plan.name)));
        };
        let (stages, rules) = plan.resolve().map_err(|error| Failure::Usage(error.to_string()))?;
        let planned = Rollout { stages, rules, selector: plan.selector, weight: plan.weight, ..detail.rollout.clone() };
        let (is, wanted) = (
            plan_text(&detail.product, &detail.version, &detail.rollout),
            plan_text(&plan.product, &plan.version, &planned),
        );
        let only = |one: &str, other: &str, sign: char| -> Vec<String> {
            let missing = one.lines().filter(|line| !other.lines().any(|there| there == *line));
            missing.map(|line| format!("{sign} {line}")).collect()
        };
        let lines = [only(&is, &wanted, '-'), only(&wanted, &is, '+')].concat();
        session.out.result(&serde_json::json!({"differs": lines}), |_| {
            if lines.is_empty() { format!("rollout {} is as planned", plan.name) } else { lines.join("\n") }
        })?;
        if lines.is_empty() {
            Ok(())
        } else {
            Err(Failure::Refused(format!("rollout {} differs from the plan", plan.name)))
        }
    }
}

fn there(session: &Session, name: &Slug) -> Result<Option<RolloutDetail>, Failure> {
    match session.client.get(&path(&["rollouts", name.as_str()]), &[]) {
        Ok(detail) => Ok(Some(detail)),
        Err(Failure::Problem(problem)) if problem.kind == Kind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Approve a plan that waits in review: shows it, and signs its digest with your key.
#[derive(Args)]
pub struct Approve {
    /// The rollout.
    name: Slug,
    #[command(flatten)]
    key: KeyFile,
    /// The digest that you were told: refuses when the server shows another plan.
    #[arg(long, value_name = "DIGEST")]
    digest: Option<sluice_catalog::Digest>,
}

impl Approve {
    pub fn run(self, session: &Session, config: &Path) -> Result<(), Failure> {
        let key = self.key.read(config)?;
        let at = path(&["rollouts", self.name.as_str()]);
        let detail: RolloutDetail = session.client.get(&at, &[])?;
        // Computed here from what is shown, not taken from the server: nobody signs what they did not see.
        let digest = detail.rollout.plan_digest(&detail.product, &detail.version);
        if self.digest.is_some_and(|told| told != digest) {
            return Err(Failure::Refused(format!("the server shows another plan: {digest}")));
        }
        session.out.note(&plan_text(&detail.product, &detail.version, &detail.rollout));
        let signature = key.sign(&approval_message(digest));
        let request = RolloutApprove {
            digest,
            public_key: hex::encode(key.verifying_key().as_bytes()),
            signature: hex::encode(signature.to_bytes()),
        };
        let path = path(&["rollouts", self.name.as_str(), "approvals"]);
        let detail: RolloutDetail = session.client.post(&path, &request)?.value;
        session.out.result(&detail, |detail| {
            let have = detail.approvals.iter().filter(|approval| approval.counts).count();
            format!(
                "plan {digest} of rollout {} has {have} of {} approvals: {}",
                self.name,
                detail.rollout.rules.approvals,
                detail.rollout.state.as_str()
            )
        })
    }
}

/// The plan in full, a line each: what approvers see, and what `rollout diff` compares.
fn plan_text(product: &ProductName, version: &Version, rollout: &Rollout) -> String {
    let mut pairs: Vec<(String, String)> = vec![
        ("name".into(), rollout.name.to_string()),
        ("brings".into(), format!("{product} {version}")),
        ("author".into(), rollout.author.clone()),
        ("audience".into(), audience_text(rollout)),
        ("weight".into(), rollout.weight.to_string()),
    ];
    for (index, stage) in rollout.stages.0.iter().enumerate() {
        let ramp = if stage.ramp == Period::ZERO { String::new() } else { format!(" over {}", stage.ramp) };
        let gate = match stage.gate {
            Some(StageGate { minimum, success, soak }) => {
                format!("after {soak} and {minimum} attempts with {success} % success at least")
            }
            None => "by hand".to_owned(),
        };
        pairs.push((format!("stage {index}"), format!("{} %{ramp}, then {gate}", stage.percent)));
    }
    let rules = &rollout.rules;
    pairs.push(("an attempt counts".into(), format!("after {}", rules.mature)));
    let stop = &rules.stop;
    for (class, limit) in [
        ("rejected", stop.rejected),
        ("failed", stop.failed),
        ("rolled back", stop.rolled_back),
        ("silent", stop.silent),
    ] {
        let text = limit.map_or_else(
            || "never".to_owned(),
            |limit| format!("above {} %: {}", limit.percent, serde_name(&limit.action).replace('_', " ")),
        );
        pairs.push((format!("stops when {class}"), text));
    }
    pairs.push(("by hardware".into(), if rules.by_hardware { "each on its own as well" } else { "all as one" }.into()));
    pairs.push((
        "opens".into(),
        format!(
            "with {} % of the patches, or after {}{}",
            rules.prepare.percent,
            rules.prepare.deadline,
            rules.start_at.map_or_else(String::new, |at| format!("; not before {at}"))
        ),
    ));
    pairs.push(("windows".into(), serde_json::to_string(&rules.schedule).unwrap_or_default()));
    if !rules.rates.is_none() {
        pairs.push(("rates at sites".into(), serde_json::to_string(&rules.rates).unwrap_or_default()));
    }
    pairs.push(("approvals".into(), rules.approvals.to_string()));
    pairs.push(("goes back by".into(), rules.rollback_to.as_ref().map_or_else(String::new, ToString::to_string)));
    pairs.push(("polls".into(), rules.poll.map_or_else(String::new, |poll| format!("every {poll} meanwhile"))));
    let pairs: Vec<(&str, String)> = pairs.iter().map(|(name, text)| (name.as_str(), text.clone())).collect();
    fields(&pairs)
}

fn serde_name(value: &impl serde::Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default()
}

/// What a rollout waits for, in words.
pub fn waits_text(waits: &Waits) -> String {
    let percent = |permille: u16| format!("{}.{} %", permille / 10, permille % 10);
    match waits {
        Waits::Hand => "somebody to move it".to_owned(),
        Waits::Patches => "patches".to_owned(),
        Waits::Start { at } => format!("its start at {at}"),
        Waits::Soak { until } => format!("the soak time of its stage, until {until}"),
        Waits::Attempts { have, need, coming } => {
            format!("attempts to mature: {have} of {need}, {coming} under way")
        }
        Waits::Success { lower_permille, need_permille } => format!(
            "success: surely {} by now, {} asked for; it may never come",
            percent(*lower_permille),
            percent(*need_permille)
        ),
        Waits::Nothing => String::new(),
    }
}
