//! The device API: enrolment, session, poll, report. `docs/device-protocol.md` tells it.

use std::sync::Arc;

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, get, post, web};
use serde::Deserialize;
use sluice_catalog::text::Version;
use sluice_catalog::wire::device::{
    ChallengeResponse, EnrolRequest, EnrolResponse, MAX_NONCE_LEN, PollRequest, ReportRequest, ReportResponse,
    SessionRequest, SessionResponse, WhyResponse,
};
use sluice_catalog::{Kind, Time};
use sluice_signer::OnlineRole;

use super::auth::{self, DeviceSession};
use super::limits::{Surface, failed, limit, limit_why};
use super::{Answer, Shared};
use crate::error::{Error, Result};
use crate::poll::{Answer as PollAnswer, CachedDevice};

/// Longest body that a device sends.
const MAX_DEVICE_BODY_LEN: usize = 128 * 1024;

pub(super) fn configure(config: &mut web::ServiceConfig) {
    config.service(
        web::scope("/v1")
            .app_data(super::problem::json_config(MAX_DEVICE_BODY_LEN))
            .service(enrol)
            .service(challenge)
            .service(session_open)
            .service(poll)
            .service(poll_unchanged)
            .service(report)
            .service(super::entitlement::entitlement)
            .service(why)
            .configure(super::register::configure),
    );
}

#[post("/enrol")]
async fn enrol(
    shared: web::Data<Shared>,
    asked: HttpRequest,
    request: web::Json<EnrolRequest>,
) -> Answer<web::Json<EnrolResponse>> {
    limit(&shared, &asked, Surface::Enrol, None)?;
    let app = Arc::clone(&shared.app);
    let about = (request.product.clone(), request.serial.clone());
    let enrolled = shared.app.run(async move { app.enrol(&request).await }).await;
    Ok(web::Json(enrolled.map_err(|error| failed(&shared, Surface::Enrol, &about, error))?))
}

#[post("/challenge")]
async fn challenge(shared: web::Data<Shared>, asked: HttpRequest) -> Answer<web::Json<ChallengeResponse>> {
    limit(&shared, &asked, Surface::Session, None)?;
    Ok(web::Json(ChallengeResponse { challenge: shared.app.challenge() }))
}

#[post("/session")]
async fn session_open(
    shared: web::Data<Shared>,
    asked: HttpRequest,
    request: web::Json<SessionRequest>,
) -> Answer<web::Json<SessionResponse>> {
    limit(&shared, &asked, Surface::Session, None)?;
    let app = Arc::clone(&shared.app);
    let about = (request.product.clone(), request.serial.clone());
    let opened = shared.app.run(async move { app.session(&request).await }).await;
    Ok(web::Json(opened.map_err(|error| failed(&shared, Surface::Session, &about, error))?))
}

/// The full form: what the device runs, and a nonce that the signed answer repeats.
#[post("/poll")]
async fn poll(shared: web::Data<Shared>, session: DeviceSession, request: web::Json<PollRequest>) -> Answer {
    if let Some(nonce) = &request.nonce
        && (nonce.is_empty() || nonce.len() > MAX_NONCE_LEN || !nonce.bytes().all(|b| b.is_ascii_hexdigit()))
    {
        return Err(Error::invalid("nonce", format!("1 to {MAX_NONCE_LEN} hexadecimal digits")).into());
    }
    let mut device = auth::device(&shared, session.0).await?;
    let (app, request) = (Arc::clone(&shared.app), request.into_inner());
    let nonce = request.nonce.clone();
    // Only a device that says something new waits for the database.
    let before = Arc::clone(&device);
    let changed = shared.app.run(async move {
        let changed = app.device_reported(&before.view.device, &before.view.installed, &request).await?;
        if !changed {
            return Ok(None);
        }
        app.device_reload(before.view.device.id).await
    });
    if let Some(fresh) = changed.await? {
        device = fresh;
    }
    Ok(answer(&shared, device, nonce, None).await?)
}

/// The cheap form: nothing has changed on the device, and it holds a document.
#[get("/poll")]
async fn poll_unchanged(shared: web::Data<Shared>, session: DeviceSession, request: HttpRequest) -> Answer {
    let device = auth::device(&shared, session.0).await?;
    let held = request.headers().get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    Ok(answer(&shared, device, None, held).await?)
}

