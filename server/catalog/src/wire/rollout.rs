//! Rollouts in the administrative REST API: plans, moves, approvals, what a rollout waits for.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::rollout::{
    Counts, GateView, Preset, Rollout, RolloutTransition, Rules, RulesError, Selector, Stage, Stages, StagesError,
    Waits,
};
use crate::text::{ProductName, Serial, Slug, Version};
use crate::{Digest, Reason, Time};

/// A rollout's plan, sent or as a file. Without a preset, which gives what is left out, stages are given and advanced by hand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RolloutCreate {
    /// Unique.
    pub name: Slug,
    /// The product's name.
    pub product: ProductName,
    /// The version it brings.
    pub version: Version,
    /// Ready-made stages and rules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preset: Option<Preset>,
    /// Its stages.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stages: Vec<Stage>,
    /// Its audience; every device of the product unless given.
    #[serde(default)]
    pub selector: Selector,
    /// -1000 to 1000; 0 unless given.
    #[serde(default)]
    pub weight: i32,
    /// What differs from the preset's rules, or from those of a rollout by hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Rules>))]
    pub rules: Option<serde_json::Value>,
}

/// A plan that is none.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PlanError {
    /// Its stages.
    #[error(transparent)]
    Stages(#[from] StagesError),
    /// Its rules.
    #[error(transparent)]
    Rules(#[from] RulesError),
    /// Its rules cannot be read.
    #[error("rules: {0}")]
    Unreadable(String),
    /// Neither stages nor a preset.
    #[error("stages: none given; give some, or a preset: normal, accelerated, emergency")]
    NoStages,
}

impl RolloutCreate {
    /// Its stages and rules in full, checked.
    pub fn resolve(&self) -> Result<(Stages, Rules), PlanError> {
        let stages = match (self.preset, self.stages.as_slice()) {
            (None, []) => return Err(PlanError::NoStages),
            (Some(preset), []) => preset.stages(),
            (_, stages) => Stages(stages.to_vec()),
        };
        stages.check()?;
        let base = self.preset.map_or_else(Rules::default, Preset::rules);
        let rules = match &self.rules {
            None => base,
            Some(given) => {
                let unreadable = |error: serde_json::Error| PlanError::Unreadable(error.to_string());
                let mut whole = serde_json::to_value(base).map_err(unreadable)?;
                merge(&mut whole, given);
                serde_json::from_value(whole).map_err(unreadable)?
            }
        };
        rules.check(&stages)?;
        Ok((stages, rules))
    }
}

/// Puts what is given over what stands, object by object. `null` takes a rule away.
fn merge(whole: &mut serde_json::Value, given: &serde_json::Value) {
    match (whole, given) {
        (serde_json::Value::Object(whole), serde_json::Value::Object(given)) => {
            for (key, value) in given {
                merge(whole.entry(key.clone()).or_insert(serde_json::Value::Null), value);
            }
        }
        (whole, given) => *whole = given.clone(),
    }
}

/// What to do with a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum RolloutAction {
    /// Ask for approvals.
    Submit,
    /// To preparing; stage one opens when the patches stand, and its start has come.
    Start,
    /// To the next stage; from the last one to done.
    Advance,
    /// Make no new offers.
    Pause,
    /// Go on.
    Resume,
    /// End it for good.
    Halt,
    /// End it for good, and lead those who run its release to the version that its rules name.
    RollBack,
}

/// Moves a rollout. Naming the state and stage one saw makes a repeated request harmless and a stale one a conflict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RolloutMove {
    /// What to do.
    pub action: RolloutAction,
    /// The stage one saw, from 0; checked when given.
    #[serde(default)]
    pub from_stage: Option<i32>,
    /// Why, at most 200 bytes.
    #[serde(default)]
    pub cause: String,
    /// Submit or start it although no device is in its audience yet.
    #[serde(default, skip_serializing_if = "is_false")]
    pub allow_empty: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "what serde calls")]
const fn is_false(value: &bool) -> bool {
    !*value
}

