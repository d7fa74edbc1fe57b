//! The repository folder on disk.
//!
//! ```text
//! online-keys.json           the server's public keys
//! holders.json               names of key ids, for messages only
//! products.json              what releases of each product must be like
//! metadata/N.ROLE.json       complete documents of the image repository
//! director/metadata/N.root.json
//! staged/image/N.ROLE.json   documents that still gather signatures
//! staged/director/N.root.json
//! targets/SHA256             images and other blobs, by digest
//! ```

use crate::edge;
use crate::failure::Failure;
use crate::product::Registry;
use anyhow::Context as _;
use sluice_signer::publish::Repository;
use sluice_signer::{Envelope, Limits, OnlineKeys, Sha256Digest, TargetsMetadata, embargo};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};

/// Bytes of `holders.json` and other small files of the folder.
const MAX_SMALL_FILE_BYTES: u64 = 1 << 20;
/// Roots followed on disk; the verifier has the same bound.
const MAX_ROOTS: u64 = 256;

/// A document's place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DocumentId {
    pub repository: Repository,
    pub role: String,
    pub version: u64,
}

impl DocumentId {
    pub fn image(role: &str, version: u64) -> Self {
        Self { repository: Repository::Image, role: role.to_owned(), version }
    }

    /// The role as people say it: the director's root is `director-root`.
    pub fn name(&self) -> String {
        match self.repository {
            Repository::Image => self.role.clone(),
            Repository::Director => format!("director-{}", self.role),
        }
    }

    /// The role whose document names the keys that may sign this one; a root names its own.
    pub fn vouched_by(&self) -> Option<&'static str> {
        match self.role.as_str() {
            "root" => None,
            "targets" => Some("root"),
            _ => Some("targets"),
        }
    }

    /// The name of its file.
    pub fn file(&self) -> String {
        format!("{}.{}.json", self.version, self.role)
    }

    /// Roots before targets before product roles: the order in which documents vouch for each other. An embargo role's comes after the
    /// product's, into which a release may go over.
    fn rank(&self) -> u8 {
        match (self.role.as_str(), self.repository) {
            ("root", Repository::Image) => 0,
            ("root", Repository::Director) => 1,
            ("targets", _) => 2,
            (role, _) if embargo::is_role_name(role) => 4,
            _ => 3,
        }
    }
}

/// A complete document.
pub type Complete = (DocumentId, Vec<u8>);

/// The folder.
pub struct Folder {
    path: PathBuf,
    pub limits: Limits,
}

