//! Devices, enrolment tokens, and why.

use std::sync::Arc;

use actix_web::{HttpResponse, delete, get, patch, post, put, web};
use serde::Deserialize;
use sluice_catalog::decide::Why;
use sluice_catalog::device::{Device, DeviceState, EnrolToken};
use sluice_catalog::id::EnrolTokenId;
use sluice_catalog::text::{ProductName, Serial, Slug, Version};
use sluice_catalog::wire::admin::{
    DeviceCreate, DeviceDetail, DevicePatch, DeviceStateChange, EnrolTokenCreate, EnrolTokenCreated, Page,
};
use sluice_catalog::wire::erasure::Erased;
use sluice_catalog::wire::rollout::{UpdateNow, UpdateNowSet};
use sluice_catalog::{Mac, Time};
use utoipa_actix_web::service_config::ServiceConfig;

use crate::app;

use super::super::auth::Acting;
use super::super::{Answer, Shared};
use super::{Paging, made, page};

pub(super) fn configure(config: &mut ServiceConfig) {
    config
        .service(list)
        .service(create)
        .service(show)
        .service(change)
        .service(state)
        .service(revoke)
        .service(erase)
        .service(why)
        .service(update_now)
        .service(update_now_end)
        .service(tokens)
        .service(token)
        .service(token_revoke);
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct Filter {
    /// Of this product only.
    product: Option<ProductName>,
    /// In this state only.
    state: Option<DeviceState>,
    /// Of this customer only; for a principal that is bound to a customer its own unless given.
    customer: Option<Slug>,
    /// With this address of its network interface only.
    mac: Option<Mac>,
    /// `next` of the page before.
    after: Option<String>,
    /// Items, 1 to 500; 50 unless given.
    limit: Option<u32>,
}

/// Devices, in the order they were registered.
#[utoipa::path(params(Filter), responses((status = 200, body = Page<Device>)), tag = "devices")]
#[get("/api/v1/devices")]
async fn list(shared: web::Data<Shared>, actor: Acting, filter: web::Query<Filter>) -> Answer<web::Json<Page<Device>>> {
    let filter = filter.into_inner();
    let paging = Paging { after: filter.after, limit: filter.limit };
    let (app, limit, after) = (Arc::clone(&shared.app), paging.limit()?, paging.after_id()?);
    let items = shared
        .app
        .run(async move {
            let (product, customer) = (filter.product.as_ref(), filter.customer.as_ref());
            app.device_list(&actor.0, product, (filter.state, filter.mac), customer, after, limit).await
        })
        .await?;
    Ok(page(items, limit, |one| one.id.to_string()))
}

/// Register a device before it enrols.
#[utoipa::path(responses((status = 201, body = Device), (status = 200, body = Device)), tag = "devices")]
#[post("/api/v1/devices")]
async fn create(shared: web::Data<Shared>, actor: Acting, request: web::Json<DeviceCreate>) -> Answer {
    let app = Arc::clone(&shared.app);
    Ok(made(shared.app.run(async move { app.device_create(&actor.0, &request).await }).await?))
}

/// A device with what it runs and its last attempts.
#[utoipa::path(
    params(("product" = String, Path), ("serial" = String, Path)), responses((status = 200, body = DeviceDetail)),
    tag = "devices"
)]
#[get("/api/v1/products/{product}/devices/{serial}")]
async fn show(
    shared: web::Data<Shared>,
    actor: Acting,
    path: web::Path<(ProductName, Serial)>,
) -> Answer<web::Json<DeviceDetail>> {
    let app = Arc::clone(&shared.app);
    Ok(web::Json(shared.app.run(async move { app.device_get(&actor.0, &path.0, &path.1).await }).await?))
}

/// Change where a device stands, its labels and the address of its network interface. What is absent stays; `null` takes away.
#[utoipa::path(
    params(("product" = String, Path), ("serial" = String, Path)), responses((status = 200, body = Device)),
    tag = "devices"
)]
#[patch("/api/v1/products/{product}/devices/{serial}")]
async fn change(
    shared: web::Data<Shared>,
    actor: Acting,
    path: web::Path<(ProductName, Serial)>,
    request: web::Json<DevicePatch>,
) -> Answer<web::Json<Device>> {
    let app = Arc::clone(&shared.app);
    Ok(web::Json(shared.app.run(async move { app.device_patch(&actor.0, &path.0, &path.1, &request).await }).await?))
}

/// Accept, block or retire a device.
#[utoipa::path(
    params(("product" = String, Path), ("serial" = String, Path)), responses((status = 200, body = Device)),
    tag = "devices"
)]
#[post("/api/v1/products/{product}/devices/{serial}/state")]
async fn state(
    shared: web::Data<Shared>,
    actor: Acting,
    path: web::Path<(ProductName, Serial)>,
    request: web::Json<DeviceStateChange>,
) -> Answer<web::Json<Device>> {
    let app = Arc::clone(&shared.app);
    Ok(web::Json(shared.app.run(async move { app.device_state(&actor.0, &path.0, &path.1, &request).await }).await?))
}