/// Asks which devices of a product an audience holds now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AudienceAsk {
    /// The audience; every device of the product when nothing is given.
    pub selector: Selector,
    /// The version of which it is told how many may have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<Version>,
}

/// How many devices an audience holds: those in service, by what is known now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AudienceCount {
    /// Devices.
    pub devices: u64,
    /// Whether counting took too long: there are at least so many.
    #[serde(default)]
    pub cut: bool,
    /// The same by hardware id.
    pub by_hardware: BTreeMap<String, u64>,
    /// The same by running version; under nothing those that run no release.
    pub by_version: BTreeMap<String, u64>,
    /// Of them those that are entitled to the version, whatever rollouts say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entitled: Option<u64>,
    /// The filter, as it is stored and signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// What may be a mistake: names that nobody has, gates that cannot open.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// An approval: a signature over the plan's digest by a key that is enrolled for the principal who sends it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RolloutApprove {
    /// The plan's digest, as the approver computed it.
    pub digest: Digest,
    /// The ed25519 key, 64 hexadecimal digits.
    pub public_key: String,
    /// Its signature over [`crate::rollout::approval_message`], 128 hexadecimal digits.
    pub signature: String,
}

/// An approval as it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RolloutApproval {
    /// Who.
    pub principal: Slug,
    /// When.
    pub at: Time,
    /// Whether it counts: the principal still has an account and the key, and is not the author.
    pub counts: bool,
}

/// An approver's key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ApproverKey {
    /// Whose.
    pub principal: Slug,
    /// The ed25519 key, 64 hexadecimal digits.
    pub public_key: String,
    /// Since when.
    pub created_at: Time,
    /// Until when, if it was taken away.
    #[serde(default)]
    pub revoked_at: Option<Time>,
}

/// Enrols an approver's key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ApproverEnrol {
    /// The ed25519 key, 64 hexadecimal digits.
    pub public_key: String,
}

/// Asks for a version on one device at once: before its rollout's stage comes to it and outside its windows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct UpdateNow {
    /// The version; the newest that can reach the device when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Version>,
    /// Why, 1 to 500 bytes on one line.
    pub reason: String,
    /// Until when it counts; 7 days when absent, 90 at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Time>,
}

/// What was asked for, and what the device would be told if it polled now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct UpdateNowSet {
    /// The product.
    pub product: ProductName,
    /// The device.
    pub serial: Serial,
    /// The version.
    pub version: Version,
    /// Who asked.
    pub owner: Slug,
    /// Why.
    pub reason: String,
    /// Until when it counts.
    pub until: Time,
    /// Whether the next poll offers it.
    pub offered: bool,
    /// Why, or why not.
    pub answer: Reason,
    /// The same as a sentence.
    pub sentence: String,
}

/// The switch that stops every rollout.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StopAll {
    /// Whether everything is stopped.
    pub stopped: bool,
    /// Why, at most 200 bytes; needed to stop.
    #[serde(default)]
    pub reason: String,
    /// Who turned it, last.
    #[serde(default)]
    pub by: String,
    /// When.
    #[serde(default)]
    pub at: Option<Time>,
}

/// A rollout with its history and counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RolloutDetail {
    /// The product's name.
    pub product: ProductName,
    /// The version it brings.
    pub version: Version,
    /// The rollout.
    pub rollout: Rollout,
    /// Its transitions, oldest first, at most 500.
    pub transitions: Vec<RolloutTransition>,
    /// Attempts by state.
    pub attempts: BTreeMap<String, i64>,
    /// Those that failed or were rolled back by code; `other` where the device gave none.
    #[serde(default)]
    pub failures: BTreeMap<String, i64>,
    /// Patches of its release: ready, not worth it, and jobs still waiting or running.
    pub patches: PatchProgress,
    /// The digest of its plan: what approvers sign.
    #[serde(default = "no_digest")]
    pub digest: Digest,
    /// Who approved this plan.
    #[serde(default)]
    pub approvals: Vec<RolloutApproval>,
    /// What it waits for.
    #[serde(default = "nothing")]
    pub waits: Waits,
    /// The gate of its stage, while it runs and there is one.
    #[serde(default)]
    pub gate: Option<GateView>,
    /// When it will be done, by its plan and the pace so far; nothing where that cannot be told.
    #[serde(default)]
    pub completes_at: Option<Time>,
    /// What is known of its attempts, without hardware that was taken out.
    #[serde(default)]
    pub counts: Counts,
}

