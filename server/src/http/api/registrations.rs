//! Registration of devices to their owners, and cover by serial.

use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, get, post, web};
use serde::Deserialize;
use sluice_catalog::text::{ProductName, Serial};
use sluice_catalog::wire::registration::{
    CodeCreate, CodeMade, Registration, RegistrationCreate, SerialCover, TransferCreate,
};
use utoipa_actix_web::service_config::ServiceConfig;

use super::super::auth::Acting;
use super::super::limits::{Surface, limit};
use super::super::{Answer, Shared};

pub(super) fn configure(config: &mut ServiceConfig) {
    config.service(create).service(code).service(release).service(transfer).service(lookup);
}

/// Register a device to its owner, with the code that it shows or that was printed.
#[utoipa::path(responses((status = 200, body = Registration)), tag = "registrations")]
#[post("/api/v1/registrations")]
async fn create(
    shared: web::Data<Shared>,
    actor: Acting,
    asked: HttpRequest,
    request: web::Json<RegistrationCreate>,
) -> Answer<web::Json<Registration>> {
    limit(&shared, &asked, Surface::Register, Some((&request.product, &request.serial)))?;
    let app = Arc::clone(&shared.app);
    Ok(web::Json(shared.app.run(async move { app.registration_create(&actor.0, &request).await }).await?))
}

/// Make a registration code to be printed; it is shown this once.
#[utoipa::path(
    params(("product" = String, Path), ("serial" = String, Path)), responses((status = 201, body = CodeMade)),
    tag = "registrations"
)]
#[post("/api/v1/products/{product}/devices/{serial}/registration-code")]
async fn code(
    shared: web::Data<Shared>,
    actor: Acting,
    path: web::Path<(ProductName, Serial)>,
    request: web::Json<CodeCreate>,
) -> Answer {
    let app = Arc::clone(&shared.app);
    let made = shared.app.run(async move { app.registration_code_printed(&actor.0, &path.0, &path.1, &request).await });
    Ok(HttpResponse::Created().json(made.await?))
}

/// Give a device up: it is nobody's, and its codes are void.
#[utoipa::path(
    params(("product" = String, Path), ("serial" = String, Path)), responses((status = 200, body = Registration)),
    tag = "registrations"
)]
#[post("/api/v1/products/{product}/devices/{serial}/release")]
async fn release(
    shared: web::Data<Shared>,
    actor: Acting,
    path: web::Path<(ProductName, Serial)>,
) -> Answer<web::Json<Registration>> {
    let app = Arc::clone(&shared.app);
    Ok(web::Json(shared.app.run(async move { app.registration_release(&actor.0, &path.0, &path.1).await }).await?))
}

/// Give a device to another customer; administrators only.
#[utoipa::path(
    params(("product" = String, Path), ("serial" = String, Path)), responses((status = 200, body = Registration)),
    tag = "registrations"
)]
#[post("/api/v1/products/{product}/devices/{serial}/transfer")]
async fn transfer(
    shared: web::Data<Shared>,
    actor: Acting,
    path: web::Path<(ProductName, Serial)>,
    request: web::Json<TransferCreate>,
) -> Answer<web::Json<Registration>> {
    let app = Arc::clone(&shared.app);
    let moved = shared.app.run(async move { app.registration_transfer(&actor.0, &path.0, &path.1, &request).await });
    Ok(web::Json(moved.await?))
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct Asked {
    /// The serial.
    serial: Serial,
    /// Of this product only.
    product: Option<ProductName>,
}

/// What contracts say of a serial.
#[utoipa::path(params(Asked), responses((status = 200, body = Vec<SerialCover>)), tag = "contracts")]
#[get("/api/v1/cover")]
async fn lookup(
    shared: web::Data<Shared>,
    actor: Acting,
    asked: web::Query<Asked>,
) -> Answer<web::Json<Vec<SerialCover>>> {
    let app = Arc::clone(&shared.app);
    let found = shared.app.run(async move { app.cover_lookup(&actor.0, asked.product.as_ref(), &asked.serial).await });
    Ok(web::Json(found.await?))
}
