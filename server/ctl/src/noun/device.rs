//! Devices: register, look up, accept, block, retire, revoke, erase.

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use sluice_catalog::device::{Device, DeviceState};
use sluice_catalog::id::ProductId;
use sluice_catalog::product::Product;
use sluice_catalog::text::{HardwareId, ProductName, Serial, Slug, TrainName};
use sluice_catalog::wire::admin::{DeviceCreate, DeviceDetail, DeviceStateChange};
use sluice_catalog::wire::entitlement::{DeviceEntry, DeviceEvent};
use sluice_catalog::wire::erasure::Erased;
use sluice_catalog::wire::registration::{CodeCreate, CodeMade, Registration, RegistrationCreate, TransferCreate};
use sluice_catalog::{Mac, TextSet};

use crate::args::{LIST_MAX, Paging, one_of};
use crate::cli::Session;
use crate::client::path;
use crate::failure::Failure;
use crate::noun::device_set::DeviceSet;
use crate::noun::list;
use crate::noun::update_now::UpdateNowArgs;
use crate::output::{fields, joined, log_lines, made, or_dash, printable, table, when};

/// Entries of a device's life in one answer.
const STORY_PAGE: usize = 1_000;
/// Names of the states, as they are filtered by.
pub const STATES: &[&str] = &["pending", "active", "rma_pending", "replaced", "blocked", "retired"];

/// Names one device: serials are unique within a product only.
#[derive(Args, Clone)]
pub struct Name {
    /// The product.
    pub product: ProductName,
    /// The serial.
    pub serial: Serial,
}

#[derive(Subcommand)]
pub enum Command {
    /// Register a device before it enrols. It becomes active when it does.
    Create {
        #[command(flatten)]
        name: Name,
        /// Its hardware.
        #[arg(long)]
        hw_id: HardwareId,
        /// The address of its network interface.
        #[arg(long)]
        mac: Option<Mac>,
        /// Whose it is.
        #[arg(long)]
        customer: Option<Slug>,
        /// Where it stands.
        #[arg(long)]
        site: Option<Slug>,
        /// A free label; may be repeated.
        #[arg(long = "tag")]
        tags: Vec<Slug>,
        /// The train it was made with: security fixes of that train are free for it.
        #[arg(long)]
        train: Option<TrainName>,
    },
    /// List devices.
    List {
        /// Of this product only.
        #[arg(long)]
        product: Option<ProductName>,
        /// In this state only.
        #[arg(long, value_parser = one_of::<DeviceState>(STATES))]
        state: Option<DeviceState>,
        /// Of this customer only.
        #[arg(long)]
        customer: Option<Slug>,
        /// With this address of its network interface only.
        #[arg(long)]
        mac: Option<Mac>,
        #[command(flatten)]
        paging: Paging,
    },
    /// Change where a device stands, its labels or its address. What is not named stays.
    Set(DeviceSet),
    /// Show a device with what it runs and its last attempts.
    Show(Name),
    /// Accept a pending device.
    Accept(Name),
    /// Block a device: it gets nothing.
    Block(Name),
    /// Take a device out of service.
    Retire(Name),
    /// Tell a device's life: what it was, what it ran and was offered, its cover and its swaps; --json exports it.
    History(Name),
    /// Register a device to its owner, with the code that it shows or that was printed.
    Register {
        #[command(flatten)]
        name: Name,
        /// Whose it becomes.
        #[arg(long)]
        customer: Slug,
        /// The code.
        #[arg(long)]
        code: String,
    },
    /// Make a registration code to be printed and packed with a device. It is shown this once.
    RegistrationCode {
        #[command(flatten)]
        name: Name,
        /// Days that it is good [default: 3660].
        #[arg(long)]
        days: Option<u32>,
    },
    /// Give a device up: it is nobody's until somebody registers it, and its codes are void.
    Release(Name),
    /// Give a device to another customer. Administrators only.
    Transfer {
        #[command(flatten)]
        name: Name,
        /// Whose it becomes.
        #[arg(long)]
        customer: Slug,
    },
    /// Ask for a version on a device at once: stages and windows of its rollout do not hold it back.
    UpdateNow(UpdateNowArgs),
    /// Void every session token of a device. It must prove its key again.
    Revoke(Name),
    /// Erase the owner, place, key and serial of a retired or replaced device, for good.
    ///
    /// A pseudonym takes the place of the serial in history, events and the audit log, which says which entries were altered. A device
    /// that comes back under the serial is unknown. Again, by serial or pseudonym, the answer is the same.
    Erase {
        #[command(flatten)]
        name: Name,
        /// It cannot be undone.
        #[arg(long, required = true)]
        confirm: bool,
    },
}

