//! A client of one repository: what it trusts, in a folder with one file for each role, and what it may take from the server.

use crate::edge;
use crate::folder::{read_limited, write_atomic};
use crate::http::Http;
use crate::release;
use anyhow::Context as _;
use jiff::Timestamp;
use sluice_signer::path::quoted;
use sluice_signer::{Found, Limits, Lookup, Refresh, RepositoryTarget, TrustedRepository, VerifyError, Wanted};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// What is read of a root that is trusted, whoever wrote it.
pub type Reader = fn(&[u8], &Limits) -> Result<TrustedRepository, VerifyError>;

/// A client of one repository.
pub struct Client<'a> {
    /// What it trusts.
    pub trusted: TrustedRepository,
    /// Whether a kept document of a delegated role is taken when the snapshot names one like it.
    pub reuse_roles: bool,
    limits: Limits,
    now: Timestamp,
    folder: &'a Path,
    url: &'a str,
    http: &'a Http,
}

impl<'a> Client<'a> {
    /// Trusts a root, and keeps it.
    pub fn trust(
        folder: &'a Path,
        root: &[u8],
        (url, http): (&'a str, &'a Http),
        now: Timestamp,
        read: Reader,
    ) -> anyhow::Result<Self> {
        let limits = edge::limits();
        let client = Self { trusted: read(root, &limits)?, reuse_roles: true, limits, now, folder, url, http };
        client.keep("root", root)?;
        Ok(client)
    }

    /// Takes up what the folder has; `None` when it trusts no root yet. Of what does not verify, the root ends it; the others
    /// are told of, because they no longer guard against older ones.
    pub fn open(
        folder: &'a Path,
        (url, http): (&'a str, &'a Http),
        now: Timestamp,
        read: Reader,
    ) -> anyhow::Result<Option<Self>> {
        let limits = edge::limits();
        let root = file_of(folder, "root");
        if !root.exists() {
            return Ok(None);
        }
        let mut trusted = read(&read_limited(&root, limits.root_bytes)?, &limits)?;
        let kept = [
            ("timestamp", limits.timestamp_bytes),
            ("snapshot", limits.snapshot_bytes),
            ("targets", limits.targets_bytes),
        ];
        for (role, limit) in kept {
            let file = file_of(folder, role);
            if file.exists()
                && let Err(error) = trusted.restore(role, &read_limited(&file, limit)?)
            {
                eprintln!("warning: {} is not trusted any more: {error}", file.display());
            }
        }
        Ok(Some(Self { trusted, reuse_roles: true, limits, now, folder, url, http }))
    }

    /// Asks for what is newer. Each document is kept as soon as it is trusted.
    pub fn refresh(&mut self, refresh: Refresh) -> anyhow::Result<()> {
        self.refresh_but(refresh, None).map(drop)
    }

    /// Like [`refresh`](Self::refresh), but returns the new document of one role instead of keeping it: the caller has more to
    /// ask of it, and then gives it to [`keep`](Self::keep).
    pub fn refresh_but(&mut self, mut refresh: Refresh, but: Option<&str>) -> anyhow::Result<Option<Vec<u8>>> {
        let mut held = None;
        while let Some(ask) = refresh.next(&self.trusted, self.now)? {
            let document = self.document(&ask.file, ask.limit)?;
            let given = match refresh.give(&mut self.trusted, document.as_deref(), self.now) {
                Ok(given) => given,
                // The specification goes on with the one that it has. Two of one version are a publisher's mistake, or worse.
                Err(error @ VerifyError::Equivocation { .. }) if ask.role == "timestamp" => {
                    eprintln!("warning: {error}; the trusted one is kept");
                    refresh.keep_timestamp();
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            // Before the root is kept: a run that is cut between them starts from the old root, and forgets them again.
            for role in given.forgotten {
                self.forget(role)?;
            }
            match document.filter(|_| given.trusted) {
                Some(bytes) if but == Some(ask.role) => held = Some(bytes),
                Some(bytes) => self.keep(ask.role, &bytes)?,
                None => {}
            }
        }
        Ok(held)
    }

    /// Searches a target, and loads the roles that may speak for it; `None` when none lists it.
    pub fn find(&mut self, path: &str) -> anyhow::Result<Option<Found>> {
        // The verifier bounds the roles visited; one more round than that finds or fails.
        for _ in 0..=self.limits.visited_roles {
            match self.trusted.target(path, self.now)? {
                Lookup::Found(found) => return Ok(Some(*found)),
                Lookup::NeedsRole { role, parent, wanted } => self.role(&role, &parent, &wanted)?,
                Lookup::NotFound => break,
            }
        }
        Ok(None)
    }

    /// Takes the document of a delegated role: the kept one when it is the one wanted, else the repository's.
    fn role(&mut self, role: &str, parent: &str, wanted: &Wanted) -> anyhow::Result<()> {
        if self.reuse_roles
            && let Ok(bytes) = read_limited(&file_of(self.folder, role), self.limits.targets_bytes)
            && self.trusted.update_targets(role, parent, &bytes, self.now).is_ok()
        {
            return Ok(());
        }
        let Some(bytes) = self.document(&wanted.file, wanted.limit)? else {
            return Err(VerifyError::Missing { role: role.to_owned(), file: wanted.file.clone() }.into());
        };
        self.trusted.update_targets(role, parent, &bytes, self.now)?;
        self.keep(role, &bytes)
    }

    /// Where a target is under the base URL of the targets.
    pub fn place(&self, target: &RepositoryTarget) -> String {
        let (folder, name) =
            target.path.rsplit_once('/').map_or((None, target.path.as_str()), |(folder, name)| (Some(folder), name));
        let name = if self.trusted.root().consistent_snapshot {
            format!("{}.{}", hex::encode(target.sha256), quoted(name))
        } else {
            quoted(name)
        };
        let folders = folder.into_iter().flat_map(|folder| folder.split('/')).map(quoted);
        folders.chain([name]).collect::<Vec<_>>().join("/")
    }

    fn document(&self, name: &str, limit: u64) -> anyhow::Result<Option<Vec<u8>>> {
        self.http.document(&format!("{}/{name}", self.url.trim_end_matches('/')), limit)
    }

    /// Keeps the trusted document of a role.
    pub fn keep(&self, role: &str, bytes: &[u8]) -> anyhow::Result<()> {
        write_atomic(&file_of(self.folder, role), bytes)
    }

    fn forget(&self, role: &str) -> anyhow::Result<()> {
        match fs::remove_file(file_of(self.folder, role)) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).context("cannot remove what is not trusted any more")
            }
            _ => Ok(()),
        }
    }
}

fn file_of(folder: &Path, role: &str) -> PathBuf {
    folder.join(format!("{}.json", quoted(role)))
}

/// Whether a file is the target.
pub fn file_is(file: &Path, target: &RepositoryTarget) -> anyhow::Result<bool> {
    Ok(file.exists() && release::hash(file)? == (target.sha256, target.length))
}
