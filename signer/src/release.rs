//! The signed `custom` block of a firmware image, schema 1: everything a device may decide from offline data.

use crate::error::VerifyError;
use crate::fields::Fields;
use crate::json::Json;
use crate::limits::Limits;
use crate::path::is_target_path;
use jiff::civil::Date;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// The schema number of this layout.
pub const SCHEMA: u64 = 1;

/// Why a release exists; it decides what cover a device needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReleaseKind {
    /// Closes a vulnerability; never withheld for lack of cover.
    Security,
    /// Fixes without new functions.
    Maintenance,
    /// New functions.
    Feature,
    /// Brings a broken device back.
    Recovery,
}

impl ReleaseKind {
    /// All kinds.
    pub const ALL: [Self; 4] = [Self::Security, Self::Maintenance, Self::Feature, Self::Recovery];

    /// The word in documents.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Security => "security",
            Self::Maintenance => "maintenance",
            Self::Feature => "feature",
            Self::Recovery => "recovery",
        }
    }

    /// Reads the word.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

impl fmt::Display for ReleaseKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// The `custom` block of an image target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleaseCustom {
    /// Product line, for example `acme-cam`.
    pub product: String,
    /// Component of the device that the image is for, for example `main`.
    pub component: String,
    /// Version as people know it. It has no order of its own.
    pub version: String,
    /// Place in the order of versions: a greater number is newer.
    pub order: u64,
    /// Train, usually `major.minor`.
    pub train: String,
    /// Day on which the train became generally available.
    pub train_ga: Date,
    /// Hardware that the image runs on.
    pub hw_ids: BTreeSet<String>,
    /// Anti-rollback counter; a device refuses an image below its floor.
    pub security_counter: u64,
    /// Oldest version from which this one may be installed.
    pub min_installed: Option<String>,
    /// Channels that carry the release.
    pub channels: BTreeSet<String>,
    /// Why it exists.
    pub kind: ReleaseKind,
    /// Entitlement codes that a device's contract must grant.
    pub requires: BTreeSet<String>,
    /// Advisories that the release answers.
    pub advisories: BTreeSet<String>,
    /// Target path of the software bill of materials.
    pub sbom: Option<String>,
    /// Target path of the provenance statement.
    pub provenance: Option<String>,
    /// Target path of the release notes in Markdown.
    pub notes: Option<String>,
}

impl ReleaseCustom {
    /// Reads the block of the target at `path` in `role`.
    pub fn from_json(role: &str, path: &str, custom: &Json, limits: &Limits) -> Result<Self, VerifyError> {
        let fields = Fields::of(role, &format!("targets.{path}.custom"), custom)?;
        if fields.uint("schema")? != SCHEMA {
            return fields.refuse("schema", "1", &fields.uint("schema")?.to_string());
        }
        let date = fields.text("train_ga")?;
        let Some(train_ga) = parse_date(date) else {
            return fields.refuse("train_ga", "a day as YYYY-MM-DD", date);
        };
        let word = fields.text("kind")?;
        let Some(kind) = ReleaseKind::parse(word) else {
            return fields.refuse("kind", "security, maintenance, feature or recovery", word);
        };
        let hw_ids = fields.names("hw_ids", limits.list_entries)?;
        let channels = fields.names("channels", limits.list_entries)?;
        for (name, set) in [("hw_ids", &hw_ids), ("channels", &channels)] {
            if set.is_empty() {
                return fields.refuse(name, "one name at least", "an empty list");
            }
        }
        let opt_path = |name: &str| match fields.opt_text(name)? {
            Some(text) if !is_target_path(text) => fields.refuse(name, "a target path", text),
            other => Ok(other.map(str::to_owned)),
        };
        Ok(Self {
            product: fields.name("product")?,
            component: fields.name("component")?,
            version: fields.name("version")?,
            order: fields.uint("order")?,
            train: fields.name("train")?,
            train_ga,
            hw_ids,
            security_counter: fields.uint("security_counter")?,
            min_installed: fields.opt_name("min_installed")?,
            channels,
            kind,
            requires: fields.opt_names("requires", limits.list_entries)?,
            advisories: fields.opt_names("advisories", limits.list_entries)?,
            sbom: opt_path("sbom")?,
            provenance: opt_path("provenance")?,
            notes: opt_path("notes")?,
        })
    }

    /// Writes the block.
    pub fn to_json(&self) -> Json {
        let mut members: BTreeMap<String, Json> = [
            ("schema", Json::from(SCHEMA)),
            ("product", self.product.clone().into()),
            ("component", self.component.clone().into()),
            ("version", self.version.clone().into()),
            ("order", self.order.into()),
            ("train", self.train.clone().into()),
            ("train_ga", self.train_ga.to_string().into()),
            ("hw_ids", Json::texts(&self.hw_ids)),
            ("security_counter", self.security_counter.into()),
            ("channels", Json::texts(&self.channels)),
            ("kind", self.kind.as_str().into()),
            ("requires", Json::texts(&self.requires)),
            ("advisories", Json::texts(&self.advisories)),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        let optional = [
            ("min_installed", &self.min_installed),
            ("sbom", &self.sbom),
            ("provenance", &self.provenance),
            ("notes", &self.notes),
        ];
        for (name, value) in optional {
            if let Some(value) = value {
                members.insert(name.to_owned(), value.clone().into());
            }
        }
        Json::Object(members)
    }
}

/// Reads exactly `YYYY-MM-DD`.
pub fn parse_date(text: &str) -> Option<Date> {
    let date: Date = if text.len() == 10 { text.parse().ok()? } else { return None };
    (date.to_string() == text).then_some(date)
}
