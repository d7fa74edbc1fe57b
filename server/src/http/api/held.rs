//! What is held until its moment.

use std::sync::Arc;

use actix_web::{HttpResponse, delete, get, web};
use sluice_catalog::wire::admin::Page;
use sluice_catalog::wire::publish::Held;
use utoipa_actix_web::service_config::ServiceConfig;

use super::super::auth::Acting;
use super::super::{Answer, Shared};

pub(super) fn configure(config: &mut ServiceConfig) {
    config.service(list).service(remove);
}

/// Documents of embargo roles that wait for their moment, the next first. Each role has one at most.
#[utoipa::path(responses((status = 200, body = Page<Held>)), tag = "publish")]
#[get("/api/v1/held")]
async fn list(shared: web::Data<Shared>, actor: Acting) -> Answer<web::Json<Page<Held>>> {
    let app = Arc::clone(&shared.app);
    let items = shared.app.run(async move { app.held_list(&actor.0).await }).await?;
    Ok(web::Json(Page { items, next: None }))
}

/// Drop what waits of a role. It is not published then. There is no way to have it published earlier than was signed.
#[utoipa::path(params(("role" = String, Path)), responses((status = 204)), tag = "publish")]
#[delete("/api/v1/held/{role}")]
async fn remove(shared: web::Data<Shared>, actor: Acting, role: web::Path<String>) -> Answer {
    let app = Arc::clone(&shared.app);
    shared.app.run(async move { app.held_drop(&actor.0, &role).await }).await?;
    Ok(HttpResponse::NoContent().finish())
}
