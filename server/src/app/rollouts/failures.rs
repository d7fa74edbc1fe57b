//! Which devices failed at a rollout, and what they say of it.

use sluice_catalog::principal::Permission;
use sluice_catalog::rollout::Failure;
use sluice_catalog::text::Slug;
use sluice_catalog::wire::failure::{FailureKey, RolloutFailure};

use super::super::{Actor, App};
use crate::error::{Error, Result};

impl App {
    /// Attempts of a rollout that failed or were rolled back, newest first, after a place in the list.
    pub async fn rollout_failures(
        &self,
        actor: &Actor,
        name: &Slug,
        failure: Option<Failure>,
        after: Option<FailureKey>,
        limit: u32,
    ) -> Result<Vec<RolloutFailure>> {
        // Whoever is bound to a customer is refused: the logs are those of everybody's devices.
        actor.need(Permission::Read)?;
        let rollout = self.store.rollout_by_name(name).await?.ok_or_else(|| Error::not_found("rollout", name))?;
        Ok(self.store.attempt_failures(rollout.id, failure, after, limit).await?)
    }
}