impl Folder {
    /// Opens a folder that `root init` made.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let folder = Self { path: path.to_owned(), limits: edge::limits() };
        if !folder.online_keys_file().exists() {
            let message = format!("{} is no repository folder", path.display());
            return Err(Failure::file(message, "make one with `sluice-sign root init`"));
        }
        Ok(folder)
    }

    /// Makes a folder with nothing staged yet.
    pub fn create(path: &Path) -> anyhow::Result<Self> {
        let folder = Self { path: path.to_owned(), limits: edge::limits() };
        if folder.online_keys_file().exists() {
            let message = format!("{} is a repository folder already", path.display());
            return Err(Failure::refused(message, "choose another folder; a root is made once"));
        }
        fs::create_dir_all(path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(folder)
    }

    fn online_keys_file(&self) -> PathBuf {
        self.path.join("online-keys.json")
    }

    pub fn online_keys(&self) -> anyhow::Result<OnlineKeys> {
        let path = self.online_keys_file();
        let bytes = read_limited(&path, MAX_SMALL_FILE_BYTES)?;
        OnlineKeys::from_bytes(&bytes).with_context(|| path.display().to_string())
    }

    pub fn write_online_keys(&self, keys: &OnlineKeys) -> anyhow::Result<()> {
        write_atomic(&self.online_keys_file(), format!("{}\n", keys.to_json()).as_bytes())
    }

    /// Names of key ids. They are a convenience: no decision is taken by them.
    pub fn holders(&self) -> anyhow::Result<BTreeMap<String, String>> {
        let path = self.path.join("holders.json");
        if !path.exists() {
            return Ok(BTreeMap::new());
        }
        let bytes = read_limited(&path, MAX_SMALL_FILE_BYTES)?;
        serde_json::from_slice(&bytes).with_context(|| path.display().to_string())
    }

    pub fn add_holders(&self, names: impl IntoIterator<Item = (String, String)>) -> anyhow::Result<()> {
        let mut holders = self.holders()?;
        holders.extend(names);
        write_atomic(&self.path.join("holders.json"), &serde_json::to_vec_pretty(&holders)?)
    }

    /// What releases of each product must be like.
    pub fn products(&self) -> anyhow::Result<Registry> {
        let path = self.path.join("products.json");
        if path.exists() { read_registry(&path) } else { Ok(Registry::new()) }
    }

    pub fn write_products(&self, registry: &Registry) -> anyhow::Result<()> {
        write_atomic(&self.path.join("products.json"), &serde_json::to_vec_pretty(registry)?)
    }

    fn sealed_dir(&self, repository: Repository) -> PathBuf {
        match repository {
            Repository::Image => self.path.join("metadata"),
            Repository::Director => self.path.join("director").join("metadata"),
        }
    }

    fn staged_dir(&self, repository: Repository) -> PathBuf {
        let name = match repository {
            Repository::Image => "image",
            Repository::Director => "director",
        };
        self.path.join("staged").join(name)
    }

    pub fn limit(&self, role: &str) -> u64 {
        if role == "root" { self.limits.root_bytes } else { self.limits.targets_bytes }
    }

    /// Every complete root of a repository, from version 1 on.
    pub fn sealed_roots(&self, repository: Repository) -> anyhow::Result<Vec<Vec<u8>>> {
        let mut roots = Vec::new();
        for version in 1..=MAX_ROOTS {
            let path = self.sealed_dir(repository).join(format!("{version}.root.json"));
            if !path.exists() {
                break;
            }
            roots.push(read_limited(&path, self.limits.root_bytes)?);
        }
        Ok(roots)
    }

    /// The newest complete document of every other role of the image repository.
    pub fn sealed_latest(&self) -> anyhow::Result<BTreeMap<String, Complete>> {
        let mut latest: BTreeMap<String, DocumentId> = BTreeMap::new();
        for id in list(&self.sealed_dir(Repository::Image), Repository::Image)? {
            if id.role != "root" && latest.get(&id.role).is_none_or(|known| known.version < id.version) {
                latest.insert(id.role.clone(), id);
            }
        }
        let mut documents = BTreeMap::new();
        for (role, id) in latest {
            let bytes = self.sealed(&id)?;
            documents.insert(role, (id, bytes));
        }
        Ok(documents)
    }

    /// The complete documents before these, of embargo roles whose newest has a moment: the newest first, to the first without one.
    pub fn sealed_earlier(
        &self,
        latest: &BTreeMap<String, Complete>,
    ) -> anyhow::Result<BTreeMap<String, Vec<Complete>>> {
        let known = list(&self.sealed_dir(Repository::Image), Repository::Image)?;
        let mut all = BTreeMap::new();
        for (role, (id, bytes)) in latest.iter().filter(|(role, _)| embargo::is_role_name(role)) {
            let mut has_moment = self.has_moment(role, bytes);
            let mut earlier = Vec::new();
            for id in known.iter().rev().filter(|one| one.role == *role && one.version < id.version) {
                if !has_moment {
                    break;
                }
                let bytes = self.sealed(id)?;
                has_moment = self.has_moment(role, &bytes);
                earlier.push((id.clone(), bytes));
            }
            all.insert(role.clone(), earlier);
        }
        Ok(all)
    }

    /// What cannot be read has none; whoever needs the document is told.
    fn has_moment(&self, role: &str, bytes: &[u8]) -> bool {
        let document = Envelope::parse(role, bytes, self.limit(role), &self.limits)
            .and_then(|envelope| TargetsMetadata::from_json(role, envelope.signed(), &self.limits));
        document.is_ok_and(|document| document.not_before.is_some())
    }

    /// Every complete document of both repositories, in the order of trust and then of versions.
    pub fn history(&self) -> anyhow::Result<Vec<DocumentId>> {
        let mut ids = Vec::new();
        for repository in [Repository::Image, Repository::Director] {
            ids.extend(list(&self.sealed_dir(repository), repository)?);
        }
        ids.sort_by(|one, other| (one.rank(), &one.role, one.version).cmp(&(other.rank(), &other.role, other.version)));
        Ok(ids)
    }

    pub fn sealed(&self, id: &DocumentId) -> anyhow::Result<Vec<u8>> {
        read_limited(&self.sealed_dir(id.repository).join(id.file()), self.limit(&id.role))
    }

    pub fn is_sealed(&self, id: &DocumentId) -> bool {
        self.sealed_dir(id.repository).join(id.file()).exists()
    }

    /// Documents that still gather signatures, in the order of trust.
    pub fn staged(&self) -> anyhow::Result<Vec<(DocumentId, Envelope)>> {
        let mut staged = Vec::new();
        for repository in [Repository::Image, Repository::Director] {
            for id in list(&self.staged_dir(repository), repository)? {
                let bytes = read_limited(&self.staged_dir(repository).join(id.file()), self.limit(&id.role))?;
                let envelope = Envelope::parse(&id.name(), &bytes, self.limit(&id.role), &self.limits)?;
                staged.push((id, envelope));
            }
        }
        staged.sort_by(|(one, _), (other, _)| (one.rank(), one).cmp(&(other.rank(), other)));
        Ok(staged)
    }

    pub fn stage(&self, id: &DocumentId, envelope: &Envelope) -> anyhow::Result<()> {
        write_atomic(&self.staged_dir(id.repository).join(id.file()), &envelope.to_bytes())
    }

    pub fn discard(&self, id: &DocumentId) -> anyhow::Result<()> {
        let path = self.staged_dir(id.repository).join(id.file());
        fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))
    }

    /// Moves a complete document to its place. It never changes again.
    pub fn seal(&self, id: &DocumentId) -> anyhow::Result<()> {
        let (from, to) =
            (self.staged_dir(id.repository).join(id.file()), self.sealed_dir(id.repository).join(id.file()));
        fs::create_dir_all(self.sealed_dir(id.repository))?;
        fs::rename(&from, &to).with_context(|| format!("cannot move {} to {}", from.display(), to.display()))
    }

    pub fn blob(&self, digest: &Sha256Digest) -> PathBuf {
        self.path.join("targets").join(hex::encode(digest))
    }
}

