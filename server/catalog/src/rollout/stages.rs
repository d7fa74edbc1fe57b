//! Stages: which share of an audience a rollout reaches, in which order.

use serde::{Deserialize, Serialize};

use super::StageGate;
use crate::Period;

/// Most stages a rollout may have.
pub const MAX_STAGES: usize = 32;

/// One stage: the share of the audience it reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Stage {
    /// Percent of the audience, 1 to 100; never less than the stage before.
    pub percent: u8,
    /// How long it grows from the stage before to its own percentage; at once when nothing.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub ramp: Period,
    /// What has to be seen before the next one opens; by hand when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<StageGate>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "what serde calls")]
const fn is_zero(period: &Period) -> bool {
    period.as_s() == 0
}

impl Stage {
    /// A stage that opens at once and is advanced by hand.
    pub const fn of(percent: u8) -> Self {
        Self { percent, ramp: Period::ZERO, gate: None }
    }
}

/// A rollout's stages, in order. In the database a JSON text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(value_type = Vec<Stage>))]
pub struct Stages(pub Vec<Stage>);

impl TryFrom<String> for Stages {
    type Error = serde_json::Error;

    fn try_from(json: String) -> Result<Self, serde_json::Error> {
        serde_json::from_str(&json)
    }
}

/// Stages that no rollout can have.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum StagesError {
    /// None, or more than [`MAX_STAGES`].
    #[error("stages: {0} given, 1 to {MAX_STAGES} allowed")]
    Count(usize),
    /// A percentage outside 1 to 100.
    #[error("stages[{index}].percent: {percent}, 1 to 100 allowed")]
    Percent {
        /// Which stage, from 0.
        index: usize,
        /// What it says.
        percent: u8,
    },
    /// A stage that reaches fewer devices than the one before.
    #[error("stages[{index}].percent: {percent} after {before}: a stage never shrinks")]
    Shrinks {
        /// Which stage, from 0.
        index: usize,
        /// What it says.
        percent: u8,
        /// What the stage before says.
        before: u8,
    },
}

impl Stages {
    /// Checks count, range and order.
    pub fn check(&self) -> Result<(), StagesError> {
        if self.0.is_empty() || self.0.len() > MAX_STAGES {
            return Err(StagesError::Count(self.0.len()));
        }
        let mut before = 0;
        for (index, &Stage { percent, .. }) in self.0.iter().enumerate() {
            if !(1..=100).contains(&percent) {
                return Err(StagesError::Percent { index, percent });
            }
            if percent < before {
                return Err(StagesError::Shrinks { index, percent, before });
            }
            before = percent;
        }
        Ok(())
    }

    /// A stage, counted from 0.
    pub fn stage(&self, stage: i32) -> Option<&Stage> {
        usize::try_from(stage).ok().and_then(|i| self.0.get(i))
    }

    /// The last stage's number.
    pub fn last(&self) -> i32 {
        i32::try_from(self.0.len()).unwrap_or(i32::MAX) - 1
    }

    /// The percentage at a stage, counted from 0; none past the end.
    pub fn percent(&self, stage: i32) -> u8 {
        self.stage(stage).map_or(0, |stage| stage.percent)
    }

    /// What leads on from a stage.
    pub fn gate(&self, stage: i32) -> Option<StageGate> {
        self.stage(stage).and_then(|stage| stage.gate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_never_shrink_and_stay_in_range() {
        let stages = |list: &[u8]| Stages(list.iter().map(|&percent| Stage::of(percent)).collect());
        assert_eq!(stages(&[10, 50, 100]).check(), Ok(()));
        assert_eq!(stages(&[]).check(), Err(StagesError::Count(0)));
        assert_eq!(stages(&[0]).check(), Err(StagesError::Percent { index: 0, percent: 0 }));
        assert_eq!(stages(&[50, 40]).check(), Err(StagesError::Shrinks { index: 1, percent: 40, before: 50 }));
        assert_eq!(stages(&[10, 50]).percent(7), 0);
    }
}
