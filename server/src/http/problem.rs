//! Errors on HTTP: `application/problem+json` (RFC 9457) with an id that finds the request in the log.

use actix_web::error::{JsonPayloadError, PathError, QueryPayloadError};
use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, ResponseError, web};
use sluice_catalog::{Kind, Problem};

use crate::clock::Dice;
use crate::error::Error;

/// An error on its way to a client.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct HttpError(pub Error);

/// What handlers return.
pub type Answer<T = HttpResponse> = Result<T, HttpError>;

impl From<Error> for HttpError {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl ResponseError for HttpError {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.0.kind.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn error_response(&self) -> HttpResponse {
        let id = hex::encode(Dice.bytes::<8>());
        let (kind, detail) = (self.0.kind, &self.0.detail);
        // Logged once, here: the detail for everyone, the cause for the log only.
        match kind {
            Kind::Internal | Kind::Unavailable if !self.0.is_told() => {
                tracing::error!(%id, kind = kind.as_str(), detail, cause = ?self.0.cause, "request {id} failed: {detail}");
            }
            _ => tracing::debug!(%id, kind = kind.as_str(), detail, "request {id} refused: {detail}"),
        }
        let mut response = HttpResponse::build(self.status_code());
        response.content_type("application/problem+json");
        match kind {
            Kind::Unauthenticated => {
                response.insert_header(("WWW-Authenticate", "Bearer"));
            }
            Kind::Unavailable | Kind::RateLimited => {
                let wait = self.0.cause.as_ref().and_then(|cause| cause.downcast_ref::<crate::app::RetryAfter>());
                response.insert_header(("Retry-After", wait.map_or(5, |wait| wait.0).to_string()));
            }
            _ => {}
        }
        response.body(serde_json::to_string(&Problem::new(kind, detail.as_str(), id)).unwrap_or_default())
    }
}

/// JSON bodies: at most `limit` bytes; what is wrong with one is said as a problem.
pub fn json_config(limit: usize) -> web::JsonConfig {
    web::JsonConfig::default().limit(limit).error_handler(|error, _: &HttpRequest| {
        let kind = match &error {
            JsonPayloadError::Overflow { .. } | JsonPayloadError::OverflowKnownLength { .. } => Kind::TooLarge,
            _ => Kind::Malformed,
        };
        HttpError(Error::new(kind, error.to_string())).into()
    })
}

/// Query strings.
pub fn query_config() -> web::QueryConfig {
    web::QueryConfig::default().error_handler(|error, _| {
        let QueryPayloadError::Deserialize(inner) = &error else {
            return HttpError(Error::new(Kind::Malformed, error.to_string())).into();
        };
        HttpError(Error::new(Kind::Malformed, format!("query: {inner}"))).into()
    })
}

/// Paths: a part that is no valid name can name nothing.
pub fn path_config() -> web::PathConfig {
    web::PathConfig::default().error_handler(|error, request| {
        let detail = match &error {
            PathError::Deserialize(inner) => inner.to_string(),
            _ => format!("there is no page `{}`", request.path()),
        };
        HttpError(Error::new(Kind::NotFound, detail)).into()
    })
}
