//! Policies, sites, embargoes, blocks, swaps; changes of contracts and plans; a device's history.

use std::sync::Arc;

use actix_web::{HttpResponse, delete, get, patch, post, put, web};
use serde::Deserialize;
use sluice_catalog::id::FactId;
use sluice_catalog::policy::Site;
use sluice_catalog::swap::Swap;
use sluice_catalog::text::{ContractNumber, ProductName, Serial, Slug, Version};
use sluice_catalog::wire::admin::{ContractDetail, Page, PlanDetail};
use sluice_catalog::wire::entitlement::{
    BlockedSet, ContractChange, DeviceEntry, EmbargoSet, ImportAnswer, ImportRequest, PlanChange, PolicyCreate,
    PolicyDetail, SiteSet, SwapCreate,
};
use utoipa_actix_web::service_config::ServiceConfig;

use super::super::auth::Acting;
use super::super::{Answer, Shared};
use super::{Paging, made, page};
use crate::app::{FactKind, MAX_ENTRIES, Pages};
use crate::error::Error;

pub(super) fn configure(config: &mut ServiceConfig) {
    config
        .service(policies)
        .service(policy)
        .service(policy_lift)
        .service(sites)
        .service(site)
        .service(embargo)
        .service(embargo_lift)
        .service(block)
        .service(contract)
        .service(window_retract)
        .service(item_retract)
        .service(plan)
        .service(import)
        .service(swaps)
        .service(swap)
        .service(swap_show)
        .service(swap_undo)
        .service(history);
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct OfCustomer {
    /// Whose.
    customer: Slug,
}

/// A customer's policies that are in force or to come.
#[utoipa::path(params(OfCustomer), responses((status = 200, body = Vec<PolicyDetail>)), tag = "entitlement")]
#[get("/api/v1/policies")]
async fn policies(
    shared: web::Data<Shared>,
    actor: Acting,
    of: web::Query<OfCustomer>,
) -> Answer<web::Json<Vec<PolicyDetail>>> {
    let app = Arc::clone(&shared.app);
    Ok(web::Json(shared.app.run(async move { app.policy_list(&actor.0, &of.customer).await }).await?))
}

/// Hold versions back, pin to one, or follow, for a customer, a site, a group or a device.
#[utoipa::path(responses((status = 201, body = PolicyDetail), (status = 200, body = PolicyDetail)), tag = "entitlement")]
#[post("/api/v1/policies")]
async fn policy(shared: web::Data<Shared>, actor: Acting, request: web::Json<PolicyCreate>) -> Answer {
    let app = Arc::clone(&shared.app);
    Ok(made(shared.app.run(async move { app.policy_create(&actor.0, &request).await }).await?))
}

/// Lift a policy.
#[utoipa::path(params(("id" = String, Path), OfCustomer), responses((status = 204)), tag = "entitlement")]
#[delete("/api/v1/policies/{id}")]
async fn policy_lift(
    shared: web::Data<Shared>,
    actor: Acting,
    id: web::Path<FactId>,
    of: web::Query<OfCustomer>,
) -> Answer {
    let app = Arc::clone(&shared.app);
    shared.app.run(async move { app.policy_lift(&actor.0, &of.customer, *id).await }).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// A customer's sites, in the order of their names.
#[utoipa::path(params(("customer" = String, Path), Paging), responses((status = 200, body = Page<Site>)), tag = "entitlement")]
#[get("/api/v1/customers/{customer}/sites")]
async fn sites(
    shared: web::Data<Shared>,
    actor: Acting,
    customer: web::Path<Slug>,
    paging: web::Query<Paging>,
) -> Answer<web::Json<Page<Site>>> {
    let (app, limit) = (Arc::clone(&shared.app), paging.limit()?);
    let items = shared.app.run(async move { app.site_list(&actor.0, &customer, paging.after()?, limit).await }).await?;
    Ok(page(items, limit, |one| one.name.to_string()))
}

/// Say where a site is.
#[utoipa::path(
    params(("customer" = String, Path), ("site" = String, Path)),
    responses((status = 201, body = Site), (status = 200, body = Site)), tag = "entitlement"
)]
#[put("/api/v1/customers/{customer}/sites/{site}")]
async fn site(
    shared: web::Data<Shared>,
    actor: Acting,
    path: web::Path<(Slug, Slug)>,
    request: web::Json<SiteSet>,
) -> Answer {
    let app = Arc::clone(&shared.app);
    Ok(made(shared.app.run(async move { app.site_set(&actor.0, &path.0, &path.1, &request).await }).await?))
}

