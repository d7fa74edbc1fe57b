//! Surfaces: HTTP in, [`crate::app`] and [`crate::poll`] behind. The only place with HTTP types.

pub mod api;
mod auth;
mod blobs;
mod device;
mod entitlement;
mod graphql;
mod health;
mod limits;
mod problem;
mod ranges;
mod register;
mod tuf;

use std::net::TcpListener;
use std::sync::Arc;

use actix_web::dev::{Server, Service as _};
use actix_web::{App as ActixApp, HttpServer, web};
use anyhow::Context as _;

use crate::app::App;
use crate::config::Tls;
use crate::error::Error;

pub use problem::{Answer, HttpError};

/// Longest body of a request that is neither an upload nor a publication.
const MAX_BODY_LEN: usize = 2 << 20;
/// Connections one worker holds.
const MAX_CONNECTIONS: usize = 10_000;
/// How long a client may take to send its request's head.
const HEAD_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(15);

/// What handlers share.
#[derive(Clone, Debug)]
pub struct Shared {
    /// The application.
    pub app: Arc<App>,
    /// The base URL that clients see, without a slash at its end.
    pub url: Arc<str>,
}

/// Starts the HTTP server on a listener. Caches and pools are made before, outside the factory: every worker runs it.
pub fn server(
    app: &Arc<App>,
    listener: TcpListener,
    tls: Option<&Tls>,
    url: &str,
    shutdown_s: u64,
) -> anyhow::Result<Server> {
    let shared = Shared { app: Arc::clone(app), url: url.into() };
    let schema = graphql::schema(&shared);
    let server = HttpServer::new(move || {
        let shared = shared.clone();
        let counted = Arc::clone(&shared.app);
        ActixApp::new()
            .app_data(web::Data::new(shared))
            .app_data(web::Data::new(schema.clone()))
            .app_data(problem::json_config(MAX_BODY_LEN))
            .app_data(problem::query_config())
            .app_data(problem::path_config())
            .wrap_fn(move |request, service| {
                let app = Arc::clone(&counted);
                let surface = surface(request.path());
                let started = started();
                let answered = service.call(request);
                async move {
                    let response = answered.await?;
                    app.metrics.request(surface, response.status().as_u16(), started.elapsed().as_secs_f64());
                    Ok(response)
                }
            })
            .configure(configure)
            .default_service(web::to(not_found))
    })
    .max_connections(MAX_CONNECTIONS)
    .client_request_timeout(HEAD_TIMEOUT)
    .shutdown_timeout(shutdown_s);
    let server = match tls {
        None => server.listen(listener).context("listening")?,
        Some(tls) => server.listen_rustls_0_23(listener, tls_config(tls)?).context("listening with TLS")?,
    };
    Ok(server.run())
}

#[expect(clippy::disallowed_methods, reason = "measures how long a request took; decides nothing")]
fn started() -> std::time::Instant {
    std::time::Instant::now()
}

fn surface(path: &str) -> &'static str {
    if path.starts_with("/v1/") {
        "device"
    } else if path.starts_with("/api/") {
        "api"
    } else if path.starts_with("/metadata/") || path.starts_with("/targets/") || path.starts_with("/director/") {
        "tuf"
    } else if path.starts_with("/graphql") {
        "graphql"
    } else {
        "other"
    }
}

/// Every route.
fn configure(config: &mut web::ServiceConfig) {
    health::configure(config);
    // Before the scope `/v1`, which answers everything under it.
    blobs::configure(config);
    device::configure(config);
    tuf::configure(config);
    graphql::configure(config);
    api::configure(config);
    // Last: its pattern of four segments would catch others.
    tuf::configure_downloads(config);
}

async fn not_found(request: actix_web::HttpRequest) -> Answer<String> {
    Err(Error::not_found("page", request.path()).into())
}

fn tls_config(tls: &Tls) -> anyhow::Result<rustls::ServerConfig> {
    use rustls_pki_types::pem::PemObject as _;
    let certificates = rustls_pki_types::CertificateDer::pem_file_iter(&tls.certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .with_context(|| format!("reading {}", tls.certificate.display()))?;
    let key = rustls_pki_types::PrivateKeyDer::from_pem_file(&tls.key)
        .with_context(|| format!("reading {}", tls.key.display()))?;
    rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(certificates, key)
        .context("the certificate and its key do not fit")
}
