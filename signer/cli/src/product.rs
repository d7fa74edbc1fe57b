//! The product registry, `products.json`: what a product line's releases must be like, written down once and held against each of
//! them before anybody signs. It stays with the signers; what follows from it stands in the signed documents.

use crate::args::{ProductCommand, ProductSetArgs, ProductShowArgs};
use crate::documents::Documents;
use crate::failure::Failure;
use crate::folder::{DocumentId, Folder, read_limited};
use crate::{key, output};
use anyhow::Context as _;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use sluice_signer::advisory::{Advisory, MAX_ADVISORY_BYTES, ROLE_SUFFIX};
use sluice_signer::provenance::MAX_PROVENANCE_BYTES;
use sluice_signer::release::{ReleaseCustom, ReleaseKind, parse_date};
use sluice_signer::sbom::MAX_SBOM_BYTES;
use sluice_signer::{
    Builder, Envelope, Json, Provenance, PublicKey, RepositoryTarget, Sbom, SbomFormat, Sha256Digest, TargetsMetadata,
};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Builders of one product: each costs a curve operation for every signature of a statement.
const MAX_BUILDERS: usize = 16;

/// What comes with a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Evidence {
    /// A bill of materials.
    Sbom,
    /// A statement of who built it.
    Provenance,
}

/// All products by name.
pub type Registry = BTreeMap<String, Product>;

/// What releases of a product must be like.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Product {
    /// Hardware that there is; empty for any.
    pub hw_ids: BTreeSet<String>,
    /// The last day of support, `YYYY-MM-DD`: later on only security and recovery releases are signed.
    pub support_end: Option<String>,
    /// Lowest security counter of a new release.
    pub security_counter: u64,
    /// What every new release must come with.
    pub require: BTreeSet<Evidence>,
    /// Builders whose provenance is believed: their keys by their ids.
    pub builders: BTreeMap<String, Json>,
}

impl Product {
    fn builders(&self) -> anyhow::Result<Vec<Builder>> {
        if self.builders.len() > MAX_BUILDERS {
            anyhow::bail!("{} builders are over the limit of {MAX_BUILDERS} for a product", self.builders.len());
        }
        self.builders
            .iter()
            .map(|(id, key)| {
                Ok(Builder { id: id.clone(), key: PublicKey::from_json(key).with_context(|| id.clone())? })
            })
            .collect()
    }
}

/// `product`
pub fn run(command: &ProductCommand, json: bool) -> anyhow::Result<()> {
    match command {
        ProductCommand::Set(args) => set(args, json),
        ProductCommand::Show(args) => show(args, json),
    }
}

fn set(args: &ProductSetArgs, json: bool) -> anyhow::Result<()> {
    let folder = Folder::open(&args.repo)?;
    let mut registry = folder.products()?;
    let product = registry.entry(args.product.clone()).or_default();
    if !args.hw_ids.is_empty() {
        product.hw_ids = args.hw_ids.iter().cloned().collect();
    }
    if let Some(day) = &args.support_end {
        if parse_date(day).is_none() {
            return Err(Failure::refused(format!("--support-end {day}: not a day"), "write YYYY-MM-DD"));
        }
        product.support_end = Some(day.clone());
    }
    if let Some(counter) = args.security_counter {
        if counter < product.security_counter {
            let message =
                format!("security counter {counter}: {} is set, and it never goes down", product.security_counter);
            return Err(Failure::refused(message, "give a higher one"));
        }
        product.security_counter = counter;
    }
    if !args.require.is_empty() {
        product.require = args.require.iter().copied().collect();
    }
    for builder in &args.builders {
        let Some((id, file)) = builder.rsplit_once('=') else {
            return Err(Failure::refused(
                format!("--builder {builder}: no '='"),
                "write the builder's id, '=' and its .pub file",
            ));
        };
        product.builders.insert(id.to_owned(), key::public(Path::new(file))?.to_json().clone());
    }
    product.builders()?;
    folder.write_products(&registry)?;
    print(&registry, Some(&args.product), json)
}

