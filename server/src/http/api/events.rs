//! Events, page by page or as they come.

use std::sync::Arc;
use std::time::Duration;

use actix_web::{get, put, web};
use serde::Deserialize;
use sluice_catalog::text::{ContractNumber, Slug};
use sluice_catalog::wire::admin::Page;
use sluice_catalog::wire::event::{Event, MAX_WAIT_S, ZoneSet};
use utoipa_actix_web::service_config::ServiceConfig;

use super::super::auth::Acting;
use super::super::{Answer, Shared};
use super::{Paging, page};
use crate::app::EventQuery;
use crate::error::Error;

pub(super) fn configure(config: &mut ServiceConfig) {
    config.service(list).service(zone);
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct Filter {
    /// After this number; `next` of the page before.
    after: Option<String>,
    /// Of this kind only.
    kind: Option<String>,
    /// Of this customer only.
    customer: Option<Slug>,
    /// Items, 1 to 500; 50 unless given.
    limit: Option<u32>,
    /// Seconds to wait for an event when there is none yet, at most 25.
    wait: Option<u32>,
}

/// Events in the order in which they were written.
#[utoipa::path(params(Filter), responses((status = 200, body = Page<Event>)), tag = "events")]
#[get("/api/v1/events")]
async fn list(shared: web::Data<Shared>, actor: Acting, filter: web::Query<Filter>) -> Answer<web::Json<Page<Event>>> {
    let filter = filter.into_inner();
    let wait = filter.wait.unwrap_or(0);
    if wait > MAX_WAIT_S {
        return Err(Error::invalid("wait", format!("{wait}: at most {MAX_WAIT_S} seconds")).into());
    }
    if filter.kind.as_ref().is_some_and(|kind| kind.contains('\0')) {
        return Err(Error::invalid("kind", "has a NUL character, which no kind has").into());
    }
    let paging = Paging { after: filter.after, limit: filter.limit };
    let (limit, after) = (paging.limit()?, paging.after_id::<i64>()?.unwrap_or(0));
    let query = EventQuery { after, kind: filter.kind, customer: filter.customer, limit };
    let read = || {
        let (app, actor, query) = (Arc::clone(&shared.app), actor.0.clone(), query.clone());
        shared.app.run(async move { app.event_list(&actor, &query).await })
    };
    // Before the look, so that what is written meanwhile wakes.
    let mut newest = shared.app.events_watch();
    newest.mark_unchanged();
    let mut items = read().await?;
    if items.is_empty() && wait > 0 {
        let waiting = async {
            while newest.changed().await.is_ok() {
                let found = read().await;
                if !matches!(&found, Ok(items) if items.is_empty()) {
                    return found;
                }
            }
            Ok(Vec::new())
        };
        if let Ok(found) = tokio::time::timeout(Duration::from_secs(wait.into()), waiting).await {
            items = found?;
        }
    }
    Ok(page(items, limit, |one| one.seq.to_string()))
}

/// The time zone in which a contract's days are counted.
#[utoipa::path(params(("number" = String, Path)), responses((status = 200, body = ZoneSet)), tag = "contracts")]
#[put("/api/v1/contracts/{number}/zone")]
async fn zone(
    shared: web::Data<Shared>,
    actor: Acting,
    number: web::Path<ContractNumber>,
    request: web::Json<ZoneSet>,
) -> Answer<web::Json<ZoneSet>> {
    let app = Arc::clone(&shared.app);
    Ok(web::Json(shared.app.run(async move { app.contract_zone(&actor.0, &number, &request).await }).await?))
}
