//! What a rollout is held to: gates between stages, stop rules by class of failure, preparing, start and approvals. Three
//! presets cover what most teams want; every figure can be written out instead.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Schedule, Stage, Stages};
use crate::text::{Slug, Version};
use crate::{Period, Time};

/// Longest soak, ramp, maturity or deadline. A rollout that waits for longer is forgotten.
pub const MAX_PERIOD: Period = Period::days(60);
/// Most approvals that a rollout can ask for.
pub const MAX_APPROVALS: u8 = 5;
/// Matured attempts that a gate may ask for at most.
pub const MAX_MINIMUM: u32 = 1_000_000;
/// Sites that may have a rate of their own: they stand in every plan, and approvers read them.
pub const MAX_SITE_RATES: usize = 200;
/// Shortest time after which an attempt counts as matured. It is for who watches a device on a desk; a fleet needs some polls.
pub const MIN_MATURE: Period = Period::seconds(1);

/// What has to be seen before the next stage opens (from the last one: before the rollout is done). A stage without a gate is
/// advanced by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StageGate {
    /// Matured attempts, of all stages so far, at least: 1 to 1,000,000.
    pub minimum: u32,
    /// Percent, 1 to 99, that the lower end of the 95 % Wilson interval of success among matured attempts must reach.
    pub success: u8,
    /// How long the stage is open at least.
    #[serde(default)]
    pub soak: Period,
}

/// What a stop rule does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum StopAction {
    /// No new offers until somebody resumes it.
    #[default]
    Pause,
    /// No new offers, for ever.
    Halt,
    /// No new offers, and those who run the release are offered the version that the rules name for it.
    RollBack,
}

/// A share of attempts that must not fail in one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StopLimit {
    /// Percent, 1 to 100. It stops when the lower end of the 95 % Wilson interval is above; of silence: above what concurrent
    /// controls show and this together.
    pub percent: u8,
    /// What it does.
    #[serde(default)]
    pub action: StopAction,
}

/// Stop rules. An absent one never stops.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StopRules {
    /// Devices that refused the release: metadata or their own policy.
    pub rejected: Option<StopLimit>,
    /// Devices that could not download or write it.
    pub failed: Option<StopLimit>,
    /// Devices that went back to what they ran before.
    pub rolled_back: Option<StopLimit>,
    /// Devices that began and were not heard of again.
    pub silent: Option<StopLimit>,
}

/// When the first stage opens, for want of patches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Prepare {
    /// Percent of the audience's devices with a patch for what they run, 0 to 100.
    pub percent: u8,
    /// After so long it opens all the same.
    pub deadline: Period,
}

impl Default for Prepare {
    fn default() -> Self {
        Self { percent: 100, deadline: Period::minutes(30) }
    }
}

/// How fast a rollout spreads within one site, whatever its stages allow: so that a site's link and its people are not overrun.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Rates {
    /// How long it takes through all devices of a site while it runs; devices without a site are one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_site: Option<Period>,
    /// The same for sites of these names, in place of it; `0s` is no limit.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[cfg_attr(feature = "openapi", schema(value_type = BTreeMap<String, String>))]
    pub sites: BTreeMap<Slug, Period>,
}

impl Rates {
    /// Whether nothing is limited.
    pub fn is_none(&self) -> bool {
        self.per_site.is_none() && self.sites.is_empty()
    }

    /// How long it takes through a site; nothing when it is not limited.
    pub fn at(&self, site: Option<&Slug>) -> Option<Period> {
        let own = site.and_then(|site| self.sites.get(site)).copied();
        own.or(self.per_site).filter(|period| *period > Period::ZERO)
    }
}

/// All of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Rules {
    /// How long until an attempt is matured, by then a success or a failure, and after which a device is silent: some polls
    /// and what the device needs to call itself healthy.
    pub mature: Period,
    /// When to stop.
    pub stop: StopRules,
    /// Whether the stop rules also look at each hardware id alone, and take one out of the rollout while the others go on.
    pub by_hardware: bool,
    /// When the first stage opens, for want of patches.
    pub prepare: Prepare,
    /// Not before then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_at: Option<Time>,
    /// Distinct principals, none of them the author, who must have signed the plan.
    pub approvals: u8,
    /// Where [`StopAction::RollBack`] leads: a version that installs over the release, so one of a greater order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollback_to: Option<Version>,
    /// When devices may be offered it.
    #[serde(skip_serializing_if = "Schedule::is_always")]
    pub schedule: Schedule,
    /// How fast it spreads within a site.
    #[serde(skip_serializing_if = "Rates::is_none")]
    pub rates: Rates,
    /// How often devices that it is for poll while it runs; at the server's own interval when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub poll: Option<Period>,
}

