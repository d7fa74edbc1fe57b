//! What a device, or whoever proves to have one, asks besides updates: registration and cover. `docs/registration.md` tells it.

use std::sync::Arc;

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, post, web};
use sluice_catalog::wire::registration::{CodeMade, CodeRequest, CoverRequest, RegisterRequest, RegisterResponse};

use super::limits::{Surface, failed, limit};
use super::{Answer, Shared};

pub(super) fn configure(config: &mut web::ServiceConfig) {
    config.service(register).service(code).service(cover);
}

#[post("/register")]
async fn register(
    shared: web::Data<Shared>,
    asked: HttpRequest,
    request: web::Json<RegisterRequest>,
) -> Answer<web::Json<RegisterResponse>> {
    limit(&shared, &asked, Surface::Register, None)?;
    let (app, about) = (Arc::clone(&shared.app), (request.product.clone(), request.serial.clone()));
    let registered = shared.app.run(async move { app.register(&request).await }).await;
    Ok(web::Json(registered.map_err(|error| failed(&shared, Surface::Register, &about, error))?))
}

#[post("/registration-code")]
async fn code(
    shared: web::Data<Shared>,
    asked: HttpRequest,
    request: web::Json<CodeRequest>,
) -> Answer<web::Json<CodeMade>> {
    limit(&shared, &asked, Surface::Register, None)?;
    let (app, about) = (Arc::clone(&shared.app), (request.product.clone(), request.serial.clone()));
    let made = shared.app.run(async move { app.registration_code_shown(&request).await }).await;
    Ok(web::Json(made.map_err(|error| failed(&shared, Surface::Register, &about, error))?))
}

#[post("/cover")]
async fn cover(shared: web::Data<Shared>, asked: HttpRequest, request: web::Json<CoverRequest>) -> Answer {
    // A code can be guessed, a signature cannot.
    let about = (request.product.clone(), request.serial.clone());
    limit(&shared, &asked, Surface::Cover, request.code.is_some().then_some((&about.0, &about.1)))?;
    let (app, by_code) = (Arc::clone(&shared.app), request.code.is_some());
    let answer = shared.app.run(async move { app.cover(&request).await }).await;
    let answer =
        answer.map_err(|error| if by_code { error.into() } else { failed(&shared, Surface::Cover, &about, error) })?;
    Ok(HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "no-store")).json(answer))
}
