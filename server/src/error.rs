//! The server's error: a [`Kind`] with a sentence that a client may see, and a cause that only the log sees.

use sluice_catalog::Kind;

/// Something that went wrong.
#[derive(Debug, thiserror::Error)]
#[error("{kind:?}: {detail}")]
pub struct Error {
    /// What kind of problem.
    pub kind: Kind,
    /// What exactly, and what to do next. Safe to show.
    pub detail: String,
    /// Why, for the log only.
    #[source]
    pub cause: Option<anyhow::Error>,
}

/// The result of a use case.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A problem of this kind.
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), cause: None }
    }

    /// No such thing: names what was looked for.
    pub fn not_found(what: &str, name: impl std::fmt::Display) -> Self {
        Self::new(Kind::NotFound, format!("there is no {what} `{name}`"))
    }

    /// A field breaks its rule.
    pub fn invalid(field: &str, rule: impl std::fmt::Display) -> Self {
        Self::new(Kind::Invalid, format!("{field}: {rule}"))
    }

    /// It contradicts what is there.
    pub fn conflict(detail: impl Into<String>) -> Self {
        Self::new(Kind::Conflict, detail)
    }

    /// Our fault. The cause goes to the log, never to the client.
    pub fn internal(cause: impl Into<anyhow::Error>) -> Self {
        Self {
            kind: Kind::Internal,
            detail: "the server failed; its log has the details under this id".into(),
            cause: Some(cause.into()),
        }
    }

    /// Whether the log has told the cause already, once for all requests that it hits.
    pub fn is_told(&self) -> bool {
        self.cause.as_ref().is_some_and(anyhow::Error::is::<crate::keys::TokenDown>)
    }

    /// A part of the server is away.
    pub fn unavailable(what: &str, cause: impl Into<anyhow::Error>) -> Self {
        Self {
            kind: Kind::Unavailable,
            detail: format!("{what} does not answer; try again later"),
            cause: Some(cause.into()),
        }
    }
}

impl From<crate::store::StoreError> for Error {
    fn from(error: crate::store::StoreError) -> Self {
        match error {
            crate::store::StoreError::Unavailable(cause) => Self::unavailable("the database", cause),
            crate::store::StoreError::Duplicate(cause) => Self {
                kind: Kind::Conflict,
                detail: "it exists already, with other content".into(),
                cause: Some(cause.into()),
            },
            crate::store::StoreError::Database(cause) => Self::internal(cause),
            crate::store::StoreError::Corrupt(what) => {
                Self::internal(anyhow::anyhow!("stored data is corrupt: {what}"))
            }
        }
    }
}
