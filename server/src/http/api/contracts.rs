//! Plans and contracts.

use std::sync::Arc;

use actix_web::{get, post, put, web};
use serde::Deserialize;
use sluice_catalog::contract::Contract;
use sluice_catalog::text::{ContractNumber, Slug};
use sluice_catalog::wire::admin::{ContractCreate, ContractDetail, ContractExtend, Page, PlanCreate, PlanDetail};
use sluice_catalog::wire::contracts::{ContractPut, OverlapPage};
use utoipa_actix_web::service_config::ServiceConfig;

use super::super::auth::Acting;
use super::super::{Answer, Shared};
use super::{Paging, made, page};

pub(super) fn configure(config: &mut ServiceConfig) {
    config
        .service(plans)
        .service(plan)
        .service(contracts)
        .service(contract)
        .service(show)
        .service(put_whole)
        .service(overlaps)
        .service(extend);
}

/// Plans, in the order of their names.
#[utoipa::path(params(Paging), responses((status = 200, body = Page<PlanDetail>)), tag = "contracts")]
#[get("/api/v1/plans")]
async fn plans(
    shared: web::Data<Shared>,
    actor: Acting,
    paging: web::Query<Paging>,
) -> Answer<web::Json<Page<PlanDetail>>> {
    let (app, limit) = (Arc::clone(&shared.app), paging.limit()?);
    let items = shared.app.run(async move { app.plan_list(&actor.0, paging.after()?, limit).await }).await?;
    Ok(page(items, limit, |one| one.plan.name.to_string()))
}

/// Enter a plan.
#[utoipa::path(responses((status = 201, body = PlanDetail), (status = 200, body = PlanDetail)), tag = "contracts")]
#[post("/api/v1/plans")]
async fn plan(shared: web::Data<Shared>, actor: Acting, request: web::Json<PlanCreate>) -> Answer {
    let app = Arc::clone(&shared.app);
    Ok(made(shared.app.run(async move { app.plan_create(&actor.0, &request).await }).await?))
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct Filter {
    /// Of this customer only; for a principal that is bound to a customer its own unless given.
    customer: Option<Slug>,
    /// `next` of the page before.
    after: Option<String>,
    /// Items, 1 to 500; 50 unless given.
    limit: Option<u32>,
}

/// Contracts, in the order of their numbers.
#[utoipa::path(params(Filter), responses((status = 200, body = Page<Contract>)), tag = "contracts")]
#[get("/api/v1/contracts")]
async fn contracts(
    shared: web::Data<Shared>,
    actor: Acting,
    filter: web::Query<Filter>,
) -> Answer<web::Json<Page<Contract>>> {
    let filter = filter.into_inner();
    let paging = Paging { after: filter.after, limit: filter.limit };
    let (app, limit) = (Arc::clone(&shared.app), paging.limit()?);
    let items = shared
        .app
        .run(async move { app.contract_list(&actor.0, filter.customer.as_ref(), paging.after()?, limit).await })
        .await?;
    Ok(page(items, limit, |one| one.number.to_string()))
}

/// Enter a contract with its windows and items.
#[utoipa::path(responses((status = 201, body = ContractDetail), (status = 200, body = ContractDetail)), tag = "contracts")]
#[post("/api/v1/contracts")]
async fn contract(shared: web::Data<Shared>, actor: Acting, request: web::Json<ContractCreate>) -> Answer {
    let app = Arc::clone(&shared.app);
    Ok(made(shared.app.run(async move { app.contract_create(&actor.0, &request).await }).await?))
}

/// A contract with its windows and items that hold by what is known now.
#[utoipa::path(params(("number" = String, Path)), responses((status = 200, body = ContractDetail)), tag = "contracts")]
#[get("/api/v1/contracts/{number}")]
async fn show(
    shared: web::Data<Shared>,
    actor: Acting,
    number: web::Path<ContractNumber>,
) -> Answer<web::Json<ContractDetail>> {
    let app = Arc::clone(&shared.app);
    Ok(web::Json(shared.app.run(async move { app.contract_get(&actor.0, &number).await }).await?))
}

/// Serials that several contracts cover at the same time, in the order of product and serial.
#[utoipa::path(params(Paging), responses((status = 200, body = OverlapPage)), tag = "contracts")]
#[get("/api/v1/contract-overlaps")]
async fn overlaps(
    shared: web::Data<Shared>,
    actor: Acting,
    paging: web::Query<Paging>,
) -> Answer<web::Json<OverlapPage>> {
    let (app, limit) = (Arc::clone(&shared.app), paging.limit()?);
    let page = shared.app.run(async move { app.contract_overlaps(&actor.0, paging.after()?, limit).await }).await?;
    Ok(web::Json(page))
}

/// Make a contract what the system that keeps it says: enter it, or change what differs. The same again changes nothing, and a revision
/// older than the newest that was told is refused.
#[utoipa::path(
    params(("number" = String, Path)),
    responses((status = 201, body = ContractDetail), (status = 200, body = ContractDetail)), tag = "contracts"
)]
#[put("/api/v1/contracts/{number}")]
async fn put_whole(
    shared: web::Data<Shared>,
    actor: Acting,
    number: web::Path<ContractNumber>,
    request: web::Json<ContractPut>,
) -> Answer {
    let app = Arc::clone(&shared.app);
    Ok(made(shared.app.run(async move { app.contract_put(&actor.0, &number, &request).await }).await?))
}

/// Add windows and items to a contract.
#[utoipa::path(params(("number" = String, Path)), responses((status = 200, body = ContractDetail)), tag = "contracts")]
#[post("/api/v1/contracts/{number}/facts")]
async fn extend(
    shared: web::Data<Shared>,
    actor: Acting,
    number: web::Path<ContractNumber>,
    request: web::Json<ContractExtend>,
) -> Answer<web::Json<ContractDetail>> {
    let app = Arc::clone(&shared.app);
    Ok(web::Json(shared.app.run(async move { app.contract_extend(&actor.0, &number, &request).await }).await?))
}