/// End every session of a device and forget its key.
#[utoipa::path(
    params(("product" = String, Path), ("serial" = String, Path)), responses((status = 200, body = Device)),
    tag = "devices"
)]
#[post("/api/v1/products/{product}/devices/{serial}/revoke")]
async fn revoke(
    shared: web::Data<Shared>,
    actor: Acting,
    path: web::Path<(ProductName, Serial)>,
) -> Answer<web::Json<Device>> {
    let app = Arc::clone(&shared.app);
    Ok(web::Json(shared.app.run(async move { app.device_revoke(&actor.0, &path.0, &path.1).await }).await?))
}

/// Erase the owner, the place, the key and the serial of a retired or replaced device.
#[utoipa::path(
    params(("product" = String, Path), ("serial" = String, Path)), responses((status = 200, body = Erased)),
    tag = "devices"
)]
#[post("/api/v1/products/{product}/devices/{serial}/erase")]
async fn erase(
    shared: web::Data<Shared>,
    actor: Acting,
    path: web::Path<(ProductName, Serial)>,
) -> Answer<web::Json<Erased>> {
    let app = Arc::clone(&shared.app);
    Ok(web::Json(shared.app.run(async move { app.device_erase(&actor.0, &path.0, &path.1).await }).await?))
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct Question {
    /// About this version only.
    version: Option<Version>,
    /// At this moment, past or future; now unless given.
    at: Option<Time>,
    /// By what was known at this moment; by what is known now unless given.
    known_at: Option<Time>,
}

/// Why a device gets, or does not get, a version.
#[utoipa::path(
    params(("product" = String, Path), ("serial" = String, Path), Question), responses((status = 200, body = Why)),
    tag = "devices"
)]
#[get("/api/v1/products/{product}/devices/{serial}/why")]
async fn why(
    shared: web::Data<Shared>,
    actor: Acting,
    path: web::Path<(ProductName, Serial)>,
    question: web::Query<Question>,
) -> Answer<web::Json<Why>> {
    let app = Arc::clone(&shared.app);
    let why = shared.app.run(async move {
        let Question { version, at, known_at } = question.into_inner();
        app.why(&actor.0, &path.0, &path.1, app::Question { version: version.as_ref(), at, known_at }).await
    });
    Ok(web::Json(why.await?))
}

/// Ask for a version on a device at once: its next poll offers it before its stage opens and outside its windows, if the device is
/// entitled to it and nobody stopped or holds it.
#[utoipa::path(
    params(("product" = String, Path), ("serial" = String, Path)), responses((status = 200, body = UpdateNowSet)),
    tag = "devices"
)]
#[put("/api/v1/products/{product}/devices/{serial}/update-now")]
async fn update_now(
    shared: web::Data<Shared>,
    actor: Acting,
    path: web::Path<(ProductName, Serial)>,
    request: web::Json<UpdateNow>,
) -> Answer<web::Json<UpdateNowSet>> {
    let app = Arc::clone(&shared.app);
    let set = shared.app.run(async move { app.update_now(&actor.0, &path.0, &path.1, &request).await }).await?;
    Ok(web::Json(set))
}

/// Take back what was asked for at once on a device.
#[utoipa::path(params(("product" = String, Path), ("serial" = String, Path)), responses((status = 204)), tag = "devices")]
#[delete("/api/v1/products/{product}/devices/{serial}/update-now")]
async fn update_now_end(shared: web::Data<Shared>, actor: Acting, path: web::Path<(ProductName, Serial)>) -> Answer {
    let app = Arc::clone(&shared.app);
    shared.app.run(async move { app.update_now_end(&actor.0, &path.0, &path.1).await }).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Enrolment tokens, in the order they were made.
#[utoipa::path(params(Paging), responses((status = 200, body = Page<EnrolToken>)), tag = "devices")]
#[get("/api/v1/enrol-tokens")]
async fn tokens(
    shared: web::Data<Shared>,
    actor: Acting,
    paging: web::Query<Paging>,
) -> Answer<web::Json<Page<EnrolToken>>> {
    let (app, limit, after) = (Arc::clone(&shared.app), paging.limit()?, paging.after_id::<EnrolTokenId>()?);
    let items = shared.app.run(async move { app.enrol_token_list(&actor.0, after, limit).await }).await?;
    Ok(page(items, limit, |one| one.id.to_string()))
}

/// Make a one-use or batch enrolment token; its secret is shown this once.
#[utoipa::path(responses((status = 201, body = EnrolTokenCreated)), tag = "devices")]
#[post("/api/v1/enrol-tokens")]
async fn token(shared: web::Data<Shared>, actor: Acting, request: web::Json<EnrolTokenCreate>) -> Answer {
    let app = Arc::clone(&shared.app);
    let made = shared.app.run(async move { app.enrol_token_create(&actor.0, &request).await }).await?;
    Ok(HttpResponse::Created().json(made))
}

/// Revoke an enrolment token.
#[utoipa::path(params(("id" = String, Path)), responses((status = 204)), tag = "devices")]
#[delete("/api/v1/enrol-tokens/{id}")]
async fn token_revoke(shared: web::Data<Shared>, actor: Acting, id: web::Path<EnrolTokenId>) -> Answer {
    let app = Arc::clone(&shared.app);
    shared.app.run(async move { app.enrol_token_revoke(&actor.0, *id).await }).await?;
    Ok(HttpResponse::NoContent().finish())
}