impl Default for Rules {
    /// What a rollout by hand is held to: nothing stops it but its owner.
    fn default() -> Self {
        Self {
            mature: Period::hours(4),
            stop: StopRules::default(),
            by_hardware: true,
            prepare: Prepare::default(),
            start_at: None,
            approvals: 0,
            rollback_to: None,
            schedule: Schedule::default(),
            rates: Rates::default(),
            poll: None,
        }
    }
}

impl TryFrom<String> for Rules {
    type Error = serde_json::Error;

    fn try_from(json: String) -> Result<Self, serde_json::Error> {
        serde_json::from_str(&json)
    }
}

/// Rules that no rollout can have.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{field}: {given}; {rule}")]
pub struct RulesError {
    /// The field, as it is written in a plan.
    pub field: String,
    /// What was given.
    pub given: String,
    /// What is allowed.
    pub rule: String,
}

impl RulesError {
    #[expect(clippy::needless_pass_by_value, reason = "numbers and texts alike, as they are at hand")]
    pub(super) fn new(field: impl Into<String>, given: impl ToString, rule: impl Into<String>) -> Self {
        Self { field: field.into(), given: given.to_string(), rule: rule.into() }
    }
}

fn within(field: &str, given: u32, min: u32, max: u32) -> Result<(), RulesError> {
    if (min..=max).contains(&given) {
        return Ok(());
    }
    Err(RulesError::new(field, given, format!("{min} to {max} allowed")))
}

fn lasts(field: &str, given: Period, min: Period, max: Period) -> Result<(), RulesError> {
    if (min..=max).contains(&given) {
        return Ok(());
    }
    Err(RulesError::new(field, given, format!("{min} to {max} allowed")))
}

impl Rules {
    /// Checks every figure, and what the rules need of the stages.
    pub fn check(&self, stages: &Stages) -> Result<(), RulesError> {
        lasts("rules.mature", self.mature, MIN_MATURE, MAX_PERIOD)?;
        let stop = &self.stop;
        let limits = [
            ("rejected", stop.rejected),
            ("failed", stop.failed),
            ("rolled_back", stop.rolled_back),
            ("silent", stop.silent),
        ];
        for (name, limit) in limits {
            let Some(limit) = limit else { continue };
            within(&format!("rules.stop.{name}.percent"), u32::from(limit.percent), 1, 100)?;
            if limit.action == StopAction::RollBack && self.rollback_to.is_none() {
                return Err(RulesError::new(
                    format!("rules.stop.{name}.action"),
                    "roll_back",
                    "name the version in rules.rollback_to: one that installs over this release",
                ));
            }
        }
        within("rules.prepare.percent", u32::from(self.prepare.percent), 0, 100)?;
        lasts("rules.prepare.deadline", self.prepare.deadline, Period::ZERO, MAX_PERIOD)?;
        within("rules.approvals", u32::from(self.approvals), 0, u32::from(MAX_APPROVALS))?;
        if let Some(period) = self.rates.per_site {
            lasts("rules.rates.per_site", period, Period::ZERO, MAX_PERIOD)?;
        }
        let sites = &self.rates.sites;
        if sites.len() > MAX_SITE_RATES {
            return Err(RulesError::new("rules.rates.sites", sites.len(), format!("at most {MAX_SITE_RATES}")));
        }
        for (site, period) in sites {
            lasts(&format!("rules.rates.sites.{site}"), *period, Period::ZERO, MAX_PERIOD)?;
        }
        if let Some(poll) = self.poll {
            lasts("rules.poll", poll, Period::seconds(10), Period::days(1))?;
        }
        for (index, stage) in stages.0.iter().enumerate() {
            lasts(&format!("stages[{index}].ramp"), stage.ramp, Period::ZERO, MAX_PERIOD)?;
            let Some(gate) = stage.gate else { continue };
            within(&format!("stages[{index}].gate.minimum"), gate.minimum, 1, MAX_MINIMUM)?;
            within(&format!("stages[{index}].gate.success"), u32::from(gate.success), 1, 99)?;
            lasts(&format!("stages[{index}].gate.soak"), gate.soak, Period::ZERO, MAX_PERIOD)?;
            let best = super::stats::wilson_lower(u64::from(gate.minimum), u64::from(gate.minimum));
            if best < f64::from(gate.success) / 100.0 {
                return Err(RulesError::new(
                    format!("stages[{index}].gate.minimum"),
                    gate.minimum,
                    format!(
                        "with so few attempts, all of them good, the lower bound is {:.1} %: ask for more attempts or for \
                         less than {} %",
                        best * 100.0,
                        gate.success
                    ),
                ));
            }
        }
        self.schedule.check()
    }
}

/// Ready-made stages and rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Preset {
    /// Seven stages over six days: what fails a day after it was installed is seen on one device in twenty.
    Normal,
    /// Four stages over a day.
    Accelerated,
    /// Three stages over three hours, for a flaw that is being used: whoever waits is at risk as well.
    Emergency,
}