fn show(args: &ProductShowArgs, json: bool) -> anyhow::Result<()> {
    let registry = Folder::open(&args.repo)?.products()?;
    if let Some(product) = &args.product
        && !registry.contains_key(product)
    {
        let message = format!("product {product} is not in the registry");
        return Err(Failure::refused(message, "enter it with `sluice-sign product set`"));
    }
    print(&registry, args.product.as_deref(), json)
}

fn print(registry: &Registry, only: Option<&str>, json: bool) -> anyhow::Result<()> {
    let chosen: BTreeMap<&String, &Product> =
        registry.iter().filter(|(name, _)| only.is_none_or(|only| only == *name)).collect();
    output::print(json, &chosen, || {
        let rows = chosen.iter().map(|(name, product)| {
            let join = |items: Vec<String>| if items.is_empty() { "-".to_owned() } else { items.join(" ") };
            let required = product.require.iter().map(|evidence| match evidence {
                Evidence::Sbom => "sbom".to_owned(),
                Evidence::Provenance => "provenance".to_owned(),
            });
            vec![
                (*name).clone(),
                join(product.hw_ids.iter().cloned().collect()),
                product.support_end.clone().unwrap_or_else(|| "-".to_owned()),
                product.security_counter.to_string(),
                join(required.collect()),
                join(product.builders.keys().cloned().collect()),
            ]
        });
        output::table(&["PRODUCT", "HARDWARE", "SUPPORT ENDS", "COUNTER", "REQUIRED", "BUILDERS"], rows)
    })
}

/// Holds the new releases of a product's document against the registry, and what comes with them against itself. `find` gives
/// the file of a digest where there is one. Returns what was found, for people.
pub fn check(
    documents: &Documents,
    id: &DocumentId,
    envelope: &Envelope,
    now: Timestamp,
    find: &mut dyn FnMut(&Sha256Digest, u64) -> anyhow::Result<Option<PathBuf>>,
) -> anyhow::Result<Vec<String>> {
    if id.role == "root" || id.role == "targets" {
        return Ok(Vec::new());
    }
    let document = TargetsMetadata::from_json(&id.role, envelope.signed(), &documents.limits)?;
    let previous = documents.previous(&id.role)?;
    if id.role.ends_with(ROLE_SUFFIX) {
        return check_advisories(&document, previous.as_ref(), find);
    }
    let any = Product::default();
    let name = documents.product_of(&id.role)?;
    let product = documents.products.get(&name).unwrap_or(&any);
    let peers = documents.complete_peers(&id.role)?;
    let builders = product.builders()?;
    let mut lines = Vec::new();
    for (path, target) in &document.targets {
        // What another role of the product signed already was held against the registry then.
        let before = previous.iter().chain(&peers);
        let known = before.into_iter().any(|before| before.targets.get(path) == Some(target));
        // Facts that cannot be read are for the lints to name.
        let Ok(Some(release)) = target.release(&id.role, &documents.limits) else { continue };
        if known {
            continue;
        }
        check_facts(product, path, &release, now)?;
        let mut evidence = |field: &str, required, of: &Option<String>| -> anyhow::Result<Option<PathBuf>> {
            let Some(path_of) = of else {
                if product.require.contains(&required) {
                    let message = format!("{path}: product {name} requires {field}");
                    return Err(Failure::refused(
                        message,
                        &format!("give --{field} FILE to `sluice-sign release new`"),
                    ));
                }
                return Ok(None);
            };
            let Some(target) = document.targets.get(path_of) else { return Ok(None) };
            let found = find(&target.sha256, target.length)?;
            if found.is_none() {
                lines.push(format!("{path_of} was not looked at"));
            }
            Ok(found)
        };
        let sbom = evidence("sbom", Evidence::Sbom, &release.sbom)?;
        let provenance = evidence("provenance", Evidence::Provenance, &release.provenance)?;
        if let Some(file) = sbom {
            lines.push(describe_sbom(&file)?);
        }
        if let Some(file) = provenance {
            lines.push(describe_provenance(&file, &builders, target)?);
        }
    }
    lines.dedup();
    Ok(lines)
}

