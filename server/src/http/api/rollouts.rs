//! Rollouts.

use std::sync::Arc;

use actix_web::{HttpResponse, delete, get, post, put, web};
use sluice_catalog::rollout::Rollout;
use sluice_catalog::text::{ProductName, Slug};
use sluice_catalog::wire::admin::Page;
use sluice_catalog::wire::rollout::{
    ApproverEnrol, ApproverKey, AudienceAsk, AudienceCount, RolloutApprove, RolloutCreate, RolloutDetail, RolloutMove,
    StopAll,
};
use utoipa_actix_web::service_config::ServiceConfig;

use super::super::auth::Acting;
use super::super::{Answer, Shared};
use super::{Paging, made, page};

pub(super) fn configure(config: &mut ServiceConfig) {
    config
        .service(list)
        .service(count)
        .service(create)
        .service(show)
        .service(edit)
        .service(movement)
        .service(approve)
        .service(approvers)
        .service(enrol)
        .service(revoke)
        .service(stop_all_get)
        .service(stop_all_set);
}

/// Rollouts, in the order of their names.
#[utoipa::path(params(Paging), responses((status = 200, body = Page<Rollout>)), tag = "rollouts")]
#[get("/api/v1/rollouts")]
async fn list(
    shared: web::Data<Shared>,
    actor: Acting,
    paging: web::Query<Paging>,
) -> Answer<web::Json<Page<Rollout>>> {
    let (app, limit) = (Arc::clone(&shared.app), paging.limit()?);
    let items = shared.app.run(async move { app.rollout_list(&actor.0, paging.after(), limit).await }).await?;
    Ok(page(items, limit, |one| one.name.to_string()))
}

/// How many devices of a product an audience holds now, by hardware and by running version.
#[utoipa::path(params(("product" = String, Path)), responses((status = 200, body = AudienceCount)), tag = "rollouts")]
#[post("/api/v1/products/{product}/audience/count")]
async fn count(
    shared: web::Data<Shared>,
    actor: Acting,
    product: web::Path<ProductName>,
    request: web::Json<AudienceAsk>,
) -> Answer<web::Json<AudienceCount>> {
    let app = Arc::clone(&shared.app);
    Ok(web::Json(shared.app.run(async move { app.audience_count(&actor.0, &product, &request).await }).await?))
}

/// Make a rollout, as a draft.
#[utoipa::path(responses((status = 201, body = RolloutDetail), (status = 200, body = RolloutDetail)), tag = "rollouts")]
#[post("/api/v1/rollouts")]
async fn create(shared: web::Data<Shared>, actor: Acting, request: web::Json<RolloutCreate>) -> Answer {
    let app = Arc::clone(&shared.app);
    Ok(made(shared.app.run(async move { app.rollout_create(&actor.0, &request).await }).await?))
}

/// A rollout with its history, attempts and patches.
#[utoipa::path(params(("name" = String, Path)), responses((status = 200, body = RolloutDetail)), tag = "rollouts")]
#[get("/api/v1/rollouts/{name}")]
async fn show(shared: web::Data<Shared>, actor: Acting, name: web::Path<Slug>) -> Answer<web::Json<RolloutDetail>> {
    let app = Arc::clone(&shared.app);
    Ok(web::Json(shared.app.run(async move { app.rollout_get(&actor.0, &name).await }).await?))
}

/// Submit, start, advance, pause, resume, halt or roll back a rollout.
#[utoipa::path(params(("name" = String, Path)), responses((status = 200, body = RolloutDetail)), tag = "rollouts")]
#[post("/api/v1/rollouts/{name}/move")]
async fn movement(
    shared: web::Data<Shared>,
    actor: Acting,
    name: web::Path<Slug>,
    request: web::Json<RolloutMove>,
) -> Answer<web::Json<RolloutDetail>> {
    let app = Arc::clone(&shared.app);
    Ok(web::Json(shared.app.run(async move { app.rollout_move(&actor.0, &name, &request).await }).await?))
}