/// Let some have a release before others.
#[utoipa::path(
    params(("product" = String, Path), ("version" = String, Path)), responses((status = 204)), tag = "entitlement"
)]
#[put("/api/v1/products/{product}/releases/{version}/embargo")]
async fn embargo(
    shared: web::Data<Shared>,
    actor: Acting,
    path: web::Path<(ProductName, Version)>,
    request: web::Json<EmbargoSet>,
) -> Answer {
    let app = Arc::clone(&shared.app);
    shared.app.run(async move { app.release_embargo(&actor.0, &path.0, &path.1, Some(&request)).await }).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Lift an embargo.
#[utoipa::path(
    params(("product" = String, Path), ("version" = String, Path)), responses((status = 204)), tag = "entitlement"
)]
#[delete("/api/v1/products/{product}/releases/{version}/embargo")]
async fn embargo_lift(shared: web::Data<Shared>, actor: Acting, path: web::Path<(ProductName, Version)>) -> Answer {
    let app = Arc::clone(&shared.app);
    shared.app.run(async move { app.release_embargo(&actor.0, &path.0, &path.1, None).await }).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Say to which countries a release is not delivered.
#[utoipa::path(
    params(("product" = String, Path), ("version" = String, Path)), responses((status = 204)), tag = "entitlement"
)]
#[put("/api/v1/products/{product}/releases/{version}/blocked-countries")]
async fn block(
    shared: web::Data<Shared>,
    actor: Acting,
    path: web::Path<(ProductName, Version)>,
    request: web::Json<BlockedSet>,
) -> Answer {
    let app = Arc::clone(&shared.app);
    shared.app.run(async move { app.release_block(&actor.0, &path.0, &path.1, &request).await }).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Move a contract to another plan, void it, or make it count again.
#[utoipa::path(params(("number" = String, Path)), responses((status = 200, body = ContractDetail)), tag = "contracts")]
#[patch("/api/v1/contracts/{number}")]
async fn contract(
    shared: web::Data<Shared>,
    actor: Acting,
    number: web::Path<ContractNumber>,
    request: web::Json<ContractChange>,
) -> Answer<web::Json<ContractDetail>> {
    let app = Arc::clone(&shared.app);
    Ok(web::Json(shared.app.run(async move { app.contract_change(&actor.0, &number, &request).await }).await?))
}

#[derive(Debug, serde::Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct Accepted {
    /// So many devices may lose a version or a code by it. Without it, a change that takes cover from many is refused.
    accept_loss: Option<u64>,
}

/// Take back a window of a contract. It stays on record.
#[utoipa::path(
    params(("number" = String, Path), ("id" = String, Path), Accepted), responses((status = 200, body = ContractDetail)),
    tag = "contracts"
)]
#[delete("/api/v1/contracts/{number}/windows/{id}")]
async fn window_retract(
    shared: web::Data<Shared>,
    actor: Acting,
    path: web::Path<(ContractNumber, FactId)>,
    of: web::Query<Accepted>,
) -> Answer<web::Json<ContractDetail>> {
    let app = Arc::clone(&shared.app);
    let retract =
        async move { app.contract_retract(&actor.0, &path.0, (FactKind::Window, path.1), of.accept_loss).await };
    Ok(web::Json(shared.app.run(retract).await?))
}

/// Take back a covered device of a contract. It stays on record.
#[utoipa::path(
    params(("number" = String, Path), ("id" = String, Path), Accepted), responses((status = 200, body = ContractDetail)),
    tag = "contracts"
)]
#[delete("/api/v1/contracts/{number}/items/{id}")]
async fn item_retract(
    shared: web::Data<Shared>,
    actor: Acting,
    path: web::Path<(ContractNumber, FactId)>,
    of: web::Query<Accepted>,
) -> Answer<web::Json<ContractDetail>> {
    let app = Arc::clone(&shared.app);
    let retract =
        async move { app.contract_retract(&actor.0, &path.0, (FactKind::Item, path.1), of.accept_loss).await };
    Ok(web::Json(shared.app.run(retract).await?))
}