fn list(folder: &Path, repository: Repository) -> anyhow::Result<Vec<DocumentId>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("cannot list {}", folder.display())),
    };
    let mut ids = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        let parts = name.to_str().and_then(|name| name.strip_suffix(".json")).and_then(|name| name.split_once('.'));
        if let Some((version, role)) = parts
            && let Ok(version) = version.parse()
        {
            ids.push(DocumentId { repository, role: role.to_owned(), version });
        }
    }
    ids.sort();
    Ok(ids)
}

/// Reads a product registry.
pub fn read_registry(path: &Path) -> anyhow::Result<Registry> {
    let bytes = read_limited(path, MAX_SMALL_FILE_BYTES)?;
    serde_json::from_slice(&bytes).with_context(|| path.display().to_string())
}

/// Reads a file of at most `limit` bytes.
pub fn read_limited(path: &Path, limit: u64) -> anyhow::Result<Vec<u8>> {
    let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).with_context(|| path.display().to_string())?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > limit {
        anyhow::bail!("{} is larger than {limit} bytes", path.display());
    }
    Ok(bytes)
}

/// Replaces a file so that a reader sees the old or the new one, whatever happens in between.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let context = || format!("cannot write {}", path.display());
    let folder = path.parent().with_context(context)?;
    fs::create_dir_all(folder).with_context(context)?;
    let mut name = path.file_name().with_context(context)?.to_owned();
    name.push(".partial");
    let partial = folder.join(name);
    let mut file = File::create(&partial).with_context(context)?;
    file.write_all(bytes).with_context(context)?;
    file.sync_all().with_context(context)?;
    fs::rename(&partial, path).with_context(context)
}

/// Writes a file that must not exist yet.
pub fn write_new(path: &Path, bytes: &[u8], mode: u32) -> anyhow::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
    #[cfg(not(unix))]
    let _ = mode;
    let mut file = match options.open(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            return Err(Failure::refused(
                format!("{} exists", path.display()),
                "choose another name; keys are never overwritten",
            ));
        }
        other => other.with_context(|| format!("cannot write {}", path.display()))?,
    };
    file.write_all(bytes).and_then(|()| file.sync_all()).with_context(|| format!("cannot write {}", path.display()))
}

/// Writes a file that must not exist yet, unless it is just this one.
pub fn write_once(path: &Path, bytes: &[u8], mode: u32) -> anyhow::Result<()> {
    match fs::read(path) {
        Ok(found) if found == bytes => Ok(()),
        _ => write_new(path, bytes, mode),
    }
}