/// Write another plan over one that has not started; approvals of the one before count no more.
#[utoipa::path(params(("name" = String, Path)), responses((status = 200, body = RolloutDetail)), tag = "rollouts")]
#[put("/api/v1/rollouts/{name}")]
async fn edit(
    shared: web::Data<Shared>,
    actor: Acting,
    name: web::Path<Slug>,
    request: web::Json<RolloutCreate>,
) -> Answer<web::Json<RolloutDetail>> {
    let app = Arc::clone(&shared.app);
    Ok(web::Json(shared.app.run(async move { app.rollout_edit(&actor.0, &name, &request).await }).await?))
}

/// Approve a rollout's plan with a signature over its digest.
#[utoipa::path(params(("name" = String, Path)), responses((status = 200, body = RolloutDetail)), tag = "rollouts")]
#[post("/api/v1/rollouts/{name}/approvals")]
async fn approve(
    shared: web::Data<Shared>,
    actor: Acting,
    name: web::Path<Slug>,
    request: web::Json<RolloutApprove>,
) -> Answer<web::Json<RolloutDetail>> {
    let app = Arc::clone(&shared.app);
    Ok(web::Json(shared.app.run(async move { app.rollout_approve(&actor.0, &name, &request).await }).await?))
}

/// Keys of approvers.
#[utoipa::path(responses((status = 200, body = Page<ApproverKey>)), tag = "rollouts")]
#[get("/api/v1/approvers")]
async fn approvers(shared: web::Data<Shared>, actor: Acting) -> Answer<web::Json<Page<ApproverKey>>> {
    let app = Arc::clone(&shared.app);
    let items = shared.app.run(async move { app.approver_list(&actor.0).await }).await?;
    Ok(web::Json(Page { items, next: None }))
}

/// Enrol a key with which a person approves.
#[utoipa::path(
    params(("name" = String, Path)),
    responses((status = 201, body = ApproverKey), (status = 200, body = ApproverKey)),
    tag = "rollouts"
)]
#[post("/api/v1/principals/{name}/approver-keys")]
async fn enrol(
    shared: web::Data<Shared>,
    actor: Acting,
    name: web::Path<Slug>,
    request: web::Json<ApproverEnrol>,
) -> Answer {
    let app = Arc::clone(&shared.app);
    Ok(made(shared.app.run(async move { app.approver_enrol(&actor.0, &name, &request).await }).await?))
}

/// Take an approver's key away.
#[utoipa::path(params(("key" = String, Path)), responses((status = 204)), tag = "rollouts")]
#[delete("/api/v1/approvers/{key}")]
async fn revoke(shared: web::Data<Shared>, actor: Acting, key: web::Path<String>) -> Answer {
    let app = Arc::clone(&shared.app);
    shared.app.run(async move { app.approver_revoke(&actor.0, &key).await }).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// The switch that stops every rollout.
#[utoipa::path(responses((status = 200, body = StopAll)), tag = "rollouts")]
#[get("/api/v1/stop-all")]
async fn stop_all_get(shared: web::Data<Shared>, actor: Acting) -> Answer<web::Json<StopAll>> {
    let app = Arc::clone(&shared.app);
    Ok(web::Json(shared.app.run(async move { app.stop_all_get(&actor.0).await }).await?))
}

/// Turn it. Devices are offered nothing from their next poll on; what is under way on a device does not switch slots.
#[utoipa::path(responses((status = 200, body = StopAll)), tag = "rollouts")]
#[put("/api/v1/stop-all")]
async fn stop_all_set(
    shared: web::Data<Shared>,
    actor: Acting,
    request: web::Json<StopAll>,
) -> Answer<web::Json<StopAll>> {
    let app = Arc::clone(&shared.app);
    Ok(web::Json(shared.app.run(async move { app.stop_all_set(&actor.0, &request).await }).await?))
}