/// Change what a plan is like, for all its contracts.
#[utoipa::path(params(("name" = String, Path)), responses((status = 200, body = PlanDetail)), tag = "contracts")]
#[put("/api/v1/plans/{name}")]
async fn plan(
    shared: web::Data<Shared>,
    actor: Acting,
    name: web::Path<Slug>,
    request: web::Json<PlanChange>,
) -> Answer<web::Json<PlanDetail>> {
    let app = Arc::clone(&shared.app);
    Ok(web::Json(shared.app.run(async move { app.plan_change(&actor.0, &name, &request).await }).await?))
}

/// Take in rows of contracts, windows and devices from a sales system: at most 5,000, in one transaction.
#[utoipa::path(responses((status = 200, body = ImportAnswer)), tag = "contracts")]
#[post("/api/v1/contract-imports")]
async fn import(
    shared: web::Data<Shared>,
    actor: Acting,
    request: web::Json<ImportRequest>,
) -> Answer<web::Json<ImportAnswer>> {
    let app = Arc::clone(&shared.app);
    Ok(web::Json(shared.app.run(async move { app.contract_import(&actor.0, &request).await }).await?))
}

/// Swaps, in the order of their numbers.
#[utoipa::path(params(Paging), responses((status = 200, body = Page<Swap>)), tag = "entitlement")]
#[get("/api/v1/swaps")]
async fn swaps(shared: web::Data<Shared>, actor: Acting, paging: web::Query<Paging>) -> Answer<web::Json<Page<Swap>>> {
    let (app, limit) = (Arc::clone(&shared.app), paging.limit()?);
    let items = shared.app.run(async move { app.swap_list(&actor.0, paging.after()?, limit).await }).await?;
    Ok(page(items, limit, |one| one.rma.to_string()))
}

/// Replace a broken device: cover, policies, groups and the place in rollouts move to the new one.
#[utoipa::path(responses((status = 201, body = Swap), (status = 200, body = Swap)), tag = "entitlement")]
#[post("/api/v1/swaps")]
async fn swap(shared: web::Data<Shared>, actor: Acting, request: web::Json<SwapCreate>) -> Answer {
    let app = Arc::clone(&shared.app);
    Ok(made(shared.app.run(async move { app.swap_create(&actor.0, &request).await }).await?))
}

/// A swap.
#[utoipa::path(params(("rma" = String, Path)), responses((status = 200, body = Swap)), tag = "entitlement")]
#[get("/api/v1/swaps/{rma}")]
async fn swap_show(shared: web::Data<Shared>, actor: Acting, rma: web::Path<Slug>) -> Answer<web::Json<Swap>> {
    let app = Arc::clone(&shared.app);
    Ok(web::Json(shared.app.run(async move { app.swap_get(&actor.0, &rma).await }).await?))
}

/// Undo a swap while its overlap lasts.
#[utoipa::path(params(("rma" = String, Path)), responses((status = 200, body = Swap)), tag = "entitlement")]
#[post("/api/v1/swaps/{rma}/undo")]
async fn swap_undo(shared: web::Data<Shared>, actor: Acting, rma: web::Path<Slug>) -> Answer<web::Json<Swap>> {
    let app = Arc::clone(&shared.app);
    Ok(web::Json(shared.app.run(async move { app.swap_undo(&actor.0, &rma).await }).await?))
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct OfStory {
    /// After the entry with this key.
    after: Option<String>,
    /// At most so many entries, 1 to 10,000. Without it all are told at once, and without what the device was told at its polls.
    limit: Option<u32>,
}

/// Everything that happened to a device, oldest first: a page after the key of an entry, or all at once.
#[utoipa::path(
    params(("product" = String, Path), ("serial" = String, Path), OfStory), responses((status = 200, body = Vec<DeviceEntry>)),
    tag = "entitlement"
)]
#[get("/api/v1/products/{product}/devices/{serial}/history")]
async fn history(
    shared: web::Data<Shared>,
    actor: Acting,
    path: web::Path<(ProductName, Serial)>,
    of: web::Query<OfStory>,
) -> Answer<web::Json<Vec<DeviceEntry>>> {
    let app = Arc::clone(&shared.app);
    let OfStory { after, limit } = of.into_inner();
    if let Some(limit) = limit.filter(|limit| !(1..=MAX_ENTRIES).contains(limit)) {
        return Err(Error::invalid("limit", format!("{limit}: 1 to {MAX_ENTRIES}")).into());
    }
    let pages = Pages { after, limit };
    Ok(web::Json(shared.app.run(async move { app.device_story(&actor.0, &path.0, &path.1, pages).await }).await?))
}
