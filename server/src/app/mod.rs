//! Use cases. Each mutation takes an [`Actor`], checks its permission, and writes the change, its audit entry and its
//! jobs in one transaction. Surfaces call these and nothing below them.

mod apply;
mod bootstrap;
mod branches;
mod certificates;
mod contracts;
mod customers;
mod devices;
mod embargo;
mod enrol;
mod erasure;
mod events;
mod expiry;
mod fleet;
mod history;
mod imports;
mod keys;
mod limits;
mod lookup;
mod notices;
mod policies;
mod pools;
mod principals;
mod products;
mod publish;
mod reach;
mod registration;
mod reports;
mod rollouts;
mod sources;
mod status;
mod swaps;
mod terms;
mod updates;
mod what_if;
mod why;

pub use crate::store::{DeviceFilter, FactKind, Repository};
pub use certificates::keep;
pub use events::EventQuery;
pub use expiry::Expiries;
pub use fleet::{FLEETS_AT_ONCE, Fleets, Lines};
pub use history::{MAX_ENTRIES, Pages};
pub use limits::{AskLimits, RetryAfter};
pub use notices::{NOTICES_LEASE, NOTICES_LEASE_S, Notices};
pub use publish::{LEASE, LEASE_S, Publisher};
pub use reports::Moved;
pub use rollouts::{LiveEvent, Lives, MAX_STREAMS, Series, Watch};
pub use why::Question;

use std::sync::Arc;

use sluice_catalog::id::DeviceId;
use sluice_catalog::principal::{Permission, Principal, Role};
use sluice_catalog::{Digest, Kind, TextSet, Time};
use sluice_signer::Limits;

use crate::blobs::Blobs;
use crate::clock::{Clock, Dice};
use crate::error::{Error, Result};
use crate::keys::Keys;
use crate::poll::{CachedDevice, Devices, Live};
use crate::store::Store;
use crate::telemetry::Metrics;

/// What of the configuration use cases need.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Seconds between two polls of a device that runs what it should.
    pub poll_interval_s: u32,
    /// Patches larger than this percentage of the compressed full image are not offered.
    pub patch_max_percent: u8,
    /// Bytes that making one patch may use beyond both images.
    pub patch_memory: u64,
    /// The snapshot is signed again when so much of its life has gone.
    pub snapshot_renew_percent: u8,
    /// Days that an entitlement certificate lives.
    pub certificate_days: u32,
    /// Approvals that every rollout must ask for.
    pub min_approvals: u8,
    /// Days that events are kept.
    pub events_days: u32,
    /// Days that what devices were told is kept.
    pub decisions_days: u32,
    /// The newest signing epoch that this server's verifier knows.
    pub newest_epoch: u64,
    /// SHA-256 of the bootstrap token, while there is one.
    pub bootstrap: Option<Digest>,
}

/// The application. One for the process, shared by every worker.
#[derive(Debug)]
pub struct App {
    /// The database.
    pub store: Store,
    /// Images and patches.
    pub blobs: Blobs,
    /// The clock.
    pub clock: Clock,
    /// Randomness.
    pub dice: Dice,
    /// The online keys.
    pub keys: Keys,
    /// What is configured.
    pub rules: Rules,
    /// Snapshots of what can be chosen from.
    pub live: Live,
    /// Devices in memory.
    pub devices: Devices,
    /// Counters.
    pub metrics: Metrics,
    /// Who signs on schedule.
    pub publisher: Publisher,
    /// Which roles' coming ends were told.
    pub expiries: Expiries,
    /// How often outsiders may ask.
    pub limits_of_asking: AskLimits,
    /// Who waits for events, and where the look for them stands.
    pub notices: Notices,
    /// Answers about whole fleets that run.
    pub fleets: Fleets,
    /// Since when rollouts are looked at.
    pub watch: Watch,
    /// Up to when figures of rollouts are kept.
    pub series: Series,
    /// Who watches which rollout.
    pub lives: Lives,
    /// The runtime on which the database pool and the blob store's client live. Actix workers are runtimes of their own
    /// and reach them through this handle.
    pub runtime: tokio::runtime::Handle,
}

/// Who acts.
#[derive(Clone, Debug)]
pub enum Actor {
    /// A named person or machine.
    Principal {
        /// Who.
        principal: Principal,
        /// What its token is limited to; empty: all of its role.
        scopes: TextSet,
    },
    /// The holder of the bootstrap token.
    Bootstrap,
    /// The server itself, in a job.
    Server,
}

impl Actor {
    /// The name in the audit log.
    pub fn name(&self) -> &str {
        match self {
            Self::Principal { principal, .. } => principal.name.as_str(),
            Self::Bootstrap => "bootstrap",
            Self::Server => "server",
        }
    }

    /// Refuses an actor without the permission, and every principal that is bound to a customer: what such a one may ask is a closed
    /// list, whose use cases call [`Actor::need_within`] instead.
    pub fn need(&self, permission: Permission) -> Result<()> {
        self.granted(permission)?;
        match self.customer() {
            Some(_) => Err(self.bound_elsewhere()),
            None => Ok(()),
        }
    }

    /// What a bound principal is told of everything that is not for it.
    fn bound_elsewhere(&self) -> Error {
        Error::new(Kind::Forbidden, format!("{} is bound to a customer: this is not for it", self.name()))
    }

