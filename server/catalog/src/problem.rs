//! One problem vocabulary: a closed [`Kind`], mapped once to an HTTP status, a GraphQL code and an exit code.

use serde::{Deserialize, Serialize};

/// What kind of problem it is. Each tells the caller what to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Kind {
    /// Not what the format says (broken JSON, an unknown member): correct the request.
    Malformed,
    /// A field breaks its rule: correct that field.
    Invalid,
    /// No, a wrong, an expired or a revoked token: get one.
    Unauthenticated,
    /// The token may not do this: ask someone who may.
    Forbidden,
    /// There is no such thing.
    NotFound,
    /// It contradicts what is there: look, then decide.
    Conflict,
    /// Longer than the limit.
    TooLarge,
    /// The state it acts on does not allow it now.
    WrongState,
    /// Signed metadata did not verify: nothing was taken in.
    Unverified,
    /// Too many: wait.
    RateLimited,
    /// A part of the server is away: the same request may go through later.
    Unavailable,
    /// Our fault; the id finds it in the log.
    Internal,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Malformed,
        Self::Invalid,
        Self::Unauthenticated,
        Self::Forbidden,
        Self::NotFound,
        Self::Conflict,
        Self::TooLarge,
        Self::WrongState,
        Self::Unverified,
        Self::RateLimited,
        Self::Unavailable,
        Self::Internal,
    ];

    /// The name in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Invalid => "invalid",
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::TooLarge => "too_large",
            Self::WrongState => "wrong_state",
            Self::Unverified => "unverified",
            Self::RateLimited => "rate_limited",
            Self::Unavailable => "unavailable",
            Self::Internal => "internal",
        }
    }

    /// A short title for people.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Malformed => "The request is malformed",
            Self::Invalid => "A field is invalid",
            Self::Unauthenticated => "A valid token is needed",
            Self::Forbidden => "This token may not do that",
            Self::NotFound => "There is no such thing",
            Self::Conflict => "It contradicts what is there",
            Self::TooLarge => "The request is too large",
            Self::WrongState => "The state does not allow that now",
            Self::Unverified => "The signed metadata does not verify",
            Self::RateLimited => "Too many requests",
            Self::Unavailable => "The service is unavailable",
            Self::Internal => "Something went wrong here",
        }
    }

    /// The HTTP status.
    pub const fn http_status(self) -> u16 {
        match self {
            Self::Malformed => 400,
            Self::Invalid | Self::Unverified => 422,
            Self::Unauthenticated => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::Conflict | Self::WrongState => 409,
            Self::TooLarge => 413,
            Self::RateLimited => 429,
            Self::Unavailable => 503,
            Self::Internal => 500,
        }
    }

    /// `extensions.code` of a GraphQL error.
    pub const fn graphql_code(self) -> &'static str {
        match self {
            Self::Malformed | Self::Invalid | Self::TooLarge | Self::Unverified => "BAD_USER_INPUT",
            Self::Unauthenticated => "UNAUTHENTICATED",
            Self::Forbidden => "FORBIDDEN",
            Self::NotFound => "NOT_FOUND",
            Self::Conflict | Self::WrongState => "CONFLICT",
            Self::RateLimited => "RATE_LIMITED",
            Self::Unavailable => "UNAVAILABLE",
            Self::Internal => "INTERNAL_SERVER_ERROR",
        }
    }

    /// The exit code of a command line that met it: 1 refused, 2 usage, 3 no access, 4 not there, 5 conflict,
    /// 6 try again later, 7 our fault.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Unverified => 1,
            Self::Malformed | Self::Invalid | Self::TooLarge => 2,
            Self::Unauthenticated | Self::Forbidden => 3,
            Self::NotFound => 4,
            Self::Conflict | Self::WrongState => 5,
            Self::RateLimited | Self::Unavailable => 6,
            Self::Internal => 7,
        }
    }

    /// Whether the same request may succeed later.
    pub const fn is_retryable(self) -> bool {
        matches!(self, Self::RateLimited | Self::Unavailable | Self::Internal)
    }
}

/// A problem as a client sees it (RFC 9457, `application/problem+json`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Problem {
    /// `https://sluice.invalid/problems/KIND`, an identifier, not an address.
    #[serde(rename = "type")]
    pub type_uri: String,
    /// The kind's title.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// The kind.
    pub kind: Kind,
    /// What exactly, and what to do next.
    pub detail: String,
    /// Finds the request in the server's log.
    pub id: String,
}

impl Problem {
    /// A problem of this kind.
    pub fn new(kind: Kind, detail: impl Into<String>, id: impl Into<String>) -> Self {
        Self {
            type_uri: format!("https://sluice.invalid/problems/{}", kind.as_str()),
            title: kind.title().to_owned(),
            status: kind.http_status(),
            kind,
            detail: detail.into(),
            id: id.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_serde_writes() {
        for kind in Kind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        }
    }
}
