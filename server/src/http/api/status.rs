//! Numbers, jobs and the audit log.

use std::sync::Arc;

use actix_web::{get, web};
use serde::Deserialize;
use sluice_catalog::audit::AuditEntry;
use sluice_catalog::id::JobId;
use sluice_catalog::job::{Job, JobState};
use sluice_catalog::wire::admin::{Page, Status};
use utoipa_actix_web::service_config::ServiceConfig;

use super::super::auth::Acting;
use super::super::{Answer, Shared};
use super::{Paging, page};

pub(super) fn configure(config: &mut ServiceConfig) {
    config.service(status).service(jobs).service(audit);
}

/// Numbers of the installation.
#[utoipa::path(responses((status = 200, body = Status)), tag = "status")]
#[get("/api/v1/status")]
async fn status(shared: web::Data<Shared>, actor: Acting) -> Answer<web::Json<Status>> {
    let app = Arc::clone(&shared.app);
    Ok(web::Json(shared.app.run(async move { app.status(&actor.0).await }).await?))
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct Filter {
    /// In this state only.
    state: Option<JobState>,
    /// `next` of the page before.
    after: Option<String>,
    /// Items, 1 to 500; 50 unless given.
    limit: Option<u32>,
}

/// Background jobs, in the order they were enqueued.
#[utoipa::path(params(Filter), responses((status = 200, body = Page<Job>)), tag = "status")]
#[get("/api/v1/jobs")]
async fn jobs(shared: web::Data<Shared>, actor: Acting, filter: web::Query<Filter>) -> Answer<web::Json<Page<Job>>> {
    let filter = filter.into_inner();
    let paging = Paging { after: filter.after, limit: filter.limit };
    let (app, limit, after) = (Arc::clone(&shared.app), paging.limit()?, paging.after_id::<JobId>()?);
    let items = shared.app.run(async move { app.job_list(&actor.0, filter.state, after, limit).await }).await?;
    Ok(page(items, limit, |one| one.id.to_string()))
}

/// The audit log, oldest first.
#[utoipa::path(params(Paging), responses((status = 200, body = Page<AuditEntry>)), tag = "status")]
#[get("/api/v1/audit")]
async fn audit(
    shared: web::Data<Shared>,
    actor: Acting,
    paging: web::Query<Paging>,
) -> Answer<web::Json<Page<AuditEntry>>> {
    let (app, limit, after) = (Arc::clone(&shared.app), paging.limit()?, paging.after_id::<i64>()?);
    let items = shared.app.run(async move { app.audit_list(&actor.0, after.unwrap_or(0), limit).await }).await?;
    Ok(page(items, limit, |one| one.seq.to_string()))
}
