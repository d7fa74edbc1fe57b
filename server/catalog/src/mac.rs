//! The address of a network interface (IEEE 802, EUI-48), as it is printed on a device and shown by network tools.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

use crate::text::TextError;

/// A MAC address of one interface, written `00:1b:44:11:3a:b7`. It is read in every form that labels and tools use: with colons,
/// hyphens, dots between groups of four digits, or none of them; in either case.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
#[cfg_attr(feature = "sql", derive(sqlx::Type), sqlx(transparent))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(value_type = String, example = "00:1b:44:11:3a:b7"))]
pub struct Mac(String);

impl Mac {
    /// As it is stored and shown.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The longest form, with a separator between all bytes.
const MAX_LEN: usize = 17;
const RULE: &str = "twelve hexadecimal digits of one interface, such as 00:1b:44:11:3a:b7";

impl std::str::FromStr for Mac {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        read(text).map(Self).ok_or_else(|| TextError {
            what: "mac",
            shown: text.chars().take(40).collect(),
            rule: RULE,
        })
    }
}

fn read(text: &str) -> Option<String> {
    if text.len() > MAX_LEN || !text.is_ascii() {
        return None;
    }
    let digits = |parts: &mut dyn Iterator<Item = &str>, each: usize| {
        let mut all = String::with_capacity(12);
        for part in parts {
            if part.len() != each || !part.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return None;
            }
            all.push_str(part);
        }
        (all.len() == 12).then_some(all)
    };
    let all = match text.bytes().find(|byte| !byte.is_ascii_hexdigit()) {
        Some(b':') => digits(&mut text.split(':'), 2)?,
        Some(b'-') => digits(&mut text.split('-'), 2)?,
        Some(b'.') => digits(&mut text.split('.'), 4)?,
        Some(_) => return None,
        None => digits(&mut std::iter::once(text), 12)?,
    };
    let bytes = hex::decode(all).ok()?;
    let first = *bytes.first()?;
    // The lowest bit of the first byte marks an address of a group, which no interface has (IEEE 802, 8.2); all zeros is none at all.
    if first & 1 == 1 || bytes.iter().all(|byte| *byte == 0) {
        return None;
    }
    Some(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":"))
}

impl TryFrom<String> for Mac {
    type Error = TextError;
    fn try_from(text: String) -> Result<Self, TextError> {
        text.parse()
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Mac {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_form_on_a_label_is_the_same_address() {
        for text in ["00:1B:44:11:3A:B7", "00-1b-44-11-3a-b7", "001b.4411.3ab7", "001B44113AB7"] {
            assert_eq!(text.parse::<Mac>().unwrap().as_str(), "00:1b:44:11:3a:b7", "{text}");
        }
    }

    #[test]
    fn what_is_no_address_of_one_interface_is_refused() {
        for text in [
            "",
            "00:1b:44:11:3a",
            "00:1b:44:11:3a:b7:00",
            "00:1b:44:11:3a:g7",
            "00:1b-44:11:3a:b7",
            "001b:4411:3ab7",
            "0:01b:44:11:3a:b7",
            "00:1b:44:11:3a:b7 ",
            "00:00:00:00:00:00",
            "ff:ff:ff:ff:ff:ff",
            "01:00:5e:00:00:01",
        ] {
            let error = text.parse::<Mac>().unwrap_err();
            assert_eq!(error.to_string(), format!("mac `{text}`: {RULE}"));
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_and_what_is_shown_reads_back(text in "[0-9a-fA-F:.-]{0,20}|\\PC{0,20}") {
            if let Ok(mac) = text.parse::<Mac>() {
                prop_assert_eq!(mac.as_str().parse::<Mac>().unwrap(), mac);
            }
        }
    }
}
