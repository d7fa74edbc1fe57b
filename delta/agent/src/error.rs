//! Why the agent could not do what it was asked. Each error says what to do next, and has its exit code.

use std::io;
use std::path::PathBuf;

use sluice_signer::{AgreeError, VerifyError};

/// Everything that ends a command without a result.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// A file of the state directory could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file of the state directory does not say what it should.
    #[error("{path}: {reason}; restore it, or provision the device anew with `init`")]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A file of the state directory is larger than it can honestly be.
    #[error("{path}: longer than the limit of {limit} bytes")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Bytes allowed.
        limit: u64,
    },
    /// Another agent works on this state directory.
    #[error("{path}: another agent holds the lock; two agents would write one slot")]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// The state directory was never provisioned.
    #[error("{path}: not provisioned; run `sluice-agent init` first")]
    NotProvisioned {
        /// The state directory.
        path: PathBuf,
    },
    /// The state directory is in use already.
    #[error("{path}: provisioned already; `init` never overwrites a device")]
    AlreadyProvisioned {
        /// The file that is there.
        path: PathBuf,
    },
    /// A setting is out of its range.
    #[error("{field}: {reason}")]
    Setting {
        /// The field of `agent.toml` or the option.
        field: &'static str,
        /// The rule and the limit.
        reason: String,
    },
    /// The device has no identity yet.
    #[error("not enrolled; run `sluice-agent enrol` first")]
    NotEnrolled,
    /// The server could not be reached, or failed, after all tries.
    #[error("{what}: {detail}; the agent tries again at the next poll")]
    Unreachable {
        /// What was asked for.
        what: String,
        /// What went wrong last.
        detail: String,
    },
    /// The server understood and said no.
    #[error("{what}: the server answered {status}: {detail}")]
    Denied {
        /// What was asked for.
        what: String,
        /// The HTTP status.
        status: u16,
        /// The server's words, shortened.
        detail: String,
    },
    /// The server's answer is not what the protocol says.
    #[error("{what}: {detail}")]
    Protocol {
        /// What was asked for.
        what: String,
        /// What is wrong with the answer.
        detail: String,
    },
    /// Signed metadata did not verify. Nothing was changed.
    #[error("{what} refused: {source}")]
    Refused {
        /// `director` or `image repository`.
        what: &'static str,
        /// The rule that it breaks.
        source: Box<VerifyError>,
    },
    /// The offer is authentic, but this device's own policy or the offline-signed metadata does not agree.
    #[error("offer refused ({rule}): {0}", rule = .0.rule())]
    Disagreed(Box<AgreeError>),
    /// The offer names something that the image repository does not know, or more than this device can take.
    #[error("offer refused: {0}")]
    OfferRefused(String),
    /// The process was asked to stop. The next start resumes.
    #[error("stopped; the next start resumes")]
    Stopped,
}

/// Exit code of success: up to date, updated, or nothing offered.
pub const EXIT_OK: u8 = 0;
/// Exit code of trouble on this machine: files, storage, configuration.
pub const EXIT_LOCAL: u8 = 1;
/// Exit code of wrong usage.
pub const EXIT_USAGE: u8 = 2;
/// Exit code when the server does not admit the device: not enrolled, blocked, key conflict.
pub const EXIT_NO_ACCESS: u8 = 3;
/// Exit code when an update failed and the device still runs the old slot.
pub const EXIT_UPDATE_FAILED: u8 = 10;
/// Exit code when signed metadata or an offer was refused.
pub const EXIT_REFUSED: u8 = 11;
/// Exit code when the server could not be reached.
pub const EXIT_UNREACHABLE: u8 = 12;
/// Exit code of `verify` when a slot is not what the records say.
pub const EXIT_SLOT_DAMAGED: u8 = 14;

impl AgentError {
    /// The exit code that `docs/agent.md` documents.
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Io { .. } | Self::Corrupt { .. } | Self::TooLarge { .. } | Self::Locked { .. } => EXIT_LOCAL,
            Self::Setting { .. } | Self::NotProvisioned { .. } | Self::AlreadyProvisioned { .. } => EXIT_USAGE,
            Self::NotEnrolled | Self::Denied { .. } => EXIT_NO_ACCESS,
            Self::Refused { .. } | Self::Disagreed(_) | Self::OfferRefused(_) => EXIT_REFUSED,
            Self::Unreachable { .. } | Self::Protocol { .. } => EXIT_UNREACHABLE,
            Self::Stopped => EXIT_OK,
        }
    }

    /// Whether the device itself, not the network or the server, is the cause.
    pub const fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused { .. } | Self::Disagreed(_) | Self::OfferRefused(_))
    }

    /// For `map_err`: an IO error with its file.
    pub(crate) fn io(path: &std::path::Path) -> impl FnOnce(io::Error) -> Self + '_ {
        move |source| Self::Io { path: path.to_owned(), source }
    }
}

/// Bytes of a server's text shown in a message: a log line must not carry a document.
const MAX_SHOWN_BYTES: usize = 300;

/// Shortens a foreign text and shows control characters as escapes, so that it cannot forge log lines.
pub(crate) fn shown(text: &str) -> String {
    let mut short = String::new();
    for character in text.chars() {
        if short.len() >= MAX_SHOWN_BYTES {
            short.push_str("...");
            break;
        }
        if character.is_control() {
            short.extend(character.escape_default());
        } else {
            short.push(character);
        }
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_cannot_flood_or_forge_a_log_line() {
        assert_eq!(shown("plain é"), "plain é");
        assert_eq!(shown("a\nforged"), "a\\nforged");
        assert!(shown(&"x".repeat(10_000)).len() <= MAX_SHOWN_BYTES + 3);
    }
}
