//! The administrative REST API `/api/v1`. Its OpenAPI document is made from these handlers and the catalogue's types.

mod contracts;
mod customers;
mod devices;
mod entitlement;
mod events;
mod fleet;
mod held;
mod principals;
mod products;
mod publish;
mod registrations;
mod rollouts;
mod sources;
mod status;

use actix_web::{HttpResponse, get, web};
use serde::{Deserialize, Serialize};
use sluice_catalog::wire::admin::{DEFAULT_PAGE, MAX_PAGE, Page};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{InfoBuilder, LicenseBuilder, OpenApi};
use utoipa_actix_web::AppExt as _;
use utoipa_actix_web::service_config::ServiceConfig;

use super::Answer;
use crate::app::Made;
use crate::error::{Error, Result};

fn routes(config: &mut ServiceConfig) {
    config
        .service(document)
        .configure(principals::configure)
        .configure(products::configure)
        .configure(customers::configure)
        .configure(contracts::configure)
        .configure(devices::configure)
        .configure(entitlement::configure)
        .configure(events::configure)
        .configure(registrations::configure)
        .configure(fleet::configure)
        .configure(sources::configure)
        .configure(rollouts::configure)
        .configure(publish::configure)
        .configure(held::configure)
        .configure(status::configure);
}

/// Adds the routes.
pub(super) fn configure(config: &mut web::ServiceConfig) {
    // The document that it collects on the way is dropped: only the routes are wanted here.
    let mut collected = ServiceConfig::new(config);
    routes(&mut collected);
}

/// The OpenAPI document of the REST API.
pub fn openapi() -> OpenApi {
    let (_, mut openapi) = actix_web::App::new().into_utoipa_app().configure(routes).split_for_parts();
    openapi.info = InfoBuilder::new()
        .title("Sluice administrative API")
        .version("1")
        .description(Some(
            "Everything an administrator, support agent or release pipeline does. Times are RFC 3339, digests 64 \
             hexadecimal digits. Problems are application/problem+json with a stable `kind`. A repeated create with the \
             same content answers 200 instead of 201.",
        ))
        .license(Some(LicenseBuilder::new().name("Apache-2.0").identifier(Some("Apache-2.0")).build()))
        .contact(None::<utoipa::openapi::Contact>)
        .build();
    let components = openapi.components.get_or_insert_default();
    components.add_security_scheme("token", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
    openapi.security =
        Some(vec![utoipa::openapi::security::SecurityRequirement::new::<_, [&str; 0], &str>("token", [])]);
    openapi
}

/// The OpenAPI document.
#[utoipa::path(responses((status = 200, description = "OpenAPI 3.1 document", body = Object)), tag = "status")]
#[get("/api/v1/openapi.json")]
async fn document() -> Answer {
    let text = openapi().to_json().map_err(Error::internal)?;
    Ok(HttpResponse::Ok().content_type("application/json").body(text))
}

/// Where a list continues and how much of it is wanted.
#[derive(Clone, Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct Paging {
    /// `next` of the page before.
    #[serde(default)]
    after: Option<String>,
    /// Items, 1 to 500; 50 unless given.
    #[serde(default)]
    limit: Option<u32>,
}

impl Paging {
    /// Refuses what no name has: PostgreSQL takes no text with a NUL.
    fn after(&self) -> Result<&str> {
        let after = self.after.as_deref().unwrap_or_default();
        if after.contains('\0') {
            return Err(Error::invalid("after", "has a NUL character, which no name has"));
        }
        Ok(after)
    }

    fn after_id<T: std::str::FromStr>(&self) -> Result<Option<T>>
    where
        T::Err: std::fmt::Display,
    {
        self.after.as_deref().map(str::parse).transpose().map_err(|error| Error::invalid("after", error))
    }

    fn limit(&self) -> Result<u32> {
        match self.limit {
            None => Ok(DEFAULT_PAGE),
            Some(limit) if (1..=MAX_PAGE).contains(&limit) => Ok(limit),
            Some(limit) => Err(Error::invalid("limit", format!("{limit}: 1 to {MAX_PAGE}"))),
        }
    }
}

/// A full page has a next one, which may be empty.
fn page<T>(items: Vec<T>, limit: u32, key: impl Fn(&T) -> String) -> web::Json<Page<T>> {
    let next = (items.len() >= limit as usize).then(|| items.last().map(key)).flatten();
    web::Json(Page { items, next })
}

/// 201 for what was made, 200 for what was there already.
fn made<T: Serialize>(made: Made<T>) -> HttpResponse {
    match made {
        Made::New(thing) => HttpResponse::Created().json(thing),
        Made::Same(thing) => HttpResponse::Ok().json(thing),
    }
}
