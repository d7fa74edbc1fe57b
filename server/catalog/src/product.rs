//! Product lines, their trains, and channels.

use serde::{Deserialize, Serialize};

use crate::Time;
use crate::id::ProductId;
use crate::text::{Family, Pid, ProductName, TrainName};

/// Who may read a product's metadata and images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "sql", derive(sqlx::Type), sqlx(type_name = "text", rename_all = "snake_case"))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Visibility {
    /// Anyone, as from a download page or a content delivery network.
    Public,
    /// Only devices and principals with a token.
    Gated,
}

impl Visibility {
    /// The stored name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Gated => "gated",
        }
    }
}

/// A product line: what one TUF role signs for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "sql", derive(sqlx::FromRow))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Product {
    /// Made by the server.
    pub id: ProductId,
    /// The name of the product and of its TUF role.
    pub name: ProductName,
    /// What people read.
    pub title: String,
    /// The family that plan grants name.
    pub family: Family,
    /// The id Lens-style clients ask by.
    pub pid: Option<Pid>,
    /// Who may read metadata and images.
    pub visibility: Visibility,
    /// When the product was entered.
    pub created_at: Time,
}

/// A train of a product, such as 2.4, with its signed general-availability date.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "sql", derive(sqlx::FromRow))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Train {
    /// The product.
    pub product_id: ProductId,
    /// Such as `2.4`.
    pub name: TrainName,
    /// General availability, midnight UTC of the date signed offline.
    pub ga_at: Time,
    /// From this moment on it gets no further fixes; absent when nobody said. It tells and never decides: what a device is entitled
    /// to it stays entitled to.
    #[serde(default)]
    pub support_end: Option<Time>,
}

/// How finished software is. Ordered: a ceiling of `preview` includes `stable`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "sql", derive(sqlx::Type), sqlx(type_name = "text", rename_all = "snake_case"))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Channel {
    /// General availability.
    Stable,
    /// For those who asked to see it early.
    Preview,
    /// For those who test it.
    Beta,
}

impl Channel {
    /// The stored and signed name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stable => "stable",
            Self::Preview => "preview",
            Self::Beta => "beta",
        }
    }

    /// The channel of software that is signed for these: stable software may be on the preview channel too, so the most finished
    /// one counts.
    pub fn of_all<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, UnknownChannel> {
        names.into_iter().try_fold(Self::Beta, |channel, name| Ok(channel.min(name.parse()?)))
    }
}

impl std::str::FromStr for Channel {
    type Err = UnknownChannel;

    fn from_str(text: &str) -> Result<Self, UnknownChannel> {
        match text {
            "stable" => Ok(Self::Stable),
            "preview" => Ok(Self::Preview),
            "beta" => Ok(Self::Beta),
            _ => Err(UnknownChannel(text.chars().take(40).collect())),
        }
    }
}

/// A channel name that is none of ours.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("channel `{0}`: one of stable, preview, beta")]
pub struct UnknownChannel(pub String);
