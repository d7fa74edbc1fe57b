//! Numbers of the installation, jobs, and the audit log.

use sluice_catalog::audit::AuditEntry;
use sluice_catalog::id::JobId;
use sluice_catalog::job::{Job, JobState};
use sluice_catalog::principal::Permission;
use sluice_catalog::wire::admin::Status;

use super::{Actor, App};
use crate::error::Result;

impl App {
    /// Numbers of the installation.
    pub async fn status(&self, actor: &Actor) -> Result<Status> {
        actor.need(Permission::Read)?;
        let (products, releases, devices, jobs_pending, jobs_parked) = self.store.counts().await?;
        Ok(Status {
            version: env!("CARGO_PKG_VERSION").into(),
            database: self.store.engine_name().into(),
            blobs: self.blobs.kind().into(),
            products,
            releases,
            devices,
            jobs_pending,
            jobs_parked,
            expiries: self.expiries(),
        })
    }

    /// Jobs after an id.
    pub async fn job_list(
        &self,
        actor: &Actor,
        state: Option<JobState>,
        after: Option<JobId>,
        limit: u32,
    ) -> Result<Vec<Job>> {
        actor.need(Permission::Read)?;
        Ok(self.store.job_list(state, after, limit).await?)
    }

    /// Audit entries after a number.
    pub async fn audit_list(&self, actor: &Actor, after: i64, limit: u32) -> Result<Vec<AuditEntry>> {
        actor.need(Permission::Read)?;
        Ok(self.store.audit_list(after, limit).await?)
    }
}
