//! Reading fields of a parsed document with errors that name the role and the path of the field.

use crate::digest::{Sha256Digest, parse_hex};
use crate::error::VerifyError;
use crate::json::Json;
use crate::limits::{MAX_INTEGER, MAX_NAME_BYTES, MAX_TEXT_BYTES};
use crate::time;
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// One object of a document, and where in the document it stands.
pub(crate) struct Fields<'a> {
    role: &'a str,
    path: String,
    members: &'a BTreeMap<String, Json>,
}

impl<'a> Fields<'a> {
    /// Reads `value` as an object that stands at `path` (empty for the top).
    pub fn of(role: &'a str, path: &str, value: &'a Json) -> Result<Self, VerifyError> {
        match value {
            Json::Object(members) => Ok(Self { role, path: path.to_owned(), members }),
            other => Err(VerifyError::field(role, path, "an object", other.kind())),
        }
    }

    pub fn members(&self) -> &'a BTreeMap<String, Json> {
        self.members
    }

    pub fn at(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    pub fn refuse<T>(&self, name: &str, expected: &'static str, found: &str) -> Result<T, VerifyError> {
        Err(VerifyError::field(self.role, self.at(name), expected, found))
    }

    pub fn opt(&self, name: &str) -> Option<&'a Json> {
        self.members.get(name)
    }

    pub fn value(&self, name: &str, expected: &'static str) -> Result<&'a Json, VerifyError> {
        match self.opt(name) {
            Some(value) => Ok(value),
            None => self.refuse(name, expected, "nothing"),
        }
    }

    pub fn object(&self, name: &str) -> Result<Fields<'a>, VerifyError> {
        Fields::of(self.role, &self.at(name), self.value(name, "an object")?)
    }

    pub fn opt_object(&self, name: &str) -> Result<Option<Fields<'a>>, VerifyError> {
        self.opt(name).map(|value| Fields::of(self.role, &self.at(name), value)).transpose()
    }

    /// A text of at most [`MAX_TEXT_BYTES`].
    pub fn text(&self, name: &str) -> Result<&'a str, VerifyError> {
        self.as_text(name, self.value(name, "a text")?)
    }

    fn as_text(&self, name: &str, value: &'a Json) -> Result<&'a str, VerifyError> {
        match value {
            Json::Text(text) if text.len() <= MAX_TEXT_BYTES => Ok(text),
            Json::Text(text) => self.refuse(name, "a text of at most 4096 bytes", text),
            other => self.refuse(name, "a text", other.kind()),
        }
    }

    pub fn opt_text(&self, name: &str) -> Result<Option<&'a str>, VerifyError> {
        self.opt(name).map(|value| self.as_text(name, value)).transpose()
    }

    /// A non-empty printable ASCII text of at most [`MAX_NAME_BYTES`], without spaces.
    pub fn name(&self, name: &str) -> Result<String, VerifyError> {
        self.as_name(name, self.value(name, "a name")?)
    }

    fn as_name(&self, name: &str, value: &'a Json) -> Result<String, VerifyError> {
        let text = self.as_text(name, value)?;
        if text.is_empty() || text.len() > MAX_NAME_BYTES || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return self.refuse(name, "1 to 128 printable ASCII characters without spaces", text);
        }
        Ok(text.to_owned())
    }

    /// The name of a member, where names are data: what [`Fields::name`] asks of texts.
    pub fn key(&self, name: &str) -> Result<String, VerifyError> {
        if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
            return self.refuse("", "members of 1 to 128 printable ASCII characters without spaces", name);
        }
        Ok(name.to_owned())
    }

    pub fn opt_name(&self, name: &str) -> Result<Option<String>, VerifyError> {
        self.opt(name).map(|value| self.as_name(name, value)).transpose()
    }

    /// A set of names; a repeated one is refused, because a list is written sorted and once.
    pub fn names(&self, name: &str, limit: usize) -> Result<BTreeSet<String>, VerifyError> {
        let mut set = BTreeSet::new();
        for item in self.list(name, limit)? {
            let text = self.as_name(name, item)?;
            if set.contains(&text) {
                return self.refuse(name, "a list without repetitions", &text);
            }
            set.insert(text);
        }
        Ok(set)
    }

    /// Like [`Fields::names`], empty when the field is absent.
    pub fn opt_names(&self, name: &str, limit: usize) -> Result<BTreeSet<String>, VerifyError> {
        if self.opt(name).is_none() { Ok(BTreeSet::new()) } else { self.names(name, limit) }
    }

    pub fn list(&self, name: &str, limit: usize) -> Result<&'a [Json], VerifyError> {
        match self.value(name, "a list")? {
            Json::List(items) => {
                self.count(name, items.len(), limit)?;
                Ok(items)
            }
            other => self.refuse(name, "a list", other.kind()),
        }
    }

    /// Refuses more than `limit` entries.
    pub fn count(&self, name: &str, count: usize, limit: usize) -> Result<(), VerifyError> {
        if count > limit {
            return Err(VerifyError::TooMany { role: self.role.to_owned(), field: self.at(name), count, limit });
        }
        Ok(())
    }

    /// A non-negative integer that every JSON reader keeps exactly. The parser refuses greater ones; here they are
    /// refused in documents that were built and not parsed, before anybody signs them.
    pub fn uint(&self, name: &str) -> Result<u64, VerifyError> {
        match self.value(name, "an integer")? {
            Json::Int(number) => match u64::try_from(*number) {
                Ok(value) if *number <= MAX_INTEGER => Ok(value),
                _ => self.refuse(name, "an integer from 0 to 2^53 - 1", &number.to_string()),
            },
            other => self.refuse(name, "an integer", other.kind()),
        }
    }

    /// An integer of one or more: versions and thresholds begin there.
    pub fn positive(&self, name: &str) -> Result<u64, VerifyError> {
        match self.uint(name)? {
            0 => self.refuse(name, "an integer of one or more", "0"),
            number => Ok(number),
        }
    }

    pub fn flag(&self, name: &str) -> Result<bool, VerifyError> {
        match self.value(name, "true or false")? {
            Json::Bool(value) => Ok(*value),
            other => self.refuse(name, "true or false", other.kind()),
        }
    }

    pub fn time(&self, name: &str) -> Result<Timestamp, VerifyError> {
        let text = self.text(name)?;
        match time::parse(text) {
            Some(time) => Ok(time),
            None => self.refuse(name, "a time as YYYY-MM-DDTHH:MM:SSZ", text),
        }
    }

    pub fn digest(&self, name: &str) -> Result<Sha256Digest, VerifyError> {
        let text = self.text(name)?;
        match parse_hex(text) {
            Some(digest) => Ok(digest),
            None => self.refuse(name, "64 lower-case hexadecimal digits", text),
        }
    }
}

