//! Bounded texts. Each is parsed once at the edge; plain strings do not travel inward.
//!
//! All are ASCII: two texts that look alike are alike, and a serial typed from a label matches the one on the wire.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

/// A text that its type refuses: names the field, the rule and the limit.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
#[error("{what} `{shown}`: {rule}")]
pub struct TextError {
    /// The type's name in prose, such as `serial`.
    pub what: &'static str,
    /// The first characters of what was given.
    pub shown: String,
    /// The rule in words, with the limit.
    pub rule: &'static str,
}

macro_rules! text {
    ($(#[$doc:meta])* $name:ident, $what:literal, $max:literal, $rule:literal, $allowed:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
        #[serde(transparent)]
        #[cfg_attr(feature = "sql", derive(sqlx::Type), sqlx(transparent))]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(value_type = String))]
        pub struct $name(String);

        impl $name {
            /// The longest accepted, in characters.
            pub const MAX_LEN: usize = $max;

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::str::FromStr for $name {
            type Err = TextError;

            fn from_str(text: &str) -> Result<Self, TextError> {
                let allowed: fn(char) -> bool = $allowed;
                let edge_ok = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
                if text.len() > $max
                    || !text.chars().all(allowed)
                    || !edge_ok(text.chars().next())
                    || !edge_ok(text.chars().next_back())
                {
                    return Err(TextError { what: $what, shown: text.chars().take(40).collect(), rule: $rule });
                }
                Ok(Self(text.to_owned()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = TextError;
            fn try_from(text: String) -> Result<Self, TextError> {
                text.parse()
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl From<$name> for String {
            fn from(text: $name) -> String {
                text.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
            }
        }
    };
}

const fn name_char(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'
}

const fn token_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':' | '+')
}

text!(/// A device's serial number, unique within its product.
    Serial, "serial", 64, "1 to 64 of A-Z a-z 0-9 - _ . : +, first and last a letter or digit", token_char);
text!(/// A product line's name; also the name of its TUF role and the first part of its target paths.
    ProductName, "product", 48, "1 to 48 of a-z 0-9 -, first and last a letter or digit", name_char);
text!(/// A product family, which grants and Lens-style policies name.
    Family, "family", 48, "1 to 48 of a-z 0-9 -, first and last a letter or digit", name_char);
text!(/// A version as people know it. Its order is the signed `order`, never a reading of this text.
    Version, "version", 64, "1 to 64 of A-Z a-z 0-9 - _ . : +, first and last a letter or digit", token_char);
text!(/// A train, such as `2.4`: the versions that share a general-availability date.
    TrainName, "train", 32, "1 to 32 of A-Z a-z 0-9 - _ . : +, first and last a letter or digit", token_char);
text!(/// A part of a device with an image of its own; single-image devices use `main`.
    Component, "component", 32, "1 to 32 of a-z 0-9 -, first and last a letter or digit", name_char);
text!(/// A hardware id, such as `cam-r3`.
    HardwareId, "hardware id", 48, "1 to 48 of A-Z a-z 0-9 - _ . : +, first and last a letter or digit", token_char);
text!(/// An entitlement code, such as `FW.CAM.MAJOR`.
    Code, "entitlement code", 64, "1 to 64 of A-Z a-z 0-9 - _ . : +, first and last a letter or digit", token_char);
text!(/// A contract's number as the sales system knows it.
    ContractNumber, "contract number", 64, "1 to 64 of A-Z a-z 0-9 - _ . : +, first and last a letter or digit", token_char);
text!(/// A short name of a customer, plan, principal, rollout, site or tag.
    Slug, "name", 64, "1 to 64 of A-Z a-z 0-9 - _ . : +, first and last a letter or digit", token_char);
text!(/// A product id of Lens-style clients: a USB product id in lower-case hexadecimal, or a slug.
    Pid, "pid", 48, "1 to 48 of a-z 0-9 -, first and last a letter or digit", name_char);

impl From<&ProductName> for Family {
    /// A family of one product: both names have the same rule.
    fn from(product: &ProductName) -> Self {
        Self(product.0.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_field_and_the_limit() {
        let error = "8G 14".parse::<Serial>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "serial `8G 14`: 1 to 64 of A-Z a-z 0-9 - _ . : +, first and last a letter or digit"
        );
        assert!("".parse::<Serial>().is_err());
        assert!("x".repeat(65).parse::<Serial>().is_err());
        assert!("x".repeat(64).parse::<Serial>().is_ok());
        assert!("../etc".parse::<ProductName>().is_err(), "never a path");
        assert!("Acme".parse::<ProductName>().is_err());
        assert!("acme-cam".parse::<ProductName>().is_ok());
    }
}
