//! Limits of what an outsider may ask: by the address that asks, and by the serial that is asked about.

use std::net::IpAddr;

use actix_web::HttpRequest;
use sluice_catalog::id::DeviceId;
use sluice_catalog::text::{ProductName, Serial};

use super::Shared;
use super::problem::HttpError;
use crate::error::Error;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Surface {
    /// Enrolment.
    Enrol,
    /// Challenges and sessions.
    Session,
    /// Registration and its codes.
    Register,
    /// Cover.
    Cover,
}

impl Surface {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Enrol => "enrol",
            Self::Session => "session",
            Self::Register => "register",
            Self::Cover => "cover",
        }
    }
}

/// Refuses who asks too often, before anything is looked at. What is answered does not depend on whether the serial exists.
pub fn limit(
    shared: &Shared,
    request: &HttpRequest,
    surface: Surface,
    about: Option<(&ProductName, &Serial)>,
) -> Result<(), HttpError> {
    let (app, now) = (&shared.app, shared.app.now());
    let limits = &app.limits_of_asking;
    let refused = |by: &'static str| {
        move |error| {
            app.metrics.limited(surface.as_str(), by);
            HttpError(error)
        }
    };
    limits.address(address(request, limits.address_header.as_deref()), now).map_err(refused("address"))?;
    if let Some((product, serial)) = about {
        limits.serial(product.as_str(), serial.as_str(), now).map_err(refused("serial"))?;
    }
    Ok(())
}

/// Refuses a device that asks why too often: each answer is asked again at every boundary of a year ahead.
pub fn limit_why(shared: &Shared, device: DeviceId) -> Result<(), HttpError> {
    let (app, now) = (&shared.app, shared.app.now());
    app.limits_of_asking.why(device, now).map_err(|error| {
        app.metrics.limited("why", "device");
        HttpError(error)
    })
}

/// What is answered to who asked about a serial and proved nothing: an error, or that it was too often. Who proves to be the device is
/// never refused for what others asked about it.
pub fn failed(shared: &Shared, surface: Surface, (product, serial): &(ProductName, Serial), error: Error) -> HttpError {
    let (app, now) = (&shared.app, shared.app.now());
    match app.limits_of_asking.serial(product.as_str(), serial.as_str(), now) {
        Ok(()) => HttpError(error),
        Err(too_often) => {
            app.metrics.limited(surface.as_str(), "serial");
            HttpError(too_often)
        }
    }
}

/// Who asks: what the trusted proxy says, else the other end of the connection. Of several addresses the last one is what the
/// proxy itself has seen; those before it anybody can write.
fn address(request: &HttpRequest, header: Option<&str>) -> Option<IpAddr> {
    let said = header.and_then(|header| {
        let last = request.headers().get_all(header).last()?.to_str().ok()?;
        let last = last.rsplit(',').next()?.trim();
        let bare = last.trim_start_matches('[').split(']').next()?;
        last.parse()
            .ok()
            .or_else(|| bare.parse().ok())
            .or_else(|| last.parse().ok().map(|end: std::net::SocketAddr| end.ip()))
    });
    said.or_else(|| request.peer_addr().map(|end| end.ip()))
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn only_a_trusted_header_says_who_asks_and_only_its_last_address() {
        let said = |header: Option<&str>, value: &str| {
            let request = TestRequest::default().peer_addr("192.0.2.1:99".parse().unwrap());
            let request = request.insert_header(("X-Forwarded-For", value)).to_http_request();
            address(&request, header).unwrap().to_string()
        };
        let trusted = Some("x-forwarded-for");
        assert_eq!(said(None, "198.51.100.7"), "192.0.2.1");
        assert_eq!(said(trusted, "198.51.100.7"), "198.51.100.7");
        assert_eq!(said(trusted, "10.0.0.1, 198.51.100.7"), "198.51.100.7");
        assert_eq!(said(trusted, "198.51.100.7:4711"), "198.51.100.7");
        assert_eq!(said(trusted, "[2001:db8::1]:4711"), "2001:db8::1");
        assert_eq!(said(trusted, "unknown"), "192.0.2.1");
    }
}