/// Looks at new advisories and revisions where their files are.
fn check_advisories(
    document: &TargetsMetadata,
    previous: Option<&TargetsMetadata>,
    find: &mut dyn FnMut(&Sha256Digest, u64) -> anyhow::Result<Option<PathBuf>>,
) -> anyhow::Result<Vec<String>> {
    let mut lines = Vec::new();
    for (path, target) in &document.targets {
        if previous.is_some_and(|previous| previous.targets.get(path) == Some(target)) {
            continue;
        }
        let Some(file) = find(&target.sha256, target.length)? else {
            lines.push(format!("{path} was not looked at"));
            continue;
        };
        let advisory = Advisory::read(&read_limited(&file, MAX_ADVISORY_BYTES as u64)?)
            .map_err(|error| Failure::refused(format!("{path}: {error}"), "do not sign what is no advisory"))?;
        lines.push(format!("{path}: {}", output::plain(&advisory.summary)));
    }
    Ok(lines)
}

fn check_facts(product: &Product, path: &str, release: &ReleaseCustom, now: Timestamp) -> anyhow::Result<()> {
    let next = "correct the release, or the registry with `sluice-sign product set`";
    let refuse = |message: String| Err(Failure::refused(format!("{path}: {message}"), next));
    if !product.hw_ids.is_empty()
        && let Some(unknown) = release.hw_ids.iter().find(|id| !product.hw_ids.contains(*id))
    {
        return refuse(format!("hardware {unknown} is not in the registry"));
    }
    if release.security_counter < product.security_counter {
        let lowest = product.security_counter;
        return refuse(format!("security counter {} is below the registry's {lowest}", release.security_counter));
    }
    let ended = product.support_end.as_deref().and_then(parse_date).filter(|end| today(now) > *end);
    match ended {
        Some(end) if !matches!(release.kind, ReleaseKind::Security | ReleaseKind::Recovery) => {
            refuse(format!("support ended on {end}; only security and recovery releases follow"))
        }
        _ => Ok(()),
    }
}

fn today(now: Timestamp) -> Date {
    now.to_zoned(TimeZone::UTC).date()
}

/// Reads a bill and says what it is.
pub fn describe_sbom(file: &Path) -> anyhow::Result<String> {
    let bill = read_sbom(file)?;
    let components = output::count(bill.components, "component");
    Ok(match bill.format {
        SbomFormat::CycloneDx => format!("SBOM: CycloneDX {}, {components}", bill.version),
        SbomFormat::Spdx => format!("SBOM: {}, {components}", bill.version),
    })
}

/// Reads and checks a bill of materials.
pub fn read_sbom(file: &Path) -> anyhow::Result<Sbom> {
    let bytes = read_limited(file, MAX_SBOM_BYTES as u64)?;
    Sbom::read(&bytes).map_err(|error| {
        Failure::refused(format!("{}: {error}", file.display()), "make the bill anew with a current tool")
    })
}

fn describe_provenance(file: &Path, builders: &[Builder], target: &RepositoryTarget) -> anyhow::Result<String> {
    let bytes = read_limited(file, MAX_PROVENANCE_BYTES as u64)?;
    let verified = Provenance::verify(&bytes, builders).and_then(|provenance| {
        provenance.check(&target.sha256)?;
        Ok(provenance)
    });
    match verified {
        Ok(provenance) => {
            let key = builders.iter().find(|builder| builder.id == provenance.builder);
            let key = key.map(|builder| output::long_id(builder.key.keyid())).unwrap_or_default();
            let (builder, kind) = (output::plain(&provenance.builder), output::plain(&provenance.build_type));
            Ok(format!("built by {builder} ({kind}), key {key}"))
        }
        Err(error) => Err(Failure::refused(
            format!("{}: {error}", target.path),
            "do not sign what was built elsewhere; a builder is pinned with `sluice-sign product set --builder ID=PUB`",
        )),
    }
}
