//! `GET /v1/entitlement`: a device's certificate, for when the server is away. `docs/device-protocol.md` tells it.

use std::sync::Arc;

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, get, web};

use super::auth::{self, DeviceSession};
use super::{Answer, Shared};
use crate::app::keep;

#[get("/entitlement")]
pub(super) async fn entitlement(shared: web::Data<Shared>, session: DeviceSession, request: HttpRequest) -> Answer {
    let device = auth::device(&shared, session.0).await.map_err(keep)?;
    let held = request.headers().get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let (app, asked) = (Arc::clone(&shared.app), held.clone());
    let signed = shared.app.run(async move { app.certificate(&device, asked.as_deref()).await }).await?;
    Ok(match signed {
        Some(signed) => HttpResponse::Ok()
            .insert_header((header::ETAG, signed.etag.as_str()))
            .insert_header((header::CACHE_CONTROL, "no-store"))
            .content_type("application/json")
            .body(signed.body.clone()),
        None => HttpResponse::NotModified().insert_header((header::ETAG, held.unwrap_or_default())).finish(),
    })
}