impl Command {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        match self {
            Self::Create { name, hw_id, mac, customer, site, tags, train } => {
                let Name { product, serial } = name;
                let tags = tags.into_iter().collect::<TextSet>();
                let request =
                    DeviceCreate { product: product.clone(), serial, hw_id, mac, customer, site, tags, train };
                let answer = session.client.post::<Device>(&path(&["devices"]), &request)?;
                session.out.result(&answer.value, |device| {
                    let what = format!("device {product}/{} ({})", device.serial, device.state.as_str());
                    made(answer.created, &what)
                })
            }
            Self::List { product, state, customer, mac, paging } => {
                print_list(session, product.as_ref(), (state, mac.as_ref()), customer.as_ref(), &paging)
            }
            Self::Set(set) => set.run(session),
            Self::Show(name) => {
                let detail: DeviceDetail = session.client.get(&name.path(&[]), &[])?;
                session.out.result(&detail, text)
            }
            Self::History(name) => {
                let story = story(session, &name)?;
                session.out.result(&story, |story| {
                    table(
                        &["AT", "WHAT", "DETAIL"],
                        story.iter().map(|entry| {
                            let (what, detail) = told(&entry.event);
                            vec![when(entry.at), what.to_owned(), detail]
                        }),
                    )
                })
            }
            Self::Accept(name) => name.change(session, DeviceState::Active),
            Self::Block(name) => name.change(session, DeviceState::Blocked),
            Self::Retire(name) => name.change(session, DeviceState::Retired),
            Self::Register { name, customer, code } => {
                let Name { product, serial } = name;
                let request = RegistrationCreate { product, serial, customer, code };
                let done: Registration = session.client.post(&path(&["registrations"]), &request)?.value;
                session.out.result(&done, owned)
            }
            Self::RegistrationCode { name, days } => {
                let made: CodeMade =
                    session.client.post(&name.path(&["registration-code"]), &CodeCreate { days })?.value;
                session.out.result(&made, |made| format!("{}\ngood until {}", made.code, when(made.expires_at)))
            }
            Self::Release(name) => {
                let done: Registration = session.client.post(&name.path(&["release"]), &serde_json::json!({}))?.value;
                session.out.result(&done, owned)
            }
            Self::Transfer { name, customer } => {
                let done: Registration =
                    session.client.post(&name.path(&["transfer"]), &TransferCreate { customer })?.value;
                session.out.result(&done, owned)
            }
            Self::Erase { name, confirm: _ } => {
                let erased: Erased = session.client.post(&name.path(&["erase"]), &serde_json::json!({}))?.value;
                session.out.result(&erased, |erased| {
                    format!("{}/{} is what the device is called from now on", erased.product, erased.serial)
                })
            }
            Self::UpdateNow(args) => args.run(session),
            Self::Revoke(name) => {
                let device: Device = session.client.post(&name.path(&["revoke"]), &serde_json::json!({}))?.value;
                session.out.result(&device, |device| {
                    format!("{}/{}: every session is void; epoch {}", name.product, device.serial, device.epoch)
                })
            }
        }
    }
}

impl Name {
    /// Where the device stands in the API.
    pub fn path(&self, rest: &[&str]) -> String {
        let mut segments = vec!["products", self.product.as_str(), "devices", self.serial.as_str()];
        segments.extend(rest);
        path(&segments)
    }

    fn change(&self, session: &Session, state: DeviceState) -> Result<(), Failure> {
        let device: Device = session.client.post(&self.path(&["state"]), &DeviceStateChange { state })?.value;
        session.out.result(&device, |device| format!("{}/{} is {}", self.product, device.serial, device.state.as_str()))
    }
}

fn print_list(
    session: &Session,
    product: Option<&ProductName>,
    (state, mac): (Option<DeviceState>, Option<&Mac>),
    customer: Option<&Slug>,
    paging: &Paging,
) -> Result<(), Failure> {
    // The record carries the product's id; people read names.
    let names: BTreeMap<ProductId, ProductName> = if session.out.json || product.is_some() {
        BTreeMap::new()
    } else {
        let all = Paging { limit: LIST_MAX, after: None };
        // Who is bound to a customer may not list products: it sees their ids. Whatever else is wrong the devices' list says, too.
        let products = session.client.list::<Product>(&path(&["products"]), &[], &all);
        let products = products.map(|page| page.items).unwrap_or_default();
        products.into_iter().map(|product| (product.id, product.name)).collect()
    };
    let query = [
        ("product", product.map(ToString::to_string)),
        ("state", state.map(|state| state.as_str().to_owned())),
        ("customer", customer.map(ToString::to_string)),
        ("mac", mac.map(ToString::to_string)),
    ];
    list(
        session,
        &path(&["devices"]),
        &query,
        paging,
        &["PRODUCT", "SERIAL", "HARDWARE", "STATE", "TRAIN", "SITE", "TAGS", "CREATED"],
        |device: &Device| {
            vec![
                product
                    .or_else(|| names.get(&device.product_id))
                    .map_or_else(|| device.product_id.to_string(), ToString::to_string),
                device.serial.to_string(),
                device.hw_id.to_string(),
                device.state.as_str().to_owned(),
                or_dash(device.confirmed_train.as_ref()),
                or_dash(device.site.as_ref()),
                joined(device.tags.iter()),
                when(device.created_at),
            ]
        },
    )
}

