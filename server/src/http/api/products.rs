//! Products and their releases.

use std::sync::Arc;

use actix_web::{get, post, put, web};
use sluice_catalog::product::{Product, Train};
use sluice_catalog::text::{ProductName, TrainName, Version};
use sluice_catalog::wire::admin::{Page, ProductCreate, ReleaseDetail, SupportEndSet};
use utoipa_actix_web::service_config::ServiceConfig;

use super::super::auth::Acting;
use super::super::{Answer, Shared};
use super::{Paging, made, page};

pub(super) fn configure(config: &mut ServiceConfig) {
    config
        .service(list)
        .service(create)
        .service(show)
        .service(releases)
        .service(release)
        .service(withdraw)
        .service(trains)
        .service(support_end);
}

/// Products, in the order of their names.
#[utoipa::path(params(Paging), responses((status = 200, body = Page<Product>)), tag = "products")]
#[get("/api/v1/products")]
async fn list(
    shared: web::Data<Shared>,
    actor: Acting,
    paging: web::Query<Paging>,
) -> Answer<web::Json<Page<Product>>> {
    let (app, limit) = (Arc::clone(&shared.app), paging.limit()?);
    let items = shared.app.run(async move { app.product_list(&actor.0, paging.after()?, limit).await }).await?;
    Ok(page(items, limit, |one| one.name.to_string()))
}

/// Enter a product.
#[utoipa::path(responses((status = 201, body = Product), (status = 200, body = Product)), tag = "products")]
#[post("/api/v1/products")]
async fn create(shared: web::Data<Shared>, actor: Acting, request: web::Json<ProductCreate>) -> Answer {
    let app = Arc::clone(&shared.app);
    Ok(made(shared.app.run(async move { app.product_create(&actor.0, &request).await }).await?))
}

/// A product.
#[utoipa::path(params(("name" = String, Path)), responses((status = 200, body = Product)), tag = "products")]
#[get("/api/v1/products/{name}")]
async fn show(shared: web::Data<Shared>, actor: Acting, name: web::Path<ProductName>) -> Answer<web::Json<Product>> {
    let app = Arc::clone(&shared.app);
    Ok(web::Json(shared.app.run(async move { app.product_get(&actor.0, &name).await }).await?))
}

/// A product's releases, newest first.
#[utoipa::path(
    params(("name" = String, Path), Paging), responses((status = 200, body = Page<ReleaseDetail>)), tag = "products"
)]
#[get("/api/v1/products/{name}/releases")]
async fn releases(
    shared: web::Data<Shared>,
    actor: Acting,
    name: web::Path<ProductName>,
    paging: web::Query<Paging>,
) -> Answer<web::Json<Page<ReleaseDetail>>> {
    let (limit, after) = (paging.limit()?, paging.after_id::<i64>()?);
    let items = shared.app.release_list(&actor.0, &name, after, limit)?;
    Ok(page(items, limit, |one| one.release.order.to_string()))
}

/// A release.
#[utoipa::path(
    params(("name" = String, Path), ("version" = String, Path)), responses((status = 200, body = ReleaseDetail)),
    tag = "products"
)]
#[get("/api/v1/products/{name}/releases/{version}")]
async fn release(
    shared: web::Data<Shared>,
    actor: Acting,
    path: web::Path<(ProductName, Version)>,
) -> Answer<web::Json<ReleaseDetail>> {
    Ok(web::Json(shared.app.release_get(&actor.0, &path.0, &path.1)?))
}

/// Withdraw a release: it is offered no more. What runs keeps running.
#[utoipa::path(
    params(("name" = String, Path), ("version" = String, Path)), responses((status = 200, body = ReleaseDetail)),
    tag = "products"
)]
#[post("/api/v1/products/{name}/releases/{version}/withdraw")]
async fn withdraw(
    shared: web::Data<Shared>,
    actor: Acting,
    path: web::Path<(ProductName, Version)>,
) -> Answer<web::Json<ReleaseDetail>> {
    let app = Arc::clone(&shared.app);
    Ok(web::Json(shared.app.run(async move { app.release_withdraw(&actor.0, &path.0, &path.1).await }).await?))
}

/// A product's trains, in the order of their names.
#[utoipa::path(
    params(("name" = String, Path), Paging), responses((status = 200, body = Page<Train>)), tag = "products"
)]
#[get("/api/v1/products/{name}/trains")]
async fn trains(
    shared: web::Data<Shared>,
    actor: Acting,
    name: web::Path<ProductName>,
    paging: web::Query<Paging>,
) -> Answer<web::Json<Page<Train>>> {
    let (app, limit) = (Arc::clone(&shared.app), paging.limit()?);
    let items = shared.app.run(async move { app.train_list(&actor.0, &name, paging.after()?, limit).await }).await?;
    Ok(page(items, limit, |one| one.name.to_string()))
}

/// Say from when on a train gets no further fixes. That is told to whoever asks why, and decides nothing.
#[utoipa::path(
    params(("name" = String, Path), ("train" = String, Path)), responses((status = 200, body = Train)), tag = "products"
)]
#[put("/api/v1/products/{name}/trains/{train}/support-end")]
async fn support_end(
    shared: web::Data<Shared>,
    actor: Acting,
    path: web::Path<(ProductName, TrainName)>,
    request: web::Json<SupportEndSet>,
) -> Answer<web::Json<Train>> {
    let app = Arc::clone(&shared.app);
    let set = async move { app.train_support_end(&actor.0, &path.0, &path.1, request.support_end).await };
    Ok(web::Json(shared.app.run(set).await?))
}
