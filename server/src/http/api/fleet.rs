//! Answers about a whole fleet, as lines of JSON that are sent while they are made.

use std::sync::Arc;

use actix_web::{HttpResponse, get, post, web};
use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use serde::Deserialize;
use sluice_catalog::Time;
use sluice_catalog::device::DeviceState;
use sluice_catalog::text::{ProductName, Slug, Version};
use sluice_catalog::wire::entitlement::WhatIf;
use sluice_catalog::wire::fleet::FleetLine;
use utoipa_actix_web::service_config::ServiceConfig;

use super::super::auth::Acting;
use super::super::{Answer, Shared};
use crate::app::DeviceFilter;

/// Lines that are written at once.
const LINES_AT_ONCE: usize = 500;

pub(super) fn configure(config: &mut ServiceConfig) {
    config.service(why).service(forecast).service(what_if);
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct Which {
    /// In this state only.
    state: Option<DeviceState>,
    /// Of this customer only.
    customer: Option<Slug>,
    /// At sites of this name only.
    site: Option<Slug>,
    /// With this tag only.
    tag: Option<Slug>,
}

impl From<Which> for DeviceFilter {
    fn from(which: Which) -> Self {
        let Which { state, customer, site, tag } = which;
        Self { state, customer, site, tag, ..Self::default() }
    }
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct WhyQuery {
    /// About this version only; what each device gets, when absent.
    version: Option<Version>,
    /// At this moment, now or to come; now when absent.
    at: Option<Time>,
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct ForecastQuery {
    /// From this moment on; from now on when absent.
    from: Option<Time>,
    /// Until this moment.
    to: Time,
}

/// Why does each device of a product get, or not get, a version? A line of JSON for each, in the order they were registered, and a
/// summary at the end.
#[utoipa::path(
    params(("product" = String, Path), WhyQuery, Which),
    responses((status = 200, content_type = "application/x-ndjson", body = FleetLine)), tag = "devices"
)]
#[get("/api/v1/products/{product}/why")]
async fn why(
    shared: web::Data<Shared>,
    actor: Acting,
    product: web::Path<ProductName>,
    asked: web::Query<WhyQuery>,
    which: web::Query<Which>,
) -> Answer {
    let WhyQuery { version, at } = asked.into_inner();
    Ok(stream(shared.app.fleet_why(&actor.0, &product, version, at, which.into_inner().into())?))
}

/// Which devices of a product lose or gain versions between two moments, when nobody does anything? A line of JSON for each that
/// does, and a summary at the end.
#[utoipa::path(
    params(("product" = String, Path), ForecastQuery, Which),
    responses((status = 200, content_type = "application/x-ndjson", body = FleetLine)), tag = "entitlement"
)]
#[get("/api/v1/products/{product}/forecast")]
async fn forecast(
    shared: web::Data<Shared>,
    actor: Acting,
    product: web::Path<ProductName>,
    asked: web::Query<ForecastQuery>,
    which: web::Query<Which>,
) -> Answer {
    let ForecastQuery { from, to } = asked.into_inner();
    Ok(stream(shared.app.fleet_forecast(&actor.0, &product, from, to, which.into_inner().into())?))
}

/// What would a change of contracts do? It is made and taken back. A line of JSON for each device that gains or loses a version or a
/// code, and a summary at the end.
#[utoipa::path(
    request_body = WhatIf, responses((status = 200, content_type = "application/x-ndjson", body = FleetLine)), tag = "entitlement"
)]
#[post("/api/v1/what-if")]
async fn what_if(shared: web::Data<Shared>, actor: Acting, change: web::Json<WhatIf>) -> Answer {
    let app = Arc::clone(&shared.app);
    let mut lines = shared.app.run(async move { app.what_if(&actor.0, &change).await }).await?;
    let mut pages = Vec::with_capacity(lines.len() / LINES_AT_ONCE + 1);
    while !lines.is_empty() {
        let rest = lines.split_off(lines.len().min(LINES_AT_ONCE));
        pages.push(std::mem::replace(&mut lines, rest));
    }
    Ok(stream(futures::stream::iter(pages)))
}

/// Sends pages as they come. When the client goes away the receiver is dropped, and with it the work ends.
fn stream(pages: impl Stream<Item = Vec<FleetLine>> + 'static) -> HttpResponse {
    let bytes = pages.map(|page| {
        let mut text = Vec::with_capacity(page.len() * 256);
        for line in page {
            serde_json::to_writer(&mut text, &line).map_err(std::io::Error::from)?;
            text.push(b'\n');
        }
        Ok::<_, std::io::Error>(Bytes::from(text))
    });
    HttpResponse::Ok()
        .content_type("application/x-ndjson")
        .insert_header((actix_web::http::header::CACHE_CONTROL, "no-store"))
        .streaming(bytes)
}
