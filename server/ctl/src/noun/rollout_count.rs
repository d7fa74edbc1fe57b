//! How many devices an audience holds.

use std::collections::BTreeMap;

use clap::Args;
use sluice_catalog::text::{ProductName, Slug, Version};
use sluice_catalog::wire::rollout::{AudienceAsk, AudienceCount};

use crate::cli::Session;
use crate::client::path;
use crate::failure::Failure;
use crate::noun::rollout::Audience;
use crate::output::{fields, table};

/// Rows of each table that are shown; `--json` has all.
const ROWS: usize = 30;

/// Count the devices that an audience holds now.
#[derive(Args)]
pub struct Count {
    /// The product.
    #[arg(long)]
    product: ProductName,
    /// Tell as well how many of them may have this version.
    #[arg(long)]
    version: Option<Version>,
    #[command(flatten)]
    audience: Audience,
}

impl Count {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        let ask = AudienceAsk { selector: self.audience.into(), version: self.version };
        let path = path(&["products", self.product.as_str(), "audience", "count"]);
        let count: AudienceCount = session.client.post(&path, &ask)?.value;
        session.out.result(&count, text)?;
        warn(session, &count);
        Ok(())
    }
}

fn devices(count: &AudienceCount) -> String {
    let least = if count.cut { "at least " } else { "" };
    let entitled = count.entitled.map_or_else(String::new, |entitled| format!(", {entitled} of them entitled"));
    format!("{least}{} devices{entitled}", count.devices)
}

fn text(count: &AudienceCount) -> String {
    let mut text = fields(&[("filter", count.filter.clone().unwrap_or_default()), ("holds", devices(count))]);
    for (header, groups) in [("HARDWARE", &count.by_hardware), ("RUNS", &count.by_version)] {
        text.push('\n');
        text.push_str(&table(&[header, "DEVICES"], largest(groups)));
    }
    text
}

/// The largest groups, the largest first.
fn largest(groups: &BTreeMap<String, u64>) -> Vec<Vec<String>> {
    let mut rows: Vec<(&String, &u64)> = groups.iter().collect();
    rows.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let name = |name: &String| if name.is_empty() { "-".to_owned() } else { name.clone() };
    rows.into_iter().take(ROWS).map(|(group, count)| vec![name(group), count.to_string()]).collect()
}

/// Tells whom a rollout is for. Of a program that reads JSON it is not wanted: it can ask for itself.
pub fn note(session: &Session, name: &Slug) {
    if session.out.json {
        return;
    }
    match session.client.get::<AudienceCount>(&path(&["rollouts", name.as_str(), "audience"]), &[]) {
        Ok(count) => {
            session.out.note(&format!("Its audience holds {} now", devices(&count)));
            warn(session, &count);
        }
        Err(failure) => session.out.note(&format!("Its audience could not be counted: {failure}")),
    }
}

fn warn(session: &Session, count: &AudienceCount) {
    for warning in &count.warnings {
        session.out.note(&format!("Warning: {warning}"));
    }
}
