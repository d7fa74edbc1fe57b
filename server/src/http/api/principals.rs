//! Principals and tokens.

use std::sync::Arc;

use actix_web::{HttpResponse, delete, get, post, web};
use sluice_catalog::Kind;
use sluice_catalog::id::TokenId;
use sluice_catalog::principal::Principal;
use sluice_catalog::text::Slug;
use sluice_catalog::wire::admin::{BootstrapRequest, Page, PrincipalCreate, TokenCreate, TokenCreated};
use utoipa_actix_web::service_config::ServiceConfig;

use super::super::auth::Acting;
use super::super::{Answer, Shared};
use super::{Paging, made, page};
use crate::app::Actor;
use crate::error::Error;

pub(super) fn configure(config: &mut ServiceConfig) {
    config.service(bootstrap).service(me).service(list).service(create).service(disable).service(token).service(revoke);
}

/// Make the first administrator; only with the bootstrap token, only once.
#[utoipa::path(responses((status = 201, body = TokenCreated)), tag = "principals")]
#[post("/api/v1/bootstrap")]
async fn bootstrap(shared: web::Data<Shared>, actor: Acting, request: web::Json<BootstrapRequest>) -> Answer {
    let app = Arc::clone(&shared.app);
    let made = shared.app.run(async move { app.bootstrap(&actor.0, &request).await }).await?;
    Ok(HttpResponse::Created().json(made))
}

/// Who this token belongs to.
#[utoipa::path(responses((status = 200, body = Principal)), tag = "principals")]
#[get("/api/v1/me")]
async fn me(actor: Acting) -> Answer<web::Json<Principal>> {
    match actor.0 {
        Actor::Principal { principal, .. } => Ok(web::Json(principal)),
        _ => Err(Error::new(Kind::Forbidden, "this token belongs to no principal").into()),
    }
}

/// Principals, in the order of their names.
#[utoipa::path(params(Paging), responses((status = 200, body = Page<Principal>)), tag = "principals")]
#[get("/api/v1/principals")]
async fn list(
    shared: web::Data<Shared>,
    actor: Acting,
    paging: web::Query<Paging>,
) -> Answer<web::Json<Page<Principal>>> {
    let (app, limit) = (Arc::clone(&shared.app), paging.limit()?);
    let items = shared.app.run(async move { app.principal_list(&actor.0, paging.after()?, limit).await }).await?;
    Ok(page(items, limit, |one| one.name.to_string()))
}

/// Make a principal.
#[utoipa::path(responses((status = 201, body = Principal), (status = 200, body = Principal)), tag = "principals")]
#[post("/api/v1/principals")]
async fn create(shared: web::Data<Shared>, actor: Acting, request: web::Json<PrincipalCreate>) -> Answer {
    let app = Arc::clone(&shared.app);
    Ok(made(shared.app.run(async move { app.principal_create(&actor.0, &request).await }).await?))
}

/// Disable a principal: all its tokens are dead.
#[utoipa::path(params(("name" = String, Path)), responses((status = 200, body = Principal)), tag = "principals")]
#[post("/api/v1/principals/{name}/disable")]
async fn disable(shared: web::Data<Shared>, actor: Acting, name: web::Path<Slug>) -> Answer<web::Json<Principal>> {
    let app = Arc::clone(&shared.app);
    Ok(web::Json(shared.app.run(async move { app.principal_disable(&actor.0, &name).await }).await?))
}

/// Make a token for a principal; its secret is shown this once.
#[utoipa::path(params(("name" = String, Path)), responses((status = 201, body = TokenCreated)), tag = "principals")]
#[post("/api/v1/principals/{name}/tokens")]
async fn token(
    shared: web::Data<Shared>,
    actor: Acting,
    name: web::Path<Slug>,
    request: web::Json<TokenCreate>,
) -> Answer {
    let app = Arc::clone(&shared.app);
    let made = shared.app.run(async move { app.token_create(&actor.0, &name, &request).await }).await?;
    Ok(HttpResponse::Created().json(made))
}

/// Revoke a token.
#[utoipa::path(params(("id" = String, Path)), responses((status = 204)), tag = "principals")]
#[delete("/api/v1/tokens/{id}")]
async fn revoke(shared: web::Data<Shared>, actor: Acting, id: web::Path<TokenId>) -> Answer {
    let app = Arc::clone(&shared.app);
    shared.app.run(async move { app.token_revoke(&actor.0, *id).await }).await?;
    Ok(HttpResponse::NoContent().finish())
}