async fn answer(
    shared: &Shared,
    mut device: Arc<CachedDevice>,
    nonce: Option<String>,
    held: Option<&str>,
) -> Result<HttpResponse> {
    let app = &shared.app;
    // One moment for the whole answer: a document whose end was counted from a later second than it states would outlive
    // the rule of its kind, and no device would take it.
    let now = app.now();
    app.devices.seen(device.view.device.id, now);
    let epoch = app.branch_of(&device.view.device, now)?;
    let mut answer = decide(shared, &device, now)?.of_epoch(epoch);
    let mut withheld = false;
    if let Some((release, rollout)) = answer.needs_attempt(&device) {
        if app.live.is_fresh(now) {
            let (opening, id) = (Arc::clone(app), device.view.device.id);
            let opened = app
                .run(async move {
                    opening.attempt_open(id, release, rollout).await?;
                    opening.device_reload(id).await
                })
                .await?;
            device = opened.ok_or_else(|| Error::not_found("device", device.view.device.id))?;
            answer = decide(shared, &device, now)?.of_epoch(epoch);
        } else {
            // A replica that may have missed something does not say what was decided.
            withheld = true;
            answer = answer.withheld(now);
        }
    }
    if !withheld {
        app.devices.decided.note(answer.said(device.view.device.id, now));
    }
    let director = app.key_of_epoch(OnlineRole::Director, epoch)?;
    if let Some(held) = held
        && answer.confirms(held, &device, director.public(), now)
    {
        app.metrics.poll("unchanged");
        return Ok(HttpResponse::NotModified().insert_header((header::ETAG, held)).finish());
    }
    let document = app.sign(OnlineRole::Director, &director, answer.document(&device, nonce, now)?).await?;
    let keys = (director.public(), &app.keys.tokens);
    let mut signed = answer.signed(document, &device, keys, now)?;
    // A hint and no more: whatever keeps a certificate from being made is told to those who ask for it.
    signed.response.entitlement = app.certificate_draft(&device, epoch, now).ok().flatten().map(|draft| draft.tag);
    app.metrics.poll(answer.kind());
    Ok(HttpResponse::Ok()
        .insert_header((header::ETAG, signed.etag))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .json(signed.response))
}

fn decide(shared: &Shared, device: &CachedDevice, now: Time) -> Result<PollAnswer> {
    let app = &shared.app;
    let products = app.live.products();
    let product = products
        .get(device.view.device.product_id)
        .ok_or_else(|| Error::new(Kind::Unavailable, "this device's product is not loaded yet; try again later"))?;
    let repo_id = app.live.documents().director_repo_id();
    Ok(PollAnswer::new(device, product, &app.live.encodings(), repo_id, app.rules.poll_interval_s, now))
}

#[post("/report")]
async fn report(
    shared: web::Data<Shared>,
    session: DeviceSession,
    request: web::Json<ReportRequest>,
) -> Answer<web::Json<ReportResponse>> {
    let device = auth::device(&shared, session.0).await?;
    let (app, id) = (Arc::clone(&shared.app), device.view.device.id);
    let moved = shared
        .app
        .run(async move {
            let moved = app.report(id, &request).await?;
            if moved.moved > 0 {
                app.device_reload(id).await?;
            }
            Ok(moved)
        })
        .await?;
    Ok(web::Json(ReportResponse { moved: moved.moved }))
}

#[derive(Debug, Deserialize)]
struct WhyQuery {
    /// About this version only; what the device gets, when absent.
    version: Option<Version>,
}

/// Why the device gets a version, or does not, without a word of contracts.
#[get("/why")]
async fn why(
    shared: web::Data<Shared>,
    session: DeviceSession,
    asked: web::Query<WhyQuery>,
) -> Answer<web::Json<WhyResponse>> {
    let device = auth::device(&shared, session.0).await?;
    limit_why(&shared, device.view.device.id)?;
    let (app, version) = (Arc::clone(&shared.app), asked.into_inner().version);
    Ok(web::Json(shared.app.run(async move { app.device_why(device, version).await }).await?))
}