const fn no_digest() -> Digest {
    Digest([0; 32])
}

const fn nothing() -> Waits {
    Waits::Nothing
}

/// How far the patches of a release are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PatchProgress {
    /// Offered to devices.
    pub ready: i64,
    /// Too large to pay.
    pub not_worth: i64,
    /// Waiting or being built.
    pub pending: i64,
    /// Failed as often as allowed.
    pub parked: i64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Period;

    fn plan(json: &str) -> Result<(Stages, Rules), PlanError> {
        serde_json::from_str::<RolloutCreate>(json).unwrap().resolve()
    }

    #[test]
    fn a_preset_is_changed_where_the_plan_says_so_and_nowhere_else() {
        let (stages, rules) = plan(
            r#"{"name": "spring", "product": "cam", "version": "2.4", "preset": "normal",
                "rules": {"approvals": 1, "stop": {"silent": null, "failed": {"percent": 1}}, "mature": "2h"}}"#,
        )
        .unwrap();
        assert_eq!(stages, Preset::Normal.stages());
        let normal = Preset::Normal.rules();
        assert_eq!((rules.approvals, rules.mature), (1, Period::hours(2)));
        assert_eq!((rules.stop.silent, rules.stop.failed.unwrap().percent), (None, 1));
        assert_eq!((rules.stop.rejected, rules.prepare), (normal.stop.rejected, normal.prepare));
    }

    #[test]
    fn plans_that_are_none_say_what_is_wrong() {
        let error = |rest: &str| {
            plan(&format!(r#"{{"name": "spring", "product": "cam", "version": "2.4"{rest}}}"#)).unwrap_err().to_string()
        };
        assert!(error("").starts_with("stages: none given"));
        assert!(error(r#", "stages": [{"percent": 20}, {"percent": 10}]"#).contains("never shrinks"));
        assert!(error(r#", "preset": "normal", "rules": {"aprovals": 1}"#).contains("unknown field `aprovals`"));
        assert!(error(r#", "preset": "normal", "rules": {"mature": "soon"}"#).contains("no length of time"));
        assert!(error(r#", "preset": "normal", "rules": {"mature": "61d"}"#).contains("1s to 60d allowed"));
    }

    #[test]
    fn a_filter_is_read_into_one_shape_and_an_audience_without_one_is_written_as_ever() {
        let plan = |selector: &str| {
            let json = format!(r#"{{"name": "r", "product": "cam", "version": "2", "selector": {selector}}}"#);
            serde_json::from_str::<RolloutCreate>(&json)
        };
        let read = plan(r#"{"tags": ["a"], "filter": "not (group=\"lab\")"}"#).unwrap();
        assert_eq!(serde_json::to_value(&read.selector).unwrap()["filter"], r#"tag != "lab""#);
        let error = plan(r#"{"filter": "tga = \"a\""}"#).unwrap_err().to_string();
        assert!(
            error.contains("selector.filter: column 1: there is no field `tga`")
                && error.contains("did you mean `tag`?")
        );
        let old = r#"{"serials":[],"customers":[],"sites":["hall"],"tags":[],"hw_ids":[]}"#;
        assert_eq!(serde_json::to_string(&plan(old).unwrap().selector).unwrap(), old, "digests of older plans stay");
    }

    #[test]
    fn a_plan_by_hand_reads_as_ever() {
        let (stages, rules) =
            plan(r#"{"name": "spring", "product": "cam", "version": "2.4", "stages": [{"percent": 50}]}"#).unwrap();
        assert_eq!((stages.0, rules), (vec![Stage::of(50)], Rules::default()));
    }
}
