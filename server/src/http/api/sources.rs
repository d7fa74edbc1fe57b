//! Systems that keep contracts elsewhere.

use std::sync::Arc;

use actix_web::{get, post, put, web};
use sluice_catalog::source::{ContractSource, SourceSet};
use sluice_catalog::text::Slug;
use sluice_catalog::wire::admin::Page;
use utoipa_actix_web::service_config::ServiceConfig;

use super::super::auth::Acting;
use super::super::{Answer, Shared};
use super::{Paging, page};

pub(super) fn configure(config: &mut ServiceConfig) {
    config.service(sources).service(touch).service(set);
}

/// Systems that keep contracts, in the order of their names.
#[utoipa::path(params(Paging), responses((status = 200, body = Page<ContractSource>)), tag = "contracts")]
#[get("/api/v1/contract-sources")]
async fn sources(
    shared: web::Data<Shared>,
    actor: Acting,
    paging: web::Query<Paging>,
) -> Answer<web::Json<Page<ContractSource>>> {
    let (app, limit) = (Arc::clone(&shared.app), paging.limit()?);
    let items = shared.app.run(async move { app.source_list(&actor.0, paging.after()?, limit).await }).await?;
    Ok(page(items, limit, |one| one.name.to_string()))
}

/// Say that a system lives and that none of its contracts changed.
#[utoipa::path(params(("name" = String, Path)), responses((status = 200, body = ContractSource)), tag = "contracts")]
#[post("/api/v1/contract-sources/{name}")]
async fn touch(shared: web::Data<Shared>, actor: Acting, name: web::Path<Slug>) -> Answer<web::Json<ContractSource>> {
    let app = Arc::clone(&shared.app);
    Ok(web::Json(shared.app.run(async move { app.source_touch(&actor.0, &name).await }).await?))
}

/// Say how long a system may be silent before cover that it told of counts on.
#[utoipa::path(params(("name" = String, Path)), responses((status = 200, body = ContractSource)), tag = "contracts")]
#[put("/api/v1/contract-sources/{name}")]
async fn set(
    shared: web::Data<Shared>,
    actor: Acting,
    name: web::Path<Slug>,
    request: web::Json<SourceSet>,
) -> Answer<web::Json<ContractSource>> {
    let app = Arc::clone(&shared.app);
    Ok(web::Json(shared.app.run(async move { app.source_set(&actor.0, &name, &request).await }).await?))
}
