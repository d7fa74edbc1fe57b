//! Rollouts.

use std::sync::Arc;

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, delete, get, post, put, web};
use serde::Deserialize;
use sluice_catalog::rollout::{Failure, Rollout};
use sluice_catalog::text::{ProductName, Slug};
use sluice_catalog::wire::admin::Page;
use sluice_catalog::wire::failure::RolloutFailure;
use sluice_catalog::wire::live::{RolloutLive, SeriesPoint};
use sluice_catalog::wire::rollout::{
    ApproverEnrol, ApproverKey, AudienceAsk, AudienceCount, RolloutApprove, RolloutCreate, RolloutDetail, RolloutMove,
    StopAll,
};
use sluice_catalog::{Digest, Time};
use utoipa_actix_web::service_config::ServiceConfig;

use super::super::auth::{Acting, bearer};
use super::super::{Answer, Shared};
use super::{Paging, made, page};
use crate::app::LiveEvent;

pub(super) fn configure(config: &mut ServiceConfig) {
    config
        .service(list)
        .service(count)
        .service(audience)
        .service(create)
        .service(show)
        .service(live)
        .service(series)
        .service(failures)
        .service(edit)
        .service(movement)
        .service(approve)
        .service(approvers)
        .service(enrol)
        .service(revoke)
        .service(stop_all_get)
        .service(stop_all_set);
}

/// Rollouts, in the order of their names.
#[utoipa::path(params(Paging), responses((status = 200, body = Page<Rollout>)), tag = "rollouts")]
#[get("/api/v1/rollouts")]
async fn list(
    shared: web::Data<Shared>,
    actor: Acting,
    paging: web::Query<Paging>,
) -> Answer<web::Json<Page<Rollout>>> {
    let (app, limit) = (Arc::clone(&shared.app), paging.limit()?);
    let items = shared.app.run(async move { app.rollout_list(&actor.0, paging.after()?, limit).await }).await?;
    Ok(page(items, limit, |one| one.name.to_string()))
}

/// How many devices of a product an audience holds now, by hardware and by running version.
#[utoipa::path(params(("product" = String, Path)), responses((status = 200, body = AudienceCount)), tag = "rollouts")]
#[post("/api/v1/products/{product}/audience/count")]
async fn count(
    shared: web::Data<Shared>,
    actor: Acting,
    product: web::Path<ProductName>,
    request: web::Json<AudienceAsk>,
) -> Answer<web::Json<AudienceCount>> {
    let app = Arc::clone(&shared.app);
    Ok(web::Json(shared.app.run(async move { app.audience_count(&actor.0, &product, &request).await }).await?))
}

/// Make a rollout, as a draft.
#[utoipa::path(responses((status = 201, body = RolloutDetail), (status = 200, body = RolloutDetail)), tag = "rollouts")]
#[post("/api/v1/rollouts")]
async fn create(shared: web::Data<Shared>, actor: Acting, request: web::Json<RolloutCreate>) -> Answer {
    let app = Arc::clone(&shared.app);
    Ok(made(shared.app.run(async move { app.rollout_create(&actor.0, &request).await }).await?))
}

/// A rollout with its history, attempts and patches.
#[utoipa::path(params(("name" = String, Path)), responses((status = 200, body = RolloutDetail)), tag = "rollouts")]
#[get("/api/v1/rollouts/{name}")]
async fn show(shared: web::Data<Shared>, actor: Acting, name: web::Path<Slug>) -> Answer<web::Json<RolloutDetail>> {
    let app = Arc::clone(&shared.app);
    Ok(web::Json(shared.app.run(async move { app.rollout_get(&actor.0, &name).await }).await?))
}

/// Longest `Last-Event-ID` that can be one of ours.
const MAX_EVENT_ID_LEN: usize = 64;

