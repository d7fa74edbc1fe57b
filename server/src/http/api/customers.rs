//! Customers, where they stand, and who acts for them.

use std::sync::Arc;

use actix_web::{HttpResponse, delete, get, post, put, web};
use sluice_catalog::customer::{Customer, Partner};
use sluice_catalog::text::Slug;
use sluice_catalog::wire::admin::{CustomerCreate, CustomerDetail, Page, ParentSet, PartnerSet};
use utoipa_actix_web::service_config::ServiceConfig;

use super::super::auth::Acting;
use super::super::{Answer, Shared};
use super::{Paging, made, page};

pub(super) fn configure(config: &mut ServiceConfig) {
    config.service(list).service(create).service(show).service(parent).service(partner).service(partner_end);
}

/// Customers, in the order of their names.
#[utoipa::path(params(Paging), responses((status = 200, body = Page<Customer>)), tag = "contracts")]
#[get("/api/v1/customers")]
async fn list(
    shared: web::Data<Shared>,
    actor: Acting,
    paging: web::Query<Paging>,
) -> Answer<web::Json<Page<Customer>>> {
    let (app, limit) = (Arc::clone(&shared.app), paging.limit()?);
    let items = shared.app.run(async move { app.customer_list(&actor.0, paging.after()?, limit).await }).await?;
    Ok(page(items, limit, |one| one.name.to_string()))
}

/// Enter a customer.
#[utoipa::path(responses((status = 201, body = Customer), (status = 200, body = Customer)), tag = "contracts")]
#[post("/api/v1/customers")]
async fn create(shared: web::Data<Shared>, actor: Acting, request: web::Json<CustomerCreate>) -> Answer {
    let app = Arc::clone(&shared.app);
    Ok(made(shared.app.run(async move { app.customer_create(&actor.0, &request).await }).await?))
}

/// A customer with who acts for it and for whom it acts.
#[utoipa::path(params(("name" = String, Path)), responses((status = 200, body = CustomerDetail)), tag = "contracts")]
#[get("/api/v1/customers/{name}")]
async fn show(shared: web::Data<Shared>, actor: Acting, name: web::Path<Slug>) -> Answer<web::Json<CustomerDetail>> {
    let app = Arc::clone(&shared.app);
    Ok(web::Json(shared.app.run(async move { app.customer_get(&actor.0, &name).await }).await?))
}

/// Put a customer beneath another, whose people then read what is its own; or on its own.
#[utoipa::path(params(("name" = String, Path)), responses((status = 200, body = Customer)), tag = "contracts")]
#[put("/api/v1/customers/{name}/parent")]
async fn parent(
    shared: web::Data<Shared>,
    actor: Acting,
    name: web::Path<Slug>,
    request: web::Json<ParentSet>,
) -> Answer<web::Json<Customer>> {
    let app = Arc::clone(&shared.app);
    Ok(web::Json(shared.app.run(async move { app.customer_parent(&actor.0, &name, &request).await }).await?))
}

/// Let one customer act for another, in place of what was said before.
#[utoipa::path(
    params(("name" = String, Path), ("partner" = String, Path)),
    responses((status = 201, body = Partner), (status = 200, body = Partner)), tag = "contracts"
)]
#[put("/api/v1/customers/{name}/partners/{partner}")]
async fn partner(
    shared: web::Data<Shared>,
    actor: Acting,
    path: web::Path<(Slug, Slug)>,
    request: web::Json<PartnerSet>,
) -> Answer {
    let app = Arc::clone(&shared.app);
    Ok(made(shared.app.run(async move { app.partner_set(&actor.0, &path.0, &path.1, &request).await }).await?))
}

/// End that one customer acts for another.
#[utoipa::path(
    params(("name" = String, Path), ("partner" = String, Path)), responses((status = 204)), tag = "contracts"
)]
#[delete("/api/v1/customers/{name}/partners/{partner}")]
async fn partner_end(shared: web::Data<Shared>, actor: Acting, path: web::Path<(Slug, Slug)>) -> Answer {
    let app = Arc::clone(&shared.app);
    shared.app.run(async move { app.partner_end(&actor.0, &path.0, &path.1).await }).await?;
    Ok(HttpResponse::NoContent().finish())
}
