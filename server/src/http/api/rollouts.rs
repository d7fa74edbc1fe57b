//! Rollouts.

use std::sync::Arc;

use actix_web::{get, post, web};
use sluice_catalog::rollout::Rollout;
use sluice_catalog::text::Slug;
use sluice_catalog::wire::admin::{Page, RolloutCreate, RolloutDetail, RolloutMove};
use utoipa_actix_web::service_config::ServiceConfig;

use super::super::auth::Acting;
use super::super::{Answer, Shared};
use super::{Paging, made, page};

pub(super) fn configure(config: &mut ServiceConfig) {
    config.service(list).service(create).service(show).service(movement);
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

/// Start, advance, pause, resume or halt a rollout.
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