/// A rollout as it stands and, as `text/event-stream`, again with every change: the whole state each time. `Last-Event-ID` names the
/// state that a client has. A comment every 15 seconds shows that the stream is open. Who does not read is left; a stream ends when its
/// token opens it no more, when the rollout cannot be looked at for half a minute, and after half an hour: ask again. Without
/// `text/event-stream` in `Accept` the state is sent once, as JSON.
#[utoipa::path(
    params(("name" = String, Path), ("Last-Event-ID" = Option<String>, Header)),
    responses((status = 200, content(
        (RolloutLive = "application/json"), (RolloutLive = "text/event-stream")
    ))),
    tag = "rollouts"
)]
#[get("/api/v1/rollouts/{name}/live")]
async fn live(shared: web::Data<Shared>, actor: Acting, name: web::Path<Slug>, request: HttpRequest) -> Answer {
    let app = Arc::clone(&shared.app);
    let text = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
    if !text("accept").is_some_and(|accept| accept.contains("text/event-stream")) {
        let state = shared.app.run(async move { app.rollout_live_once(&actor.0, &name).await }).await?;
        return Ok(HttpResponse::Ok().json(state));
    }
    let seen = text("last-event-id").filter(|id| id.len() <= MAX_EVENT_ID_LEN).map(str::to_owned);
    let token = bearer(&request).map(|token| Digest::of(token.as_bytes()));
    let events = shared.app.run(async move { app.rollout_live(&actor.0, token, &name, seen.as_deref()).await }).await?;
    // When the client goes away the receiver is dropped, and with it the work ends.
    let bytes = futures::stream::unfold(events, |mut events| async move {
        let text = match events.recv().await? {
            LiveEvent::State { id, json } => format!("id: {id}\nevent: state\ndata: {json}\n\n"),
            LiveEvent::Alive => ":\n\n".to_owned(),
        };
        Some((Ok::<_, std::io::Error>(web::Bytes::from(text)), events))
    });
    Ok(HttpResponse::Ok()
        .content_type("text/event-stream")
        .insert_header((header::CACHE_CONTROL, "no-store"))
        // Proxies that gather answers would hold events back.
        .insert_header(("X-Accel-Buffering", "no"))
        .streaming(bytes))
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct Between {
    /// From this moment on; from the beginning when absent.
    from: Option<Time>,
    /// Before this moment; until now when absent.
    to: Option<Time>,
    /// `next` of the page before.
    after: Option<String>,
    /// Items, 1 to 500; 50 unless given.
    limit: Option<u32>,
}

/// A rollout's figures as time went by: one point for each five minutes in which something had changed, one for each hour after two days.
#[utoipa::path(
    params(("name" = String, Path), Between), responses((status = 200, body = Page<SeriesPoint>)), tag = "rollouts"
)]
#[get("/api/v1/rollouts/{name}/series")]
async fn series(
    shared: web::Data<Shared>,
    actor: Acting,
    name: web::Path<Slug>,
    between: web::Query<Between>,
) -> Answer<web::Json<Page<SeriesPoint>>> {
    let Between { from, to, after, limit } = between.into_inner();
    let paging = Paging { after, limit };
    let (limit, after) = (paging.limit()?, paging.after_id::<i64>()?);
    let app = Arc::clone(&shared.app);
    let read = async move { app.rollout_series(&actor.0, &name, (from, to), after, limit).await };
    Ok(page(shared.app.run(read).await?, limit, |point| point.at.as_ms().to_string()))
}

#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct OfFailures {
    /// With this code only.
    failure: Option<Failure>,
    /// `next` of the page before.
    after: Option<String>,
    /// Items, 1 to 500; 50 unless given.
    limit: Option<u32>,
}

/// Attempts of a rollout that failed or were rolled back, newest first, with what the devices say of it.
#[utoipa::path(
    params(("name" = String, Path), OfFailures), responses((status = 200, body = Page<RolloutFailure>)), tag = "rollouts"
)]
#[get("/api/v1/rollouts/{name}/failures")]
async fn failures(
    shared: web::Data<Shared>,
    actor: Acting,
    name: web::Path<Slug>,
    of: web::Query<OfFailures>,
) -> Answer<web::Json<Page<RolloutFailure>>> {
    let OfFailures { failure, after, limit } = of.into_inner();
    let paging = Paging { after, limit };
    let (app, limit, after) = (Arc::clone(&shared.app), paging.limit()?, paging.after_id()?);
    let read = async move { app.rollout_failures(&actor.0, &name, failure, after, limit).await };
    Ok(page(shared.app.run(read).await?, limit, |one| one.key().to_string()))
}

/// Whom a rollout is for now, by hardware and by running version, with what about it may be a mistake. It reads the fleet: seconds where
/// there are a million devices.
#[utoipa::path(params(("name" = String, Path)), responses((status = 200, body = AudienceCount)), tag = "rollouts")]
#[get("/api/v1/rollouts/{name}/audience")]
async fn audience(shared: web::Data<Shared>, actor: Acting, name: web::Path<Slug>) -> Answer<web::Json<AudienceCount>> {
    let app = Arc::clone(&shared.app);
    Ok(web::Json(shared.app.run(async move { app.rollout_audience(&actor.0, &name).await }).await?))
}

/// Submit, start, advance, pause, resume, halt or roll back a rollout. With `Prefer: return=minimal` (RFC 7240) the answer is empty:
/// the rollout with its figures counts every attempt so far.
#[utoipa::path(
    params(("name" = String, Path), ("Prefer" = Option<String>, Header, description = "`return=minimal` for no content")),
    responses((status = 200, body = RolloutDetail), (status = 204)),
    tag = "rollouts"
)]
#[post("/api/v1/rollouts/{name}/move")]
async fn movement(
    shared: web::Data<Shared>,
    actor: Acting,
    name: web::Path<Slug>,
    request: web::Json<RolloutMove>,
    http: HttpRequest,
) -> Answer {
    let app = Arc::clone(&shared.app);
    if prefers_minimal(&http) {
        shared.app.run(async move { app.rollout_set(&actor.0, &name, &request).await }).await?;
        return Ok(HttpResponse::NoContent().insert_header(("Preference-Applied", "return=minimal")).finish());
    }
    let detail = shared.app.run(async move { app.rollout_move(&actor.0, &name, &request).await }).await?;
    Ok(HttpResponse::Ok().json(detail))
}

