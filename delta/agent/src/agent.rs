//! The agent with its state open and locked.

use jiff::{SignedDuration, Timestamp};
use sluice_catalog::text::Component;
use sluice_signer::limits::NEWEST_EPOCH;
use sluice_signer::{DirectorTrust, Limits, SigningKey, TrustedRepository, VerifyError, key_file};

use crate::boot::BootControl;
use crate::config::Config;
use crate::error::AgentError;
use crate::host::Host;
use crate::http::Http;
use crate::identity::{Identity, Session};
use crate::installed::Installed;
use crate::journal::Journal;
use crate::poll::DirectorState;
use crate::slot::Slot;
use crate::state::{Lock, StateDir, read_bounded, read_json};

/// The device's agent. While it lives it holds the lock of its state directory.
pub struct Agent<'a> {
    pub(crate) host: Host<'a>,
    pub(crate) boot: &'a dyn BootControl,
    pub(crate) state: StateDir,
    pub(crate) config: Config,
    pub(crate) key: SigningKey,
    pub(crate) limits: Limits,
    pub(crate) http: Http,
    pub(crate) installed: Installed,
    pub(crate) journal: Journal,
    pub(crate) repository: TrustedRepository,
    pub(crate) director: DirectorTrust,
    pub(crate) kept: DirectorState,
    pub(crate) identity: Option<Identity>,
    pub(crate) session: Option<Session>,
    /// Whether the session token was replaced in this cycle.
    pub(crate) session_renewed: bool,
    /// Whether a report could not be delivered in this cycle.
    pub(crate) delivery_failed: bool,
    /// Whether the new image has soaked for long enough, as far as it was looked at.
    pub(crate) soaked: bool,
    /// Which certificate the server said in this cycle that it has.
    pub(crate) certificate_hint: Option<String>,
    _lock: Lock,
}

impl<'a> Agent<'a> {
    /// Locks and reads the state directory.
    pub fn open(state: StateDir, boot: &'a dyn BootControl, host: Host<'a>) -> Result<Self, AgentError> {
        Self::open_knowing(NEWEST_EPOCH, state, boot, host)
    }

    /// The same as a program whose verifier knows this signing epoch.
    pub fn open_knowing(
        newest_epoch: u64,
        state: StateDir,
        boot: &'a dyn BootControl,
        host: Host<'a>,
    ) -> Result<Self, AgentError> {
        let lock = state.lock()?;
        let config = Config::load(&state)?;
        let limits = Limits { newest_epoch, ..Limits::default() };
        let key = read_key(&state)?;
        let http = Http::new(&config)?;
        let missing = || AgentError::NotProvisioned { path: state.root().to_owned() };
        let image_path = state.image_metadata();
        let repository = TrustedRepository::from_state(&read_json(&image_path)?.ok_or_else(missing)?, &limits)
            .map_err(damaged(&image_path))?;
        let director_path = state.director_metadata();
        let kept: DirectorState = read_json(&director_path)?.ok_or_else(missing)?;
        let director = DirectorTrust::from_root(kept.root.as_bytes(), &limits).map_err(damaged(&director_path))?;
        let (journal, opened) = Journal::open(&state.journal())?;
        if opened.cut_bytes > 0 {
            (host.log)(&format!("journal: cut off {} bytes of an unfinished record", opened.cut_bytes));
        }
        Ok(Self {
            installed: Installed::load(&state)?,
            identity: read_json(&state.identity())?,
            session: read_json(&state.session())?,
            session_renewed: false,
            delivery_failed: false,
            soaked: false,
            certificate_hint: None,
            host,
            boot,
            config,
            key,
            limits,
            http,
            journal,
            repository,
            director,
            kept,
            _lock: lock,
            state,
        })
    }

    /// The device's time: the system clock, or the last time that the server attested when that is later. A device without
    /// a battery-backed clock wakes up in 1970; expired documents must not be good there. Never at or past a trusted
    /// root's expiry, so that a stolen director key cannot set a time at which nothing is ever valid again.
    pub fn now(&self) -> Timestamp {
        clock((self.host.now)(), self.kept.attested_time, &self.director, &self.repository)
    }

    /// The newest signing epoch to which this device goes. An image that has not proven itself goes no further than the trusted
    /// roots are: the one before it must be able to read what is kept.
    pub(crate) fn epoch(&self) -> u64 {
        let unproven = self.journal.open_attempt().is_some_and(|attempt| !attempt.is_before_switch());
        let trusted = self.director.root().epoch.max(self.repository.root().epoch);
        if unproven { trusted } else { self.limits.newest_epoch }
    }

    pub(crate) fn active_slot(&self, component: &Component) -> Result<Slot, AgentError> {
        let path = self.state.slots().join(format!("{component}.pointer"));
        self.boot.active(component).map_err(|source| AgentError::Io { path, source })
    }

    /// The device's configuration.
    pub const fn config(&self) -> &Config {
        &self.config
    }
}

/// See [`Agent::now`].
pub(crate) fn clock(
    system: Timestamp,
    attested: Option<Timestamp>,
    director: &DirectorTrust,
    repository: &TrustedRepository,
) -> Timestamp {
    let Some(attested) = attested else { return system };
    let ceiling = director.root().expires.min(repository.root().expires) - SignedDuration::from_secs(1);
    system.max(attested.min(ceiling))
}

pub(crate) fn read_key(state: &StateDir) -> Result<SigningKey, AgentError> {
    let path = state.key();
    let limit = key_file::MAX_KEY_FILE_BYTES as u64;
    let Some(bytes) = read_bounded(&path, limit)? else {
        return Err(AgentError::NotProvisioned { path: state.root().to_owned() });
    };
    let corrupt = |reason: String| AgentError::Corrupt { path: path.clone(), reason };
    let pem = std::str::from_utf8(&bytes).map_err(|error| corrupt(error.to_string()))?;
    key_file::from_pem(pem, None).map_err(|error| corrupt(error.to_string()))
}

/// For `map_err`: trusted documents that no longer verify were changed on the storage.
pub(crate) fn damaged(path: &std::path::Path) -> impl FnOnce(VerifyError) -> AgentError + '_ {
    move |error| AgentError::Corrupt { path: path.to_owned(), reason: error.to_string() }
}
