//! Filters: which devices an audience holds, in a small language such as `hardware in ("r2", "r3") and version < "2.0"`. Read once,
//! printed in one way, and asked of a device without allocating (`decide::audience`).

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::Period;
use crate::text::Version;

mod parse;

pub use parse::FilterError;

/// Longest filter, bytes, as written and as printed: it stands in every plan, and approvers read it.
pub const MAX_FILTER_LEN: usize = 4_000;
/// Most terms: each is asked of every device of the product at every poll.
pub const MAX_TERMS: usize = 64;
/// Most values in all terms together, for the same reason.
pub const MAX_VALUES: usize = 500;
/// How deep brackets and `not` may stand in each other: holds the stack.
pub const MAX_DEPTH: usize = 16;

/// What a term compares as a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// The product's name.
    Product,
    /// The hardware id.
    Hardware,
    /// The owner's name.
    Customer,
    /// The site.
    Site,
    /// Any of its tags; a group is the devices with a tag.
    Tag,
    /// The plan of any contract that covers it now, grace included.
    Plan,
}

impl Field {
    /// Its name in a filter.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Product => "product",
            Self::Hardware => "hardware",
            Self::Customer => "customer",
            Self::Site => "site",
            Self::Tag => "tag",
            Self::Plan => "plan",
        }
    }
}

/// How two values that have an order are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compare {
    /// Below.
    Less,
    /// Not above.
    AtMost,
    /// Above.
    More,
    /// Not below.
    AtLeast,
}

impl Compare {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Less => "<",
            Self::AtMost => "<=",
            Self::More => ">",
            Self::AtLeast => ">=",
        }
    }

    /// Whether it holds of two values.
    pub fn holds<T: Ord>(self, one: &T, other: &T) -> bool {
        match self {
            Self::Less => one < other,
            Self::AtMost => one <= other,
            Self::More => one > other,
            Self::AtLeast => one >= other,
        }
    }
}

/// A part of a filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// Every part holds.
    All(Vec<Self>),
    /// Some part holds.
    Any(Vec<Self>),
    /// The part does not hold.
    Not(Box<Self>),
    /// The field is one of these.
    Is(Field, Vec<String>),
    /// It runs one of these versions.
    Runs(Vec<Version>),
    /// The order of what it runs, against that of a version.
    Version(Compare, Version),
    /// How long ago it was heard of.
    LastSeen(Compare, Period),
}

/// A filter. Written in any way that means the same it is printed, stored and signed in one way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter(Node);

impl Filter {
    /// Its outermost part.
    pub const fn node(&self) -> &Node {
        &self.0
    }

    /// Every term, from left to right.
    pub fn terms(&self) -> Vec<&Node> {
        fn walk<'a>(node: &'a Node, terms: &mut Vec<&'a Node>) {
            match node {
                Node::All(parts) | Node::Any(parts) => parts.iter().for_each(|part| walk(part, terms)),
                Node::Not(part) => walk(part, terms),
                Node::Is(..) | Node::Runs(_) | Node::Version(..) | Node::LastSeen(..) => terms.push(node),
            }
        }
        let mut terms = Vec::new();
        walk(&self.0, &mut terms);
        terms
    }
}

fn values<T: fmt::Display>(f: &mut fmt::Formatter<'_>, (is, among): (&str, &str), values: &[T]) -> fmt::Result {
    if let [value] = values {
        return write!(f, "{is} \"{value}\"");
    }
    write!(f, "{among} (")?;
    for (index, value) in values.iter().enumerate() {
        write!(f, "{}\"{value}\"", if index == 0 { "" } else { ", " })?;
    }
    f.write_str(")")
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const YES: (&str, &str) = ("=", "in");
        const NO: (&str, &str) = ("!=", "not in");
        match self {
            Self::All(parts) => {
                for (index, part) in parts.iter().enumerate() {
                    f.write_str(if index == 0 { "" } else { " and " })?;
                    if matches!(part, Self::Any(_)) { write!(f, "({part})")? } else { write!(f, "{part}")? }
                }
                Ok(())
            }
            Self::Any(parts) => {
                for (index, part) in parts.iter().enumerate() {
                    write!(f, "{}{part}", if index == 0 { "" } else { " or " })?;
                }
                Ok(())
            }
            Self::Not(part) => match part.as_ref() {
                Self::Is(field, names) => {
                    write!(f, "{} ", field.as_str())?;
                    values(f, NO, names)
                }
                Self::Runs(versions) => {
                    f.write_str("version ")?;
                    values(f, NO, versions)
                }
                Self::All(_) | Self::Any(_) => write!(f, "not ({part})"),
                Self::Not(_) | Self::Version(..) | Self::LastSeen(..) => write!(f, "not {part}"),
            },
            Self::Is(field, names) => {
                write!(f, "{} ", field.as_str())?;
                values(f, YES, names)
            }
            Self::Runs(versions) => {
                f.write_str("version ")?;
                values(f, YES, versions)
            }
            Self::Version(compare, version) => write!(f, "version {} \"{version}\"", compare.as_str()),
            Self::LastSeen(compare, period) => write!(f, "last_seen {} {period}", compare.as_str()),
        }
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::str::FromStr for Filter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        let filter = Self(parse::parse(text)?);
        // What is stored must be read again.
        let length = filter.to_string().len();
        if length > MAX_FILTER_LEN { Err(FilterError::too_long(length)) } else { Ok(filter) }
    }
}

impl Serialize for Filter {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Filter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(|error| D::Error::custom(format!("selector.filter: {error}")))
    }
}

#[cfg(test)]
mod tests;
