//! PKCS#11 modules: the libraries of the tokens' makers. Each is loaded and started once for the process, whoever asks, and
//! started again only when a token that it should know is lost.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Function, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::session::Session;
use cryptoki::slot::Slot;

use crate::error::TokenError;
use crate::uri::TokenUri;

/// Variable with the path of the module, for URIs that name none.
pub const MODULE_VARIABLE: &str = "SLUICE_PKCS11_MODULE";

/// Where a URI comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UriSource {
    /// Typed by the person at the machine, or from the configuration that this person wrote.
    Typed,
    /// Read from a file, which may be somebody else's: the library that it names would run here.
    File,
}

/// The modules of this process.
static LOADED: Mutex<BTreeMap<PathBuf, Arc<Module>>> = Mutex::new(BTreeMap::new());

/// A loaded module.
pub(crate) struct Module {
    pub(crate) path: PathBuf,
    library: Pkcs11,
    /// It was started here, so it may be started again here.
    ours: bool,
    /// How often it was started again. Calls hold it for reading: none may be under way while the module stops.
    run: RwLock<u64>,
}

/// A session that is let go of as it must be: closed, unless the module was started again and knows it no more.
pub(crate) struct Live {
    session: Option<Session>,
    module: Arc<Module>,
    run: u64,
}

fn initialize(library: &Pkcs11) -> Result<bool, Error> {
    match library.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
        Ok(()) => Ok(true),
        // Another part of the process did, perhaps by another path to the same library.
        Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => Ok(false),
        Err(error) => Err(error),
    }
}

impl Module {
    /// Loads and starts a module, unless that was done.
    pub(crate) fn load(path: &Path) -> Result<Arc<Self>, TokenError> {
        let failed = |source| TokenError::Module { module: path.to_owned(), source };
        // Held all the time, so that two threads do not start it both.
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(module) = loaded.get(path) {
            return Ok(Arc::clone(module));
        }
        let library = Pkcs11::new(path).map_err(failed)?;
        let ours = initialize(&library).map_err(failed)?;
        let module = Arc::new(Self { path: path.to_owned(), library, ours, run: RwLock::new(0) });
        loaded.insert(path.to_owned(), Arc::clone(&module));
        Ok(module)
    }

    /// Which run of the module this is.
    pub(crate) fn run(&self) -> u64 {
        *self.run.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops the module and starts it again, unless somebody did since that run: a module may never find a token again that
    /// was away (SoftHSM, and clients of modules in the network). Sessions of all its tokens end with it, and are opened again.
    pub(crate) fn restart(&self, seen: u64) -> Result<(), TokenError> {
        let mut run = self.run.write().unwrap_or_else(PoisonError::into_inner);
        if *run != seen || !self.ours {
            return Ok(());
        }
        *run += 1;
        // One that cannot be stopped says so again when it is started.
        let _ = self.library.clone().finalize();
        initialize(&self.library).map_err(|source| TokenError::Module { module: self.path.clone(), source })?;
        Ok(())
    }

    /// A call to the module itself.
    pub(crate) fn call<T>(&self, call: impl FnOnce(&Pkcs11) -> Result<T, Error>) -> Result<T, TokenError> {
        let _run = self.run.read().unwrap_or_else(PoisonError::into_inner);
        call(&self.library).map_err(|source| TokenError::Module { module: self.path.clone(), source })
    }

    /// Opens a session.
    pub(crate) fn open(self: &Arc<Self>, slot: Slot, write: bool) -> Result<Live, TokenError> {
        let run = self.run.read().unwrap_or_else(PoisonError::into_inner);
        let session = if write { self.library.open_rw_session(slot) } else { self.library.open_ro_session(slot) };
        let session = session.map_err(|source| TokenError::Module { module: self.path.clone(), source })?;
        Ok(Live { session: Some(session), module: Arc::clone(self), run: *run })
    }
}

impl Live {
    /// A call in the session.
    pub(crate) fn call<T>(&self, call: impl FnOnce(&Session) -> Result<T, Error>) -> Result<T, Error> {
        let run = self.module.run.read().unwrap_or_else(PoisonError::into_inner);
        match &self.session {
            Some(session) if *run == self.run => call(session),
            // The module knows it no more, or by now calls another one so.
            _ => Err(Error::Pkcs11(RvError::SessionHandleInvalid, Function::GetSessionInfo)),
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        let run = self.module.run.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(session) = self.session.take()
            && *run != self.run
        {
            std::mem::forget(session);
        }
    }
}

/// The module of a URI, or of the environment.
pub(crate) fn path(uri: &TokenUri, source: UriSource) -> Result<PathBuf, TokenError> {
    let own = std::env::var_os(MODULE_VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from);
    match &uri.module_path {
        Some(path) if source == UriSource::File && own.as_ref() != Some(path) && !is_of_the_system(path) => {
            Err(TokenError::ForeignModule { module: path.clone() })
        }
        Some(path) => Ok(path.clone()),
        None => own.ok_or_else(|| TokenError::NoModule { uri: uri.to_string() }),
    }
}

/// Whether nobody but the administrator can have put a file there. One that is missing is reported when it is loaded.
#[cfg(unix)]
fn is_of_the_system(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let fixed = |path: &Path| match std::fs::metadata(path) {
        Ok(metadata) => metadata.uid() == 0 && metadata.mode() & 0o022 == 0,
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    };
    path.is_absolute() && path.ancestors().all(fixed)
}

#[cfg(not(unix))]
fn is_of_the_system(_: &Path) -> bool {
    false
}
