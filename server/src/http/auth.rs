//! Bearer tokens: of principals (looked up) and of devices (checked by their MAC alone).

use std::future::{Ready, ready};
use std::pin::Pin;
use std::sync::Arc;

use actix_web::dev::Payload;
use actix_web::http::header::AUTHORIZATION;
use actix_web::{FromRequest, HttpRequest, web};
use sluice_catalog::Kind;
use sluice_catalog::device::DeviceState;

use super::Shared;
use super::problem::HttpError;
use crate::app::Actor;
use crate::error::{Error, Result};
use crate::poll::{CachedDevice, Session};

/// The bearer token of a request.
pub fn bearer(request: &HttpRequest) -> Option<&str> {
    let value = request.headers().get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn shared(request: &HttpRequest) -> Result<Shared> {
    request
        .app_data::<web::Data<Shared>>()
        .map(|shared| shared.get_ref().clone())
        .ok_or_else(|| Error::internal(anyhow::anyhow!("handlers share nothing")))
}

fn missing() -> HttpError {
    HttpError(Error::new(Kind::Unauthenticated, "send a token: `Authorization: Bearer …`"))
}

/// A principal, from its token.
#[derive(Clone, Debug)]
pub struct Acting(pub Actor);

impl FromRequest for Acting {
    type Error = HttpError;
    type Future = Pin<Box<dyn Future<Output = Result<Self, HttpError>>>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let found = shared(request).map(|shared| (shared, bearer(request).map(str::to_owned)));
        Box::pin(async move {
            let (shared, token) = found?;
            let token = token.ok_or_else(missing)?;
            let app = Arc::clone(&shared.app);
            Ok(Self(shared.app.run(async move { app.authenticate(&token).await }).await?))
        })
    }
}

/// A device, from its session token. The epoch is checked against the device's record when that is at hand.
#[derive(Clone, Copy, Debug)]
pub struct DeviceSession(pub Session);

impl FromRequest for DeviceSession {
    type Error = HttpError;
    type Future = Ready<Result<Self, HttpError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(shared(request).map_err(HttpError).and_then(|shared| {
            let token = bearer(request).ok_or_else(missing)?;
            shared.app.keys.tokens.session_open(token, shared.app.now()).map(Self).ok_or_else(|| {
                HttpError(Error::new(
                    Kind::Unauthenticated,
                    "the session token is not ours or has ended: ask for a new one",
                ))
            })
        }))
    }
}

/// The device of a session, from memory when it is there. A session of an older epoch is dead.
pub async fn device(shared: &Shared, session: Session) -> Result<Arc<CachedDevice>> {
    let device =
        match shared.app.devices.cached(session.device) {
            Some(device) => device,
            None => {
                let app = Arc::clone(&shared.app);
                shared.app.run(async move { app.device(session.device).await }).await?.ok_or_else(|| {
                    Error::new(Kind::Unauthenticated, "this device is not known any more: enrol again")
                })?
            }
        };
    check_epoch(&device, session)?;
    Ok(device)
}

/// Refuses a session of another epoch.
pub fn check_epoch(device: &CachedDevice, session: Session) -> Result<()> {
    if device.view.device.epoch == session.epoch {
        Ok(())
    } else {
        Err(Error::new(Kind::Unauthenticated, "this session was revoked: enrol again"))
    }
}

/// Whether a device was accepted and is not put out of service. Anyone can register itself and wait: that opens nothing.
pub fn in_service(device: &CachedDevice) -> bool {
    matches!(device.view.device.state, DeviceState::Active | DeviceState::RmaPending | DeviceState::Replaced)
}

/// Refuses a request for what belongs to a gated product, unless a device of that product or a reading principal sends
/// its token.
pub async fn may_read(shared: &Shared, request: &HttpRequest, product: &str) -> Result<()> {
    if !shared.app.live.products().is_gated(product) {
        return Ok(());
    }
    let refuse = || {
        Error::new(
            Kind::Forbidden,
            format!("product {product} is gated: send the token of one of its devices or of a principal"),
        )
    };
    let token = bearer(request).ok_or_else(refuse)?;
    if let Some(session) = shared.app.keys.tokens.session_open(token, shared.app.now()) {
        let device = device(shared, session).await?;
        let products = shared.app.live.products();
        let own = products.get(device.view.device.product_id).is_some_and(|own| own.product.name.as_str() == product);
        return if own && in_service(&device) { Ok(()) } else { Err(refuse()) };
    }
    let (app, token) = (Arc::clone(&shared.app), token.to_owned());
    let actor = shared
        .app
        .run(async move { app.authenticate(&token).await })
        .await
        .map_err(|error| if error.kind == Kind::Unauthenticated { refuse() } else { error })?;
    let (app, product) = (Arc::clone(&shared.app), product.to_owned());
    shared.app.run(async move { app.product_readable(&actor, &product).await }).await
}
