//! Security advisories, looked at before they are signed: CSAF 2.0 and 2.1 (OASIS), and OpenVEX 0.2, in JSON. They say more about a
//! release as time goes by, so they have a role of their own beside the product's.

use serde_json::Value;

/// Bytes of an advisory.
pub const MAX_ADVISORY_BYTES: usize = 16 << 20;
/// Name of the role that signs a product's advisories, after the product's name.
pub const ROLE_SUFFIX: &str = "-advisories";
const CSAF: [&str; 2] = ["2.0", "2.1"];
const OPENVEX: &str = "https://openvex.dev/ns";

/// The format of an advisory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdvisoryFormat {
    /// Common Security Advisory Framework.
    Csaf,
    /// Vulnerability Exploitability eXchange.
    OpenVex,
}

/// What an advisory says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advisory {
    /// Its format.
    pub format: AdvisoryFormat,
    /// Its id, by which releases name it.
    pub id: String,
    /// What it is, for people: format, title or author, state.
    pub summary: String,
}

/// Why an advisory is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AdvisoryError {
    /// More bytes than any advisory has.
    #[error("advisory: {length} bytes are over the limit of {MAX_ADVISORY_BYTES}")]
    TooLarge {
        /// Bytes given.
        length: usize,
    },
    /// Neither of the two formats.
    #[error("advisory: neither CSAF ({}) nor OpenVEX in JSON", CSAF.join(", "))]
    Format,
    /// A field is missing or wrong.
    #[error("advisory: {field} is not {expected}")]
    Field {
        /// The field.
        field: &'static str,
        /// What it must be.
        expected: &'static str,
    },
}

/// The role that signs a product's advisories.
pub fn role_of(product: &str) -> String {
    format!("{product}{ROLE_SUFFIX}")
}

/// The pattern of the paths that it may sign.
pub fn pattern_of(product: &str) -> String {
    format!("advisories/{product}/*")
}

impl Advisory {
    /// Reads and checks an advisory.
    pub fn read(bytes: &[u8]) -> Result<Self, AdvisoryError> {
        if bytes.len() > MAX_ADVISORY_BYTES {
            return Err(AdvisoryError::TooLarge { length: bytes.len() });
        }
        let value: Value = serde_json::from_slice(bytes).map_err(|_| AdvisoryError::Format)?;
        if value
            .pointer("/document/csaf_version")
            .and_then(Value::as_str)
            .is_some_and(|version| CSAF.contains(&version))
        {
            return Self::csaf(&value);
        }
        if value.get("@context").and_then(Value::as_str).is_some_and(|context| context.starts_with(OPENVEX)) {
            return Self::openvex(&value);
        }
        Err(AdvisoryError::Format)
    }

    fn csaf(value: &Value) -> Result<Self, AdvisoryError> {
        for (pointer, field) in [
            ("/document/category", "document.category"),
            ("/document/publisher/name", "document.publisher.name"),
            ("/document/tracking/version", "document.tracking.version"),
            ("/document/tracking/initial_release_date", "document.tracking.initial_release_date"),
            ("/document/tracking/current_release_date", "document.tracking.current_release_date"),
        ] {
            text(value, pointer, field)?;
        }
        let id = text(value, "/document/tracking/id", "document.tracking.id")?;
        let title = text(value, "/document/title", "document.title")?;
        let status = text(value, "/document/tracking/status", "document.tracking.status")?;
        if !["draft", "interim", "final"].contains(&status) {
            return Err(AdvisoryError::Field {
                field: "document.tracking.status",
                expected: "draft, interim or final",
            });
        }
        Ok(Self { format: AdvisoryFormat::Csaf, id: id.to_owned(), summary: format!("CSAF, {status}: {title}") })
    }