/// Whether the client wants no content (RFC 7240, section 4.2): preferences stand in one header or several, with commas between.
fn prefers_minimal(http: &HttpRequest) -> bool {
    let mut texts = http.headers().get_all("prefer").filter_map(|value| value.to_str().ok());
    texts.any(|text| {
        let mut preferences = text.split(',').map(|one| one.split(';').next().unwrap_or_default());
        preferences.any(|one| {
            let plain = one.replace([' ', '\t', '"'], "");
            plain.eq_ignore_ascii_case("return=minimal")
        })
    })
}

/// Write another plan over one that has not started; approvals of the one before count no more.
#[utoipa::path(params(("name" = String, Path)), responses((status = 200, body = RolloutDetail)), tag = "rollouts")]
#[put("/api/v1/rollouts/{name}")]
async fn edit(
    shared: web::Data<Shared>,
    actor: Acting,
    name: web::Path<Slug>,
    request: web::Json<RolloutCreate>,
) -> Answer<web::Json<RolloutDetail>> {
    let app = Arc::clone(&shared.app);
    Ok(web::Json(shared.app.run(async move { app.rollout_edit(&actor.0, &name, &request).await }).await?))
}

/// Approve a rollout's plan with a signature over its digest.
#[utoipa::path(params(("name" = String, Path)), responses((status = 200, body = RolloutDetail)), tag = "rollouts")]
#[post("/api/v1/rollouts/{name}/approvals")]
async fn approve(
    shared: web::Data<Shared>,
    actor: Acting,
    name: web::Path<Slug>,
    request: web::Json<RolloutApprove>,
) -> Answer<web::Json<RolloutDetail>> {
    let app = Arc::clone(&shared.app);
    Ok(web::Json(shared.app.run(async move { app.rollout_approve(&actor.0, &name, &request).await }).await?))
}

/// Keys of approvers.
#[utoipa::path(responses((status = 200, body = Page<ApproverKey>)), tag = "rollouts")]
#[get("/api/v1/approvers")]
async fn approvers(shared: web::Data<Shared>, actor: Acting) -> Answer<web::Json<Page<ApproverKey>>> {
    let app = Arc::clone(&shared.app);
    let items = shared.app.run(async move { app.approver_list(&actor.0).await }).await?;
    Ok(web::Json(Page { items, next: None }))
}

/// Enrol a key with which a person approves.
#[utoipa::path(
    params(("name" = String, Path)),
    responses((status = 201, body = ApproverKey), (status = 200, body = ApproverKey)),
    tag = "rollouts"
)]
#[post("/api/v1/principals/{name}/approver-keys")]
async fn enrol(
    shared: web::Data<Shared>,
    actor: Acting,
    name: web::Path<Slug>,
    request: web::Json<ApproverEnrol>,
) -> Answer {
    let app = Arc::clone(&shared.app);
    Ok(made(shared.app.run(async move { app.approver_enrol(&actor.0, &name, &request).await }).await?))
}

/// Take an approver's key away.
#[utoipa::path(params(("key" = String, Path)), responses((status = 204)), tag = "rollouts")]
#[delete("/api/v1/approvers/{key}")]
async fn revoke(shared: web::Data<Shared>, actor: Acting, key: web::Path<String>) -> Answer {
    let app = Arc::clone(&shared.app);
    shared.app.run(async move { app.approver_revoke(&actor.0, &key).await }).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// The switch that stops every rollout.
#[utoipa::path(responses((status = 200, body = StopAll)), tag = "rollouts")]
#[get("/api/v1/stop-all")]
async fn stop_all_get(shared: web::Data<Shared>, actor: Acting) -> Answer<web::Json<StopAll>> {
    let app = Arc::clone(&shared.app);
    Ok(web::Json(shared.app.run(async move { app.stop_all_get(&actor.0).await }).await?))
}

/// Turn it. Devices are offered nothing from their next poll on; what is under way on a device does not switch slots.
#[utoipa::path(responses((status = 200, body = StopAll)), tag = "rollouts")]
#[put("/api/v1/stop-all")]
async fn stop_all_set(
    shared: web::Data<Shared>,
    actor: Acting,
    request: web::Json<StopAll>,
) -> Answer<web::Json<StopAll>> {
    let app = Arc::clone(&shared.app);
    Ok(web::Json(shared.app.run(async move { app.stop_all_set(&actor.0, &request).await }).await?))
}
