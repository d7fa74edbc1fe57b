//! What a request changes of one member of a thing.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A member of a request that changes things: absent it stays as it is, `null` takes away, anything else takes its place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Change<T> {
    /// It stays as it is.
    #[default]
    Keep,
    /// It is this from now on, or nothing.
    To(Option<T>),
}

impl<T: Clone> Change<T> {
    /// What it is afterwards.
    #[must_use]
    pub fn of(&self, before: Option<&T>) -> Option<T> {
        match self {
            Self::Keep => before.cloned(),
            Self::To(after) => after.clone(),
        }
    }
}

impl<T> Change<T> {
    /// Whether it stays as it is: such a member is not written.
    pub const fn is_kept(&self) -> bool {
        matches!(self, Self::Keep)
    }
}

impl<T: Serialize> Serialize for Change<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Keep => serializer.serialize_none(),
            Self::To(after) => after.serialize(serializer),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Change<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // A member that is absent is never read: it is the default.
        Option::deserialize(deserializer).map(Self::To)
    }
}