/// The fields that every document's signed part begins with.
pub(crate) struct Header {
    pub version: u64,
    pub expires: Timestamp,
    /// `custom.repo_id`: which repository the document was made for, when it says so.
    pub repo_id: Option<String>,
}

impl Header {
    /// Checks type and specification version, and reads version and expiry.
    pub fn read(fields: &Fields<'_>, expected: &'static str) -> Result<Self, VerifyError> {
        let role = fields.role.to_owned();
        let found = fields.text("_type")?;
        if found != expected {
            return Err(VerifyError::WrongType { role, expected, found: crate::error::quote(found) });
        }
        let spec = fields.text("spec_version")?;
        if !spec.starts_with("1.") {
            return Err(VerifyError::SpecVersion { role, found: crate::error::quote(spec) });
        }
        let repo_id = match fields.opt_object("custom")? {
            Some(custom) => custom.opt_name("repo_id")?,
            None => None,
        };
        Ok(Self { version: fields.positive("version")?, expires: fields.time("expires")?, repo_id })
    }
}

/// The specification version that our documents state.
pub(crate) const SPEC_VERSION: &str = "1.0.31";

/// Writes the fields that every document begins with.
pub(crate) fn header_json(kind: &str, version: u64, expires: Timestamp) -> BTreeMap<String, Json> {
    BTreeMap::from([
        ("_type".to_owned(), Json::from(kind)),
        ("spec_version".to_owned(), Json::from(SPEC_VERSION)),
        ("version".to_owned(), Json::from(version)),
        ("expires".to_owned(), Json::from(time::format(expires))),
    ])
}
