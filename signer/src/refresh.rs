//! The order in which a client asks for the documents of a repository: TUF specification, section 5, without IO. The caller
//! fetches what [`Refresh::next`] names and hands the bytes to [`Refresh::give`], until nothing is left to ask for.
//!
//! What was given and verified is trusted at once, and a document that is refused changes nothing. So a refresh that ends
//! early leaves a trusted set from which the next one goes on.

use crate::error::VerifyError;
use crate::repository::TrustedRepository;
use jiff::Timestamp;

/// A document that the caller should fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// The role whose document it is.
    pub role: &'static str,
    /// File name under the metadata URL, for example `7.snapshot.json`.
    pub file: String,
    /// Bytes to read at most.
    pub limit: u64,
    /// Whether the repository may do without it. Only an answer that says so (status 404) tells that it does.
    pub optional: bool,
}

/// What became of a document that was given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Given {
    /// Whether it is now the trusted one of its role. `false` for a document that does not exist.
    pub trusted: bool,
    /// Roles whose documents are not trusted any more, because a new root changed their keys: whoever had the old keys may
    /// have set their versions to anything. Whoever keeps documents removes these *before* keeping the root.
    pub forgotten: Vec<&'static str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Root,
    Timestamp,
    Snapshot,
    Targets,
    LoneTargets,
    Complete,
    Done,
}

/// One refresh: every next root until there is none, timestamp, snapshot when the timestamp names another one, top targets
/// when the snapshot names another one. Delegated roles follow as the search for a target names them.
#[derive(Debug, Clone)]
pub struct Refresh {
    stage: Stage,
    lone_targets: bool,
}

impl Refresh {
    /// A refresh of a repository with all four roles.
    #[expect(clippy::new_without_default, reason = "a refresh is begun, it has no neutral value")]
    pub fn new() -> Self {
        Self { stage: Stage::Root, lone_targets: false }
    }

    /// A refresh of a director, which may have root and targets only: without a timestamp its targets are checked by their
    /// own signatures, version and expiry. One that had a timestamp before must have one for ever.
    pub fn of_director() -> Self {
        Self { lone_targets: true, ..Self::new() }
    }

    /// The next document to fetch; `None` when the trusted set is complete and current.
    pub fn next(&mut self, repository: &TrustedRepository, now: Timestamp) -> Result<Option<Ask>, VerifyError> {
        let limits = repository.limits();
        let ask = |role, file, limit, optional| Ok(Some(Ask { role, file, limit, optional }));
        loop {
            match self.stage {
                // The verifier refuses more rotations than its limit, which bounds the requests as well.
                Stage::Root => {
                    return ask(
                        "root",
                        format!("{}.root.json", repository.root_version() + 1),
                        limits.root_bytes,
                        true,
                    );
                }
                Stage::Timestamp => {
                    // The roots on the way here may have expired long ago.
                    repository.check_root_expiry(now)?;
                    let optional = self.lone_targets && repository.timestamp_version().is_none();
                    return ask("timestamp", "timestamp.json".to_owned(), limits.timestamp_bytes, optional);
                }
                Stage::Snapshot => match repository.wanted_snapshot() {
                    Some(wanted) => return ask("snapshot", wanted.file, wanted.limit, false),
                    None => self.stage = Stage::Targets,
                },
                Stage::Targets => match repository.wanted_role("targets") {
                    Some(wanted) => return ask("targets", wanted.file, wanted.limit, false),
                    None => self.stage = Stage::Complete,
                },
                Stage::Complete => {
                    repository.check_current(now)?;
                    self.stage = Stage::Done;
                }
                Stage::LoneTargets => {
                    return ask("targets", "targets.json".to_owned(), limits.targets_bytes, false);
                }
                Stage::Done => return Ok(None),
            }
        }
    }

    /// Takes the document that [`next`](Self::next) named; `None` says that the repository has none. After an error the same
    /// document is asked for again.
    pub fn give(
        &mut self,
        repository: &mut TrustedRepository,
        document: Option<&[u8]>,
        now: Timestamp,
    ) -> Result<Given, VerifyError> {
        let Some(bytes) = document else {
            self.stage = match self.next(repository, now)? {
                None => Stage::Done,
                Some(Ask { role, file, optional: false, .. }) => {
                    return Err(VerifyError::Missing { role: role.to_owned(), file });
                }
                Some(_) if self.stage == Stage::Root => Stage::Timestamp,
                Some(_) => Stage::LoneTargets,
            };
            return Ok(Given::default());
        };
        let mut forgotten = Vec::new();
        self.stage = match self.stage {
            Stage::Root => {
                let rotated = repository.update_root(bytes)?.rotated;
                if rotated.contains("timestamp") || rotated.contains("snapshot") {
                    forgotten.extend(["timestamp", "snapshot"]);
                }
                if rotated.contains("targets") {
                    forgotten.push("targets");
                }
                Stage::Root
            }
            Stage::Timestamp => {
                repository.update_timestamp(bytes, now)?;
                Stage::Snapshot
            }
            Stage::Snapshot => {
                repository.update_snapshot(bytes, now)?;
                Stage::Targets
            }
            Stage::Targets => {
                repository.update_targets("targets", "root", bytes, now)?;
                // Once: whatever the snapshot says of it, the same document is not asked for again.
                Stage::Complete
            }
            Stage::LoneTargets => {
                repository.update_lone_targets(bytes, now)?;
                Stage::Done
            }
            stage @ (Stage::Complete | Stage::Done) => stage,
        };
        Ok(Given { trusted: true, forgotten })
    }

    /// Goes on with the timestamp that is trusted already, after another one of the same version was refused: the
    /// specification leaves that to the client.
    pub fn keep_timestamp(&mut self) {
        if self.stage == Stage::Timestamp {
            self.stage = Stage::Snapshot;
        }
    }
}