    fn openvex(value: &Value) -> Result<Self, AdvisoryError> {
        let id = text(value, "/@id", "@id")?;
        let author = text(value, "/author", "author")?;
        text(value, "/timestamp", "timestamp")?;
        let statements = value.get("statements").and_then(Value::as_array).filter(|list| !list.is_empty());
        let Some(statements) = statements else {
            return Err(AdvisoryError::Field { field: "statements", expected: "a list of one statement at least" });
        };
        let states = ["not_affected", "affected", "fixed", "under_investigation"];
        let states = |statement: &Value| {
            statement.get("status").and_then(Value::as_str).is_some_and(|state| states.contains(&state))
        };
        if !statements.iter().all(states) {
            return Err(AdvisoryError::Field {
                field: "statements.status",
                expected: "not_affected, affected, fixed or under_investigation",
            });
        }
        Ok(Self {
            format: AdvisoryFormat::OpenVex,
            id: id.to_owned(),
            summary: format!("OpenVEX of {author}, {} statements", statements.len()),
        })
    }
}

fn text<'a>(value: &'a Value, pointer: &str, field: &'static str) -> Result<&'a str, AdvisoryError> {
    let found = value.pointer(pointer).and_then(Value::as_str).filter(|text| !text.trim().is_empty());
    found.ok_or(AdvisoryError::Field { field, expected: "a text that says something" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn csaf() -> Value {
        json!({"document": {
            "csaf_version": "2.0", "category": "csaf_security_advisory", "title": "Stream parser overflow",
            "publisher": {"category": "vendor", "name": "Acme", "namespace": "https://acme.example"},
            "tracking": {
                "id": "ACME-2026-0012", "status": "final", "version": "1",
                "initial_release_date": "2026-06-01T12:00:00Z", "current_release_date": "2026-06-01T12:00:00Z",
            },
        }})
    }

    fn vex() -> Value {
        json!({
            "@context": "https://openvex.dev/ns/v0.2.0", "@id": "https://acme.example/vex/12", "author": "Acme PSIRT",
            "timestamp": "2026-06-01T12:00:00Z",
            "statements": [{"vulnerability": {"name": "CVE-2026-1"}, "status": "fixed"}],
        })
    }

    fn read(value: &Value) -> Result<Advisory, AdvisoryError> {
        Advisory::read(value.to_string().as_bytes())
    }

    #[test]
    fn both_formats_are_read() {
        let advisory = read(&csaf()).unwrap();
        assert_eq!(advisory.id, "ACME-2026-0012");
        assert_eq!(advisory.summary, "CSAF, final: Stream parser overflow");
        assert_eq!(read(&vex()).unwrap().id, "https://acme.example/vex/12");
    }

    #[test]
    fn what_is_missing_is_named() {
        for (pointer, field) in [
            ("/document/tracking/id", "document.tracking.id"),
            ("/document/tracking/status", "document.tracking.status"),
            ("/document/title", "document.title"),
            ("/document/publisher", "document.publisher.name"),
        ] {
            let mut changed = csaf();
            *changed.pointer_mut(pointer).unwrap() = json!(1);
            assert!(
                matches!(read(&changed), Err(AdvisoryError::Field { field: found, .. }) if found == field),
                "{field}"
            );
        }
        for (pointer, field) in
            [("/author", "author"), ("/statements", "statements"), ("/statements/0/status", "statements.status")]
        {
            let mut changed = vex();
            *changed.pointer_mut(pointer).unwrap() = json!(1);
            assert!(
                matches!(read(&changed), Err(AdvisoryError::Field { field: found, .. }) if found == field),
                "{field}"
            );
        }
        for text in ["", "{}", "[]", r#"{"document":{"csaf_version":"1.2"}}"#] {
            assert_eq!(Advisory::read(text.as_bytes()), Err(AdvisoryError::Format), "{text}");
        }
        assert!(matches!(Advisory::read(&vec![b' '; MAX_ADVISORY_BYTES + 1]), Err(AdvisoryError::TooLarge { .. })));
    }
}