/// Whose a device is, in words.
fn owned(done: &Registration) -> String {
    match &done.customer {
        Some(customer) => format!("{}/{} is registered to {customer}", done.product, done.serial),
        None => format!("{}/{} is nobody's", done.product, done.serial),
    }
}

/// A device's whole life, page by page.
fn story(session: &Session, name: &Name) -> Result<Vec<DeviceEntry>, Failure> {
    let mut story: Vec<DeviceEntry> = Vec::new();
    loop {
        let after = story.last().map(|entry| entry.key.clone());
        let query = [("after", after.clone()), ("limit", Some(STORY_PAGE.to_string()))];
        let page: Vec<DeviceEntry> = session.client.get(&name.path(&["history"]), &query)?;
        // A server that knows no pages tells everything at once, and no keys.
        let goes_on = page.len() == STORY_PAGE && page.last().is_some_and(|last| Some(&last.key) > after.as_ref());
        story.extend(page);
        if !goes_on {
            return Ok(story);
        }
    }
}

/// An event in words.
fn told(event: &DeviceEvent) -> (&'static str, String) {
    match event {
        DeviceEvent::Changed { actor, cause, device, installed } => {
            let runs = installed.iter().map(|one| format!("{} {}", one.component, one.version)).collect::<Vec<_>>();
            let runs = if runs.is_empty() { String::new() } else { format!(", runs {}", runs.join(", ")) };
            ("device", format!("{cause} by {actor}: {}{runs}", device.state.as_str()))
        }
        DeviceEvent::Attempt { attempt, version, state, failure, detail, .. } => {
            let failure = failure.as_ref().map(|failure| format!(", {failure}")).unwrap_or_default();
            let detail = detail.as_ref().map(|detail| format!(": {detail}")).unwrap_or_default();
            ("attempt", format!("{attempt} at {version}: {state}{failure}{detail}"))
        }
        DeviceEvent::Cover { contract, change, from, to } => {
            ("cover", format!("{contract} {change}: {} to {}", when(*from), when(*to)))
        }
        DeviceEvent::Decision { offered, version, reason, .. } => {
            let about = version.as_ref().map(|version| format!(" {version}")).unwrap_or_default();
            ("decision", format!("{}{about}: {reason}", if *offered { "offered" } else { "not offered" }))
        }
        DeviceEvent::Swap { rma, old, new, change } => ("swap", format!("{rma} {change}: {old} by {new}")),
    }
}

fn text(detail: &DeviceDetail) -> String {
    let device = &detail.device;
    let mut text = fields(&[
        ("product", detail.product.to_string()),
        ("serial", device.serial.to_string()),
        ("hardware", device.hw_id.to_string()),
        ("state", device.state.as_str().to_owned()),
        ("train", or_dash(device.confirmed_train.as_ref())),
        ("channel", device.channel.as_str().to_owned()),
        ("site", or_dash(device.site.as_ref())),
        ("mac", or_dash(device.mac.as_ref())),
        ("tags", joined(device.tags.iter())),
        ("enrolled", if device.public_key.is_some() { "yes" } else { "no" }.to_owned()),
        ("epoch", device.epoch.to_string()),
        ("verifies to epoch", device.signing_epoch.to_string()),
        ("decodes", format!("{} in {} bytes", device.profile.as_str(), device.ram_budget)),
        ("patches", if device.patches_off { "off: one gave a wrong image" } else { "on" }.to_owned()),
        ("last seen", when(detail.last_seen_at)),
        ("id", device.id.to_string()),
    ]);
    text.push('\n');
    text.push_str(&table(
        &["COMPONENT", "VERSION", "SHA-256", "COUNTER"],
        detail.installed.iter().map(|installed| {
            vec![
                installed.component.to_string(),
                installed.version.to_string(),
                installed.sha256.short(),
                installed.security_counter.to_string(),
            ]
        }),
    ));
    text.push_str("\n\n");
    text.push_str(&table(
        &["ATTEMPT", "STATE", "ENCODING", "BYTES", "FAILURE", "OFFERED", "CHANGED"],
        detail.attempts.iter().map(|attempt| {
            vec![
                attempt.seq.to_string(),
                attempt.state.as_str().to_owned(),
                attempt.encoding.clone().unwrap_or_default(),
                or_dash(attempt.bytes),
                or_dash(attempt.failure.map(sluice_catalog::rollout::Failure::as_str)),
                when(attempt.offered_at),
                when(attempt.changed_at),
            ]
        }),
    ));
    for attempt in detail.attempts.iter().filter(|attempt| attempt.detail.is_some() || attempt.log.is_some()) {
        let words = attempt.detail.as_deref().map(printable).unwrap_or_default();
        let log = attempt.log.as_deref().map(log_lines).unwrap_or_default();
        text.push_str(&["\n\nattempt ", &attempt.seq.to_string(), ": ", &words, "\n", log.trim_end()].concat());
    }
    text
}
