//! What a customer wants for its own devices: to hold versions back, or to stay at one. Twice dated like contracts, and never
//! confused with a lack of cover.

use serde::{Deserialize, Serialize};

use crate::Time;
use crate::id::{CustomerId, FactId};
use crate::text::{Slug, Version};

/// Characters of the reason that whoever sets a policy gives.
pub const MAX_POLICY_REASON: usize = 500;

/// How narrow a policy is. Ordered: a narrower one decides over a wider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "sql", derive(sqlx::Type), sqlx(type_name = "text", rename_all = "snake_case"))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum PolicyScope {
    /// All devices of a customer.
    Customer,
    /// Those of a site.
    Site,
    /// Those with a tag.
    Group,
    /// One device.
    Device,
}

impl PolicyScope {
    /// The stored name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Customer => "customer",
            Self::Site => "site",
            Self::Group => "group",
            Self::Device => "device",
        }
    }
}

/// What a policy asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum PolicyKind {
    /// No new version.
    Hold {
        /// Security fixes as well; without it they go through.
        security: bool,
    },
    /// This version and no newer one.
    Pin {
        /// The version.
        version: Version,
    },
    /// Everything the device is entitled to, whatever a wider policy says.
    Follow,
    /// This version at once: before its rollout's stage comes to the device and outside its windows. It is set for one device alone, and
    /// says nothing about other versions.
    UpdateNow {
        /// The version.
        version: Version,
    },
}

/// A policy in force for a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Policy {
    /// Made by the server.
    pub id: FactId,
    /// How narrow it is.
    pub scope: PolicyScope,
    /// What it asks for.
    #[serde(flatten)]
    pub kind: PolicyKind,
    /// Who set it.
    pub owner: Slug,
    /// Why, in their words.
    pub reason: String,
    /// First moment at which it counts.
    pub from_at: Time,
    /// First moment at which it counts no more.
    pub to_at: Time,
    /// Since when the server knows.
    pub recorded_at: Time,
}

impl Policy {
    /// Whether it counts at a moment.
    pub fn holds_at(&self, at: Time) -> bool {
        self.from_at <= at && at < self.to_at
    }

    /// Rank among policies that count at once: the narrowest scope decides, there the one recorded last, and of those recorded
    /// at once the one with the greatest id, so that every replica agrees.
    fn rank(&self) -> (PolicyScope, Time, FactId) {
        (self.scope, self.recorded_at, self.id)
    }

    /// The one of several that decides at a moment.
    pub fn deciding<'a>(policies: impl IntoIterator<Item = &'a Self>, at: Time) -> Option<&'a Self> {
        policies.into_iter().filter(|policy| policy.holds_at(at)).max_by_key(|policy| policy.rank())
    }
}

/// A place where a customer's devices stand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "sql", derive(sqlx::FromRow))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Site {
    /// Made by the server.
    pub id: FactId,
    /// Whose it is.
    pub customer_id: CustomerId,
    /// Unique for the customer; what devices name.
    pub name: Slug,
    /// Where it is: ISO 3166-1, two capital letters.
    pub country: Option<String>,
    /// Its time zone, such as `Europe/Amsterdam`.
    pub time_zone: Option<String>,
    /// Since when the server knows.
    pub recorded_at: Time,
}

/// Whether a text is a country code: two capital letters (ISO 3166-1 alpha-2).
pub fn is_country(text: &str) -> bool {
    text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_uppercase())
}