    fn granted(&self, permission: Permission) -> Result<()> {
        let granted = match self {
            Self::Principal { principal, scopes } => {
                principal.role.grants(permission) && (scopes.is_empty() || scopes.contains(permission.as_str()))
            }
            // The bootstrap token makes the first administrator and nothing else.
            Self::Bootstrap => false,
            Self::Server => true,
        };
        if granted {
            Ok(())
        } else {
            Err(Error::new(Kind::Forbidden, format!("{} lacks the permission `{}`", self.name(), permission.as_str())))
        }
    }

    /// The customer to whose devices and contracts a principal is restricted.
    pub fn customer(&self) -> Option<sluice_catalog::id::CustomerId> {
        match self {
            Self::Principal { principal, .. } => principal.customer_id,
            _ => None,
        }
    }

    /// The role, of a principal.
    pub fn role(&self) -> Option<Role> {
        match self {
            Self::Principal { principal, .. } => Some(principal.role),
            _ => None,
        }
    }
}

impl App {
    /// Runs a use case on the runtime where the database lives, from whatever runtime the caller is on.
    pub async fn run<T, F>(self: &Arc<Self>, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        self.runtime.spawn(work).await.map_err(Error::internal)?
    }

    /// Now.
    pub fn now(&self) -> Time {
        self.clock.now()
    }

    /// Reads the snapshots anew, so that the request after a change sees it, and goes along with the roots in them.
    pub async fn refresh(&self) -> Result<()> {
        if self.live.refresh(&self.store, self.now()).await? {
            self.devices.forget_all();
        }
        self.follow_roots();
        Ok(())
    }

    /// A device, from memory or the database.
    pub async fn device(&self, id: DeviceId) -> Result<Option<Arc<CachedDevice>>> {
        Ok(self.devices.get(&self.store, &self.live, id).await?)
    }

    /// A device as the database has it now; the copy in memory is replaced.
    pub async fn device_reload(&self, id: DeviceId) -> Result<Option<Arc<CachedDevice>>> {
        Ok(self.devices.reload(&self.store, &self.live, id).await?)
    }

    /// Whether database and blob store answer, the snapshots are fresh, and the keys that the roots name are here.
    pub async fn ready(&self) -> Result<()> {
        self.store.ping().await?;
        self.blobs.ping().await?;
        if !self.live.is_fresh(self.now()) {
            return Err(Error::new(Kind::Unavailable, "the catalogue is stale"));
        }
        self.has_keys()
    }

    /// What this server's verifier accepts.
    pub fn limits(&self) -> Limits {
        Limits { newest_epoch: self.rules.newest_epoch, ..Limits::default() }
    }

    /// A snapshot of a branch that is not kept in memory.
    pub async fn branch_document(&self, epoch: i32, role: &str, version: i64) -> Result<Option<Vec<u8>>> {
        Ok(self.store.branch_document(epoch, role, version).await?.map(|document| document.body))
    }

    /// A signed document that is not kept in memory.
    pub async fn document(&self, repository: Repository, role: &str, version: i64) -> Result<Option<Vec<u8>>> {
        Ok(self.store.document_get(repository, role, version).await?.map(|document| document.body))
    }

    /// Drops a device's copy in memory.
    pub fn device_changed(&self, id: DeviceId) {
        self.devices.forget(id);
    }

    /// The principal behind a bearer token.
    pub async fn authenticate(&self, secret: &str) -> Result<Actor> {
        let refuse = || Error::new(Kind::Unauthenticated, "the token is unknown, expired or revoked");
        // 128 characters: ours have 47; no reason to hash a novel.
        if secret.len() > 128 {
            return Err(refuse());
        }
        self.authenticate_hash(Digest::of(secret.as_bytes())).await
    }

    /// Who acts with the token that has this SHA-256.
    pub async fn authenticate_hash(&self, hash: Digest) -> Result<Actor> {
        let refuse = || Error::new(Kind::Unauthenticated, "the token is unknown, expired or revoked");
        if self.rules.bootstrap == Some(hash) {
            return Ok(Actor::Bootstrap);
        }
        let now = self.now();
        let (token, principal) = self.store.token_by_hash(hash).await?.ok_or_else(refuse)?;
        if token.revoked_at.is_some() || token.expires_at.is_some_and(|at| at <= now) || principal.disabled_at.is_some()
        {
            return Err(refuse());
        }
        Ok(Actor::Principal { principal, scopes: token.scopes })
    }
}

/// Whether a repeated `create` asks for what is there: then it is no conflict but the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Made<T> {
    /// Made now.
    New(T),
    /// There already, with the same content.
    Same(T),
}

impl<T> Made<T> {
    /// The thing.
    pub fn into_inner(self) -> T {
        match self {
            Self::New(thing) | Self::Same(thing) => thing,
        }
    }
}

/// A title of at most 200 bytes, or the name.
fn title(given: Option<&str>, name: &str) -> Result<String> {
    let title = given.unwrap_or(name).trim();
    let max = sluice_catalog::wire::admin::MAX_TITLE_LEN;
    if title.is_empty() || title.len() > max || title.chars().any(char::is_control) {
        return Err(Error::invalid("title", format!("1 to {max} bytes without control characters")));
    }
    Ok(title.to_owned())
}
