//! What can go wrong, and the exit code of each: the catalog's problem vocabulary, and a server that does not answer.

use std::io;
use std::process::ExitCode;

use sluice_catalog::{Kind, Problem};

use crate::output::printable;

/// Longest piece of an answer that is no problem document, shown to a person, characters.
const SHOWN_MAX: usize = 200;

/// Everything that ends a command early.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The server said no, in its own vocabulary.
    #[error("{}: {} (id {})", printable(&.0.title), printable(&.0.detail), printable(&.0.id))]
    Problem(Problem),
    /// No answer came.
    #[error("{server} does not answer: {cause}; check --server and whether the server runs")]
    Unreachable {
        /// The server's address.
        server: String,
        /// What the connection said.
        cause: String,
    },
    /// An answer came that this protocol does not know.
    #[error("{server} answered {status} with what is no answer of a Sluice server: {shown}")]
    Foreign {
        /// The server's address.
        server: String,
        /// The HTTP status.
        status: u16,
        /// The beginning of the body.
        shown: String,
    },
    /// The command is not complete or contradicts itself; the message says what to type.
    #[error("{0}")]
    Usage(String),
    /// What was asked to be checked does not hold.
    #[error("{0}")]
    Refused(String),
    /// A wait ended before what it waited for.
    #[error("{0}")]
    TimedOut(String),
    /// This machine: a file, the terminal.
    #[error(transparent)]
    Local(#[from] anyhow::Error),
}

impl Failure {
    /// An answer that is no problem document.
    pub fn foreign(server: &str, status: u16, body: &[u8]) -> Self {
        let shown = String::from_utf8_lossy(body).trim().chars().take(SHOWN_MAX).collect::<String>();
        Self::Foreign { server: server.to_owned(), status, shown: printable(&shown).into_owned() }
    }

    /// Whether the same request may succeed in a moment.
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::Problem(problem) => matches!(problem.kind, Kind::Unavailable | Kind::RateLimited),
            Self::Unreachable { .. } => true,
            _ => false,
        }
    }

    /// The exit code: see `sluicectl --help`.
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Problem(problem) => problem.kind.exit_code(),
            Self::Refused(_) => 1,
            Self::Usage(_) => 2,
            Self::Unreachable { .. } | Self::TimedOut(_) => 6,
            Self::Foreign { .. } | Self::Local(_) => 7,
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Local(error.into())
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        Self::Local(error.into())
    }
}

/// Tells the person (or, with `--json`, the program) what went wrong.
pub fn report(failure: &Failure, json: bool) -> ExitCode {
    if let Failure::Local(error) = failure
        && error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    {
        // The reader (`head`) has seen enough.
        return ExitCode::SUCCESS;
    }
    match failure {
        Failure::Problem(problem) if json => {
            eprintln!("{}", serde_json::to_string(problem).unwrap_or_else(|_| failure.to_string()));
        }
        Failure::Local(error) => eprintln!("sluicectl: {}", printable(&format!("{error:#}"))),
        _ => eprintln!("sluicectl: {failure}"),
    }
    ExitCode::from(failure.exit_code())
}
