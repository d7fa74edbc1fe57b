//! A small set of short texts: codes, hardware ids, channels, tags. In the database a JSON array in a text column.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// A sorted set of texts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(value_type = Vec<String>))]
pub struct TextSet(pub BTreeSet<String>);

impl TextSet {
    /// Whether the text is in the set.
    pub fn contains(&self, text: &str) -> bool {
        self.0.contains(text)
    }

    /// Whether nothing is in the set.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether every text of this set is in the other.
    pub fn is_subset(&self, other: &Self) -> bool {
        self.0.is_subset(&other.0)
    }

    /// The texts that are in every one of some sets; none when there is no set.
    pub fn common<'a>(mut sets: impl Iterator<Item = &'a Self>) -> Self {
        let first = sets.next().cloned().unwrap_or_default();
        sets.fold(first, |common, set| Self(common.0.intersection(&set.0).cloned().collect()))
    }

    /// The texts in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// The JSON array, as stored.
    pub fn to_json(&self) -> String {
        self.0.iter().map(String::as_str).collect::<serde_json::Value>().to_string()
    }
}

impl<T: Into<String>> FromIterator<T> for TextSet {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        Self(items.into_iter().map(Into::into).collect())
    }
}

impl TryFrom<String> for TextSet {
    type Error = serde_json::Error;

    fn try_from(json: String) -> Result<Self, serde_json::Error> {
        serde_json::from_str(&json)
    }
}
