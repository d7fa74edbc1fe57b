//! The answer to "why?": outcome first, then every gate's answer.

use clap::Args;
use sluice_catalog::Time;
use sluice_catalog::decide::Why as Answer;
use sluice_catalog::text::{ProductName, Serial, Version};

use crate::cli::Session;
use crate::failure::Failure;
use crate::noun::device::Name;
use crate::noun::fleet::{self, GroupBy, Which};
use crate::output::{fields, or_dash, printable, when};

/// Explains why a device does or does not get a version, at any moment past or future; or of every device of a product, with `--product`.
#[derive(Args)]
pub struct Why {
    /// The product.
    #[arg(required_unless_present = "of_product", conflicts_with = "of_product")]
    product: Option<ProductName>,
    /// The serial.
    #[arg(required_unless_present = "of_product")]
    serial: Option<Serial>,
    /// About this version only [default: every version, and what is decided among them].
    version: Option<Version>,
    /// At this moment [default: now].
    #[arg(long, value_name = "TIME")]
    at: Option<Time>,
    /// By what was known at this moment [default: by what is known now].
    #[arg(long, value_name = "TIME", conflicts_with = "of_product")]
    known_at: Option<Time>,
    #[command(flatten)]
    fleet: Fleet,
}

/// A whole fleet instead of one device.
#[derive(Args)]
#[command(next_help_heading = "Of a whole fleet")]
struct Fleet {
    /// About every device of this product.
    #[arg(id = "of_product", long = "product", value_name = "PRODUCT")]
    product: Option<ProductName>,
    /// About this version only [default: what each device gets].
    #[arg(long, value_name = "VERSION", requires = "of_product")]
    release: Option<Version>,
    /// What to count by; with `none` every device is a line.
    #[arg(long, value_enum, default_value_t = GroupBy::Reason, requires = "of_product")]
    group_by: GroupBy,
    #[command(flatten)]
    which: Which,
}

impl Why {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        if let Some(product) = &self.fleet.product {
            let Fleet { release, group_by, which, .. } = &self.fleet;
            let (version, at) = (release.as_ref().map(ToString::to_string), self.at.map(|at| at.to_string()));
            let query = [vec![("version", version), ("at", at)], which.query()].concat();
            return fleet::why(session, product, &query, *group_by);
        }
        if self.fleet.which.query().iter().any(|(_, given)| given.is_some()) {
            return Err(Failure::Usage(
                "--state, --customer, --site and --tag choose among the devices of --product".into(),
            ));
        }
        let (Some(product), Some(serial)) = (self.product, self.serial) else {
            return Err(Failure::Usage("name a device: PRODUCT SERIAL, or every one with --product".into()));
        };
        let name = Name { product, serial };
        let query = [
            ("version", self.version.as_ref().map(ToString::to_string)),
            ("at", self.at.map(|at| at.to_string())),
            ("known_at", self.known_at.map(|at| at.to_string())),
        ];
        let answer: Answer = session.client.get(&name.path(&["why"]), &query)?;
        session.out.result(&answer, |answer| text(&name, answer))
    }
}

fn text(name: &Name, answer: &Answer) -> String {
    let about = answer.version.as_ref().map(|version| format!(" {version}")).unwrap_or_default();
    let outcome = if answer.offered { "OFFERED" } else { "NOT OFFERED" };
    let contracts: Vec<&str> = answer.overlaps.iter().map(AsRef::as_ref).collect();
    let mut pairs = vec![
        ("device", format!("{}/{}", name.product, name.serial)),
        ("at", when(answer.at)),
        ("outcome", format!("{outcome}{about}: {}", answer.reason)),
        ("because", answer.sentence.clone()),
        ("may have", newest(answer)),
        ("changes at", when(answer.changes_at)),
    ];
    pairs.extend(answer.known_at.map(|known_at| ("known at", when(known_at))));
    pairs.extend(answer.advice.iter().map(|advice| ("to do", advice.clone())));
    if !answer.path.is_empty() {
        let path: Vec<&str> = answer.path.iter().map(Version::as_str).collect();
        pairs.push(("one by one", path.join(", ")));
    }
    if !contracts.is_empty() {
        pairs.push(("contracts", format!("{} at once; the better one counts", contracts.join(", "))));
    }
    let mut text = fields(&pairs);
    let mut version = None;
    for step in &answer.steps {
        if version != Some(&step.version) {
            text.extend(["\n", step.version.as_str(), "\n"]);
            version = Some(&step.version);
        }
        let (mark, gate) = (if step.pass { "pass" } else { "stop" }, step.gate.as_str());
        let detail = if step.detail.is_empty() { String::new() } else { format!("  ({})", printable(&step.detail)) };
        let (code, sentence) = (step.reason.code(), step.reason.sentence());
        text.push_str(&["  ", mark, "  ", &format!("{gate:8}  {code:22}  {sentence}{detail}"), "\n"].concat());
    }
    text
}

/// The newest version the device may have, and whether fixes of its train still come.
fn newest(answer: &Answer) -> String {
    let newest = or_dash(answer.newest_entitled.as_ref());
    match (&answer.newest_train, answer.newest_support_end) {
        (Some(train), Some(end)) if end <= answer.at => {
            format!("{newest}; support of train {train} ended on {}: no further fixes of it are made", end.date())
        }
        (Some(train), Some(end)) => format!("{newest}; support of train {train} ends on {}", end.date()),
        _ => newest,
    }
}