impl Preset {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Normal, Self::Accelerated, Self::Emergency];

    /// Its name in plans and commands.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Accelerated => "accelerated",
            Self::Emergency => "emergency",
        }
    }

    /// Its stages.
    pub fn stages(self) -> Stages {
        // A stage lasts for a share of the whole; the last one's gate is what "done" means.
        let (percents, minimum, success, soak): (&[u8], u32, u8, Period) = match self {
            Self::Normal => (&[1, 5, 15, 40, 60, 90, 100], 60, 90, Period::hours(24)),
            Self::Accelerated => (&[5, 20, 50, 100], 60, 90, Period::hours(8)),
            Self::Emergency => (&[10, 50, 100], 60, 85, Period::minutes(90)),
        };
        let stage =
            |&percent: &u8| Stage { percent, ramp: Period::ZERO, gate: Some(StageGate { minimum, success, soak }) };
        Stages(percents.iter().map(stage).collect())
    }

    /// Its rules.
    pub fn rules(self) -> Rules {
        let limit = |percent| Some(StopLimit { percent, action: StopAction::Pause });
        let (mature, reported, silent, approvals, poll) = match self {
            Self::Normal => (Period::hours(4), 3, 5, 2, None),
            Self::Accelerated => (Period::hours(3), 3, 5, 2, Some(Period::minutes(30))),
            Self::Emergency => (Period::minutes(75), 5, 10, 1, Some(Period::minutes(15))),
        };
        Rules {
            mature,
            stop: StopRules {
                rejected: limit(reported),
                failed: limit(reported),
                rolled_back: limit(reported),
                silent: limit(silent),
            },
            approvals,
            poll,
            ..Rules::default()
        }
    }
}

impl std::str::FromStr for Preset {
    type Err = RulesError;

    fn from_str(text: &str) -> Result<Self, RulesError> {
        let known = Self::ALL.into_iter().find(|preset| preset.as_str() == text);
        known.ok_or_else(|| RulesError::new("preset", text, "one of normal, accelerated, emergency"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_keep_their_own_rules_and_read_back() {
        for preset in Preset::ALL {
            assert_eq!(preset.stages().check(), Ok(()));
            assert_eq!(preset.rules().check(&preset.stages()), Ok(()));
            assert_eq!(preset.as_str().parse(), Ok(preset));
            let json = serde_json::to_string(&preset.rules()).unwrap();
            assert_eq!(Rules::try_from(json).unwrap(), preset.rules());
        }
        assert!("fast".parse::<Preset>().is_err());
    }

    #[test]
    fn a_gate_that_can_never_pass_is_refused_with_the_bound_it_could_reach() {
        let gate = |minimum, success| {
            Stages(vec![Stage {
                percent: 100,
                ramp: Period::ZERO,
                gate: Some(StageGate { minimum, success, soak: Period::ZERO }),
            }])
        };
        // Not one that passes only when more than its minimum of attempts were seen is refused, but one whose own minimum
        // promises what it cannot keep.
        let error = Rules::default().check(&gate(10, 95)).unwrap_err();
        assert_eq!(error.field, "stages[0].gate.minimum");
        assert!(error.to_string().contains("72.2 %"), "{error}");
        assert_eq!(Rules::default().check(&gate(10, 72)), Ok(()));
        assert!(Rules::default().check(&gate(0, 50)).is_err());
        assert!(Rules::default().check(&gate(10, 100)).is_err());
    }

    #[test]
    fn limits_name_the_field() {
        let stages = Preset::Normal.stages();
        let with = |change: &dyn Fn(&mut Rules)| {
            let mut rules = Preset::Normal.rules();
            change(&mut rules);
            rules.check(&stages).unwrap_err().field
        };
        assert_eq!(with(&|rules| rules.mature = Period::ZERO), "rules.mature");
        assert_eq!(with(&|rules| rules.approvals = 6), "rules.approvals");
        assert_eq!(with(&|rules| rules.prepare.percent = 101), "rules.prepare.percent");
        assert_eq!(with(&|rules| rules.rates.per_site = Some(Period::days(61))), "rules.rates.per_site");
        assert_eq!(
            with(&|rules| rules.rates.sites.extend([("hall".parse().unwrap(), Period::days(61))])),
            "rules.rates.sites.hall"
        );
        assert_eq!(with(&|rules| rules.poll = Some(Period::seconds(1))), "rules.poll");
        let limit = |percent, action| Some(StopLimit { percent, action });
        assert_eq!(with(&|rules| rules.stop.failed = limit(0, StopAction::Pause)), "rules.stop.failed.percent");
        assert_eq!(with(&|rules| rules.stop.silent = limit(5, StopAction::RollBack)), "rules.stop.silent.action");
    }

    #[test]
    fn rules_of_an_older_plan_read_with_defaults_and_misspelt_ones_do_not() {
        assert_eq!(Rules::try_from("{}".to_owned()).unwrap(), Rules::default());
        assert!(Rules::try_from(r#"{"aprovals":2}"#.to_owned()).is_err());
    }
}
