//! For those who operate: alive, ready, metrics.

use std::sync::Arc;

use actix_web::{HttpResponse, get, web};

use super::{Answer, Shared};
use crate::error::Error;

pub(super) fn configure(config: &mut web::ServiceConfig) {
    config.service(healthz).service(readyz).service(metrics);
}

/// The process answers.
#[get("/healthz")]
async fn healthz() -> &'static str {
    "ok\n"
}

/// Database and blob store answer and the snapshots are fresh: send requests here.
#[get("/readyz")]
async fn readyz(shared: web::Data<Shared>) -> Answer<&'static str> {
    let app = Arc::clone(&shared.app);
    shared.app.run(async move { app.ready().await }).await?;
    Ok("ready\n")
}

/// OpenMetrics.
#[get("/metrics")]
async fn metrics(shared: web::Data<Shared>) -> Answer {
    let app = Arc::clone(&shared.app);
    // Read when asked for. Without a database everything else is told all the same.
    if let Err(error) = shared.app.run(async move { app.source_ages().await }).await {
        tracing::warn!(%error, "the ages of contract sources could not be read: {error}");
    }
    let text = shared.app.metrics.text().map_err(Error::internal)?;
    Ok(HttpResponse::Ok().content_type("application/openmetrics-text; version=1.0.0; charset=utf-8").body(text))
}
