//! How often an address, and anybody about one serial, may ask what an outsider can ask: so that nobody tries out serials or codes.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use sluice_catalog::id::DeviceId;
use sluice_catalog::token_bucket::{Buckets, Rate};
use sluice_catalog::{Digest, Kind, Time};

use crate::error::Error;

/// Addresses and serials that are remembered, each: 100 bytes a bucket, 10 MB in all.
const MAX_KEPT: usize = 50_000;
/// Questions about one serial: a device that restarts all the time asks for less.
const SERIAL: Rate = Rate { burst: 60, every_ms: 10_000 };

/// Questions of one device about itself.
const WHY: Rate = Rate { burst: 30, every_ms: 2_000 };

/// Who asked too often may ask again after so many seconds.
#[derive(Debug, thiserror::Error)]
#[error("again after {0} s")]
pub struct RetryAfter(pub i64);

/// The buckets of this process.
#[derive(Debug)]
pub struct AskLimits {
    addresses: Mutex<Buckets<IpAddr>>,
    serials: Mutex<Buckets<Digest>>,
    whys: Mutex<Buckets<DeviceId>>,
    /// The header in which a trusted proxy says who asks.
    pub address_header: Option<String>,
}

impl AskLimits {
    /// So many questions a minute from one address.
    pub fn new(per_minute: u32, address_header: Option<String>) -> Self {
        Self {
            addresses: Mutex::new(Buckets::new(Rate::per_minute(per_minute), MAX_KEPT)),
            serials: Mutex::new(Buckets::new(SERIAL, MAX_KEPT)),
            whys: Mutex::new(Buckets::new(WHY, MAX_KEPT)),
            address_header,
        }
    }

    /// Takes one for an address. What comes from this machine is not limited: it is a proxy whose header is not trusted, and
    /// behind it are all devices.
    pub fn address(&self, address: Option<IpAddr>, now: Time) -> Result<(), Error> {
        let Some(address) = address.map(network).filter(|address| !address.is_loopback()) else { return Ok(()) };
        let mut buckets = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        buckets.take(&address, now).map_err(|ms| too_often("this address", ms))
    }

    /// Takes one for a serial, whether or not it exists.
    pub fn serial(&self, product: &str, serial: &str, now: Time) -> Result<(), Error> {
        let key = Digest::of(format!("{product}/{serial}").as_bytes());
        let mut buckets = self.serials.lock().unwrap_or_else(PoisonError::into_inner);
        buckets.take(&key, now).map_err(|ms| too_often("this serial", ms))
    }

    /// Takes one for what a device asks about itself.
    pub fn why(&self, device: DeviceId, now: Time) -> Result<(), Error> {
        let mut buckets = self.whys.lock().unwrap_or_else(PoisonError::into_inner);
        buckets.take(&device, now).map_err(|ms| too_often("this device", ms))
    }
}

/// Whoever has one address of IPv6 has 2^64 of them.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(six) => {
            let mut octets = six.octets();
            let is_loopback = six.is_loopback();
            for octet in octets.iter_mut().skip(8) {
                *octet = 0;
            }
            if is_loopback { IpAddr::V6(six) } else { IpAddr::V6(octets.into()) }
        }
        four @ IpAddr::V4(_) => four,
    }
}

fn too_often(who: &str, ms: i64) -> Error {
    let seconds = ms.saturating_add(999) / 1000;
    Error {
        kind: Kind::RateLimited,
        detail: format!("{who} asks too often; ask again after {seconds} s"),
        cause: Some(anyhow::Error::new(RetryAfter(seconds))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_limited_and_this_machine_is_not() {
        let network = |text: &str| network(text.parse().unwrap()).to_string();
        assert_eq!(network("192.0.2.7"), "192.0.2.7");
        assert_eq!(network("::ffff:192.0.2.7"), "192.0.2.7");
        assert_eq!(network("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        let limits = AskLimits::new(2, None);
        let ask = |address: &str| limits.address(Some(address.parse().unwrap()), Time::EPOCH).is_ok();
        assert_eq!([ask("192.0.2.7"), ask("192.0.2.7"), ask("192.0.2.7"), ask("192.0.2.8")], [true, true, false, true]);
        assert!((0..10).all(|_| ask("127.0.0.1") && ask("::1")));
        let error = limits.address(Some("192.0.2.7".parse().unwrap()), Time::EPOCH).unwrap_err();
        assert_eq!(error.detail, "this address asks too often; ask again after 30 s");
    }
}
