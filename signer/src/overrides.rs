//! Overridden lints: what careful people did although a lint spoke against it, with their reason, signed by the threshold of the
//! document that it is about. So an override can neither be slipped in nor denied afterwards.

use crate::json::Json;
use crate::limits::MAX_TEXT_BYTES;
use crate::lint::Lint;
use std::collections::BTreeMap;

/// Overrides of one document: there are fewer lints that can be overridden.
const MAX_OVERRIDES: usize = 16;
/// Longest reason, in bytes: a sentence or two, not a report.
const MAX_REASON_BYTES: usize = 1_000;
const _: () = assert!(MAX_REASON_BYTES <= MAX_TEXT_BYTES);

/// Reasons by the code of the overridden lint: `custom.overrides` of a document.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Overrides(BTreeMap<String, String>);

/// Why an override is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OverrideError {
    /// A lint of another name, or one that nothing can override.
    #[error("{code:?} names no lint that can be overridden; those are {}", Lint::OVERRIDABLE.join(", "))]
    Code {
        /// The code.
        code: String,
    },
    /// No reason, or a long one.
    #[error("the reason to override {code} must be 1 to {MAX_REASON_BYTES} printable ASCII characters")]
    Reason {
        /// The code.
        code: String,
    },
    /// `custom.overrides` is no object of reasons.
    #[error("custom.overrides must be an object of at most {MAX_OVERRIDES} reasons")]
    Shape,
}

impl Overrides {
    /// Adds the reason to override a lint.
    pub fn add(&mut self, code: &str, reason: &str) -> Result<(), OverrideError> {
        if !Lint::OVERRIDABLE.contains(&code) {
            return Err(OverrideError::Code { code: crate::error::quote(code) });
        }
        let printable = reason.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        if reason.trim().is_empty() || reason.len() > MAX_REASON_BYTES || !printable {
            return Err(OverrideError::Reason { code: code.to_owned() });
        }
        self.0.insert(code.to_owned(), reason.to_owned());
        Ok(())
    }

    /// What a document overrides.
    pub fn of(signed: &Json) -> Result<Self, OverrideError> {
        let mut overrides = Self::default();
        match signed.get("custom").and_then(|custom| custom.get("overrides")) {
            None => {}
            Some(Json::Object(members)) if members.len() <= MAX_OVERRIDES => {
                for (code, reason) in members {
                    overrides.add(code, reason.as_str().ok_or(OverrideError::Shape)?)?;
                }
            }
            Some(_) => return Err(OverrideError::Shape),
        }
        Ok(overrides)
    }

    /// The document with those of these overrides that one of its lints needs, and no other.
    #[must_use]
    pub fn record(&self, lints: &[Lint], signed: Json) -> Json {
        let needed = |code: &&String| lints.iter().any(|lint| lint.override_code() == Some(code.as_str()));
        let codes = self.0.iter().filter(|(code, _)| needed(code));
        Self(codes.map(|(code, reason)| (code.clone(), reason.clone())).collect()).write(signed)
    }

    /// The document with all of these overrides.
    #[must_use]
    pub fn write(&self, signed: Json) -> Json {
        let reasons: BTreeMap<String, Json> =
            self.0.iter().map(|(code, reason)| (code.clone(), reason.clone().into())).collect();
        let Json::Object(mut members) = signed else { return signed };
        if !reasons.is_empty() {
            let custom = members.entry("custom".to_owned()).or_insert_with(|| Json::Object(BTreeMap::new()));
            if let Json::Object(custom) = custom {
                custom.insert("overrides".to_owned(), Json::Object(reasons));
            }
        }
        Json::Object(members)
    }

    /// The lints that nobody overrode. What a document says of overrides and cannot be read is one more.
    pub fn apply(role: &str, signed: &Json, lints: Vec<Lint>) -> Vec<Lint> {
        match Self::of(signed) {
            Ok(Self(reasons)) => {
                let stands = |lint: &Lint| !lint.override_code().is_some_and(|code| reasons.contains_key(code));
                lints.into_iter().filter(stands).collect()
            }
            Err(error) => {
                let mut lints = lints;
                lints.push(Lint::Overrides { role: role.to_owned(), problem: error.to_string() });
                lints
            }
        }
    }

    /// Codes with their reasons.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(code, reason)| (code.as_str(), reason.as_str()))
    }

    /// Whether nothing is overridden.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lifetime() -> Lint {
        Lint::Lifetime { role: "acme-cam".to_owned(), days: 500, limit: 130 }
    }

    fn document() -> Json {
        Json::object([("version", 3_u64.into()), ("custom", Json::object([("repo_id", "acme".into())]))])
    }

    fn with(code: &str, reason: &str) -> Overrides {
        let mut overrides = Overrides::default();
        overrides.add(code, reason).unwrap();
        overrides
    }

    #[test]
    fn a_document_records_what_it_needs_and_is_then_free_of_it() {
        let mut overrides = with("lifetime", "the factory is closed until May");
        overrides.add("security-counter", "never needed").unwrap();
        let signed = overrides.record(&[lifetime()], document());
        let read = Overrides::of(&signed).unwrap();
        assert_eq!(read.iter().collect::<Vec<_>>(), [("lifetime", "the factory is closed until May")]);
        assert_eq!(signed.get("custom").unwrap().get("repo_id"), Some(&"acme".into()));
        let other = Lint::NonAscii { role: "acme-cam".to_owned() };
        assert_eq!(Overrides::apply("acme-cam", &signed, vec![lifetime(), other.clone()]), [other]);
        assert_eq!(Overrides::apply("acme-cam", &document(), vec![lifetime()]), [lifetime()]);
        assert_eq!(overrides.record(&[], document()), document());
    }

    #[test]
    fn what_would_break_clients_cannot_be_overridden() {
        let mut overrides = Overrides::default();
        for code in ["content-changed", "shared-key", "size", ""] {
            assert!(matches!(overrides.add(code, "because"), Err(OverrideError::Code { .. })), "{code}");
        }
        for reason in ["", "  ", "two\nlines", "\u{e9}t\u{e9}", &"x".repeat(1_001)] {
            assert!(matches!(overrides.add("lifetime", reason), Err(OverrideError::Reason { .. })), "{reason}");
        }
        assert!(overrides.is_empty());
    }

    #[test]
    fn overrides_that_cannot_be_read_are_a_mistake_and_override_nothing() {
        for bad in [
            Json::object([("overrides", "lifetime".into())]),
            Json::object([("overrides", Json::object([("lifetime", 1_u64.into())]))]),
            Json::object([("overrides", Json::object([("size", "because".into())]))]),
        ] {
            let signed = Json::object([("custom", bad)]);
            let lints = Overrides::apply("acme-cam", &signed, vec![lifetime()]);
            assert_eq!(lints.len(), 2, "{lints:?}");
        }
    }
}
