//! Support contracts: windows of cover and covered devices. Facts are added, never overwritten.

use std::fs;
use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Subcommand};
use sluice_catalog::contract::{Contract, ContractState};
use sluice_catalog::id::FactId;
use sluice_catalog::pool::PoolSet;
use sluice_catalog::text::{Code, ContractNumber, ProductName, Serial, Slug};
use sluice_catalog::wire::admin::{
    ContractCreate, ContractDetail, ContractExtend, ItemCreate, MAX_FACTS, WindowCreate,
};

use sluice_catalog::wire::contracts::ContractOverlap;
use sluice_catalog::wire::entitlement::{ContractChange, WhatIf};
use sluice_catalog::wire::event::ZoneSet;
use sluice_catalog::wire::registration::{CoverAnswer, SerialCover};

use crate::args::{Paging, item, one_of, pool, window};
use crate::cli::Session;
use crate::client::path;
use crate::failure::Failure;
use crate::noun::contract_apply::Apply;
use crate::noun::contract_import::Import;
use crate::noun::{contract_source, fleet, list};
use crate::output::{fields, joined, made, or_dash, table, when};

/// Largest file of items, bytes: 10,000 lines of the longest names stay below it.
const ITEMS_FILE_MAX: u64 = 4 << 20;

/// Windows and devices.
#[derive(Args)]
pub struct Facts {
    /// When it covers: FROM included, TO excluded; KIND is paid, warranty, trial, backdated or courtesy. May be
    /// repeated.
    #[arg(long = "window", value_name = "FROM..TO[:KIND]", value_parser = window)]
    windows: Vec<WindowCreate>,
    /// A device it covers; it need not be enrolled yet. May be repeated.
    #[arg(long = "item", value_name = "PRODUCT/SERIAL[@FROM..TO]", value_parser = item)]
    items: Vec<ItemCreate>,
    /// File with one item on each line.
    #[arg(long, value_name = "FILE")]
    items_from: Option<PathBuf>,
}

#[derive(Subcommand)]
pub enum Command {
    /// Enter a contract.
    Create {
        /// Its number in the sales system.
        number: ContractNumber,
        /// Whose it is.
        #[arg(long)]
        customer: Slug,
        /// The plan sold.
        #[arg(long)]
        plan: Slug,
        #[command(flatten)]
        facts: Facts,
    },
    /// Add windows and devices to a contract. What stands there already is left as it is.
    Add {
        /// Its number.
        number: ContractNumber,
        #[command(flatten)]
        facts: Facts,
        /// So many devices of a family at a site, whichever they are; 0 ends the pool. May be repeated.
        #[arg(long = "pool", value_name = "FAMILY@SITE:QUANTITY", value_parser = pool)]
        pools: Vec<PoolSet>,
        /// So many devices may lose a version or a code by a smaller pool.
        #[arg(long, value_name = "DEVICES")]
        accept_loss: Option<u64>,
    },
    /// Take in contracts, windows and devices from a file. The same file again changes nothing.
    Import(Import),
    /// Make contracts what files of the system that keeps them say, whole.
    Apply(Apply),
    /// Systems that keep contracts elsewhere: when each was last heard of.
    #[command(subcommand)]
    Source(contract_source::Command),
    /// Move a contract to another plan, void it, or make it count again.
    Change {
        /// Its number.
        number: ContractNumber,
        /// Another plan.
        #[arg(long)]
        plan: Option<Slug>,
        /// `active` or `void`: a void contract never counted, as far as is known from now on.
        #[arg(long, value_parser = one_of::<ContractState>(&["active", "void"]))]
        state: Option<ContractState>,
        /// So many devices may lose a version or a code by it.
        #[arg(long, value_name = "DEVICES")]
        accept_loss: Option<u64>,
        /// Tell which devices would gain or lose what, and change nothing.
        #[arg(long)]
        what_if: bool,
    },
    /// Take back a window or a device, which was entered by mistake. It stays on record.
    Retract {
        /// Its number.
        number: ContractNumber,
        /// The window's id, as `show --json` tells it.
        #[arg(long, required_unless_present = "item", conflicts_with = "item")]
        window: Option<FactId>,
        /// The item's id.
        #[arg(long)]
        item: Option<FactId>,
        /// So many devices may lose a version or a code by it.
        #[arg(long, value_name = "DEVICES")]
        accept_loss: Option<u64>,
        /// Tell which devices would gain or lose what, and change nothing.
        #[arg(long)]
        what_if: bool,
    },
    /// Look up what contracts say of a serial.
    Lookup {
        /// The serial.
        serial: Serial,
        /// Of this product only.
        #[arg(long)]
        product: Option<ProductName>,
    },
    /// Set the time zone in which a contract's days are counted, for notices.
    Zone {
        /// The contract's number.
        number: ContractNumber,
        /// Its IANA name, such as Europe/Amsterdam [default: UTC].
        zone: Option<String>,
    },
    /// List serials that several contracts cover at the same time: the better one counts, and somebody may pay twice.
    Overlaps(Paging),
    /// List contracts.
    List {
        /// Of this customer only.
        #[arg(long)]
        customer: Option<Slug>,
        #[command(flatten)]
        paging: Paging,
    },
    /// Show a contract with its windows and devices.
    Show {
        /// Its number.
        number: ContractNumber,
    },
}

impl Command {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        match self {
            Self::Create { number, customer, plan, facts } => {
                let (windows, items) = facts.read()?;
                let request = ContractCreate { number, customer, plan, windows, items };
                let answer = session.client.post::<ContractDetail>(&path(&["contracts"]), &request)?;
                session.out.result(&answer.value, |detail| {
                    made(answer.created, &format!("contract {}", detail.contract.number)) + "\n\n" + &text(detail)
                })
            }
            Self::Add { number, facts, pools, accept_loss } => {
                let (windows, items) = facts.read()?;
                if windows.is_empty() && items.is_empty() && pools.is_empty() {
                    return Err(Failure::Usage("nothing to add: give --window, --item, --items-from or --pool".into()));
                }
                let path = path(&["contracts", number.as_str(), "facts"]);
                let request = ContractExtend { windows, items, pools, accept_loss };
                let detail: ContractDetail = session.client.post(&path, &request)?.value;
                session.out.result(&detail, text)
            }
            Self::Import(import) => import.run(session),
            Self::Apply(apply) => apply.run(session),
            Self::Lookup { serial, product } => {
                let query = [("serial", Some(serial.to_string())), ("product", product.map(|name| name.to_string()))];
                let found: Vec<SerialCover> = session.client.get(&path(&["cover"]), &query)?;
                session.out.result(&found, |found| found.iter().map(looked_up).collect::<Vec<_>>().join("\n\n"))
            }
            Self::Zone { number, zone } => {
                let path = path(&["contracts", number.as_str(), "zone"]);
                let set: ZoneSet = session.client.put(&path, &ZoneSet { zone })?.value;
                session.out.result(&set, |set| {
                    format!("days of {number} are counted in {}", set.zone.as_deref().unwrap_or("UTC"))
                })
            }
            Self::Source(command) => command.run(session),
            Self::Change { number, plan, state, accept_loss, what_if } => {
                if plan.is_none() && state.is_none() {
                    return Err(Failure::Usage("nothing to change: give --plan or --state".into()));
                }
                let change = ContractChange { plan, state, accept_loss };
                if what_if {
                    return fleet::what_if(session, &WhatIf::Contract { number, change });
                }
                let path = path(&["contracts", number.as_str()]);
                let detail: ContractDetail = session.client.patch(&path, &change)?.value;
                session.out.result(&detail, text)
            }
            Self::Retract { number, window, item, accept_loss, what_if } => {
                let (kind, id) = match (window, item) {
                    (Some(window), _) => ("windows", window),
                    (_, Some(item)) => ("items", item),
                    _ => return Err(Failure::Usage("give --window or --item".into())),
                };
                if what_if {
                    let change = match window {
                        Some(id) => WhatIf::Window { number, id },
                        None => WhatIf::Item { number, id },
                    };
                    return fleet::what_if(session, &change);
                }
                let mut path = path(&["contracts", number.as_str(), kind, &id.to_string()]);
                if let Some(accepted) = accept_loss {
                    path = format!("{path}?accept_loss={accepted}");
                }
                let detail: ContractDetail = session.client.delete_from(&path)?;
                session.out.result(&detail, text)
            }
            Self::Overlaps(paging) => list(
                session,
                &path(&["contract-overlaps"]),
                &[],
                &paging,
                &["PRODUCT", "SERIAL", "CONTRACTS", "FROM", "TO"],
                |one: &ContractOverlap| {
                    let under = one.contracts.iter().zip(&one.plans).map(|(number, plan)| format!("{number} ({plan})"));
                    vec![
                        one.product.to_string(),
                        one.serial.to_string(),
                        under.collect::<Vec<_>>().join(", "),
                        when(one.from),
                        when(one.to),
                    ]
                },
            ),
            Self::List { customer, paging } => list(
                session,
                &path(&["contracts"]),
                &[("customer", customer.map(|customer| customer.to_string()))],
                &paging,
                &["NUMBER", "STATE", "CREATED"],
                |contract: &Contract| {
                    vec![contract.number.to_string(), contract.state.as_str().to_owned(), when(contract.created_at)]
                },
            ),
            Self::Show { number } => {
                let detail: ContractDetail = session.client.get(&path(&["contracts", number.as_str()]), &[])?;
                session.out.result(&detail, text)
            }
        }
    }
}

impl Facts {
    /// Everything that was typed and that stands in the file, within what one request may carry.
    fn read(self) -> Result<(Vec<WindowCreate>, Vec<ItemCreate>), Failure> {
        let mut items = self.items;
        if let Some(path) = &self.items_from {
            let shown = || path.display().to_string();
            let length = fs::metadata(path).with_context(shown)?.len();
            if length > ITEMS_FILE_MAX {
                return Err(Failure::Usage(format!("{}: {length} bytes, at most {ITEMS_FILE_MAX}", path.display())));
            }
            let text = fs::read_to_string(path).with_context(shown)?;
            for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
                items.push(
                    item(line.trim())
                        .map_err(|rule| Failure::Usage(format!("{} line {}: {rule}", path.display(), number + 1)))?,
                );
            }
        }
        let count = items.len().max(self.windows.len());
        if count > MAX_FACTS {
            return Err(Failure::Usage(format!("{count} at once; at most {MAX_FACTS}: split them")));
        }
        Ok((self.windows, items))
    }
}

fn looked_up(found: &SerialCover) -> String {
    let state = |cover: &CoverAnswer| format!("{:?}", cover.state).to_lowercase();
    let codes = |cover: &CoverAnswer| joined(cover.codes.iter().map(Code::as_str));
    let mut text = fields(&[
        ("device", format!("{}/{}", found.product, found.serial)),
        ("state", found.device.map(|state| state.as_str().to_owned()).unwrap_or_default()),
        ("owner", or_dash(found.customer.as_ref())),
        ("cover", state(&found.cover)),
        ("until", when(found.cover.until)),
        ("grace until", when(found.cover.grace_until)),
        ("from", when(found.cover.from)),
        ("codes", codes(&found.cover)),
    ]);
    text.push('\n');
    text.push_str(&table(
        &["CONTRACT", "CUSTOMER", "PLAN", "STATE", "COVER", "UNTIL", "CODES"],
        found.contracts.iter().map(|contract| {
            vec![
                contract.number.to_string(),
                contract.customer.to_string(),
                contract.plan.to_string(),
                contract.state.as_str().to_owned(),
                state(&contract.cover),
                when(contract.cover.until),
                codes(&contract.cover),
            ]
        }),
    ));
    text
}

fn text(detail: &ContractDetail) -> String {
    let mut text = fields(&[
        ("number", detail.contract.number.to_string()),
        ("customer", detail.customer.to_string()),
        ("plan", detail.plan.to_string()),
        ("state", detail.contract.state.as_str().to_owned()),
        ("created", when(detail.contract.created_at)),
    ]);
    if let Some(kept) = &detail.kept {
        let revision = kept.revision.map(|revision| format!(", revision {revision}")).unwrap_or_default();
        text.push('\n');
        text.push_str(&fields(&[("kept by", format!("{}{revision}", kept.source))]));
    }
    if !detail.pools.is_empty() {
        text.push('\n');
        text.push_str(&table(
            &["POOL", "SITE", "PLACES", "TAKEN"],
            detail.pools.iter().map(|pool| {
                vec![pool.family.to_string(), pool.site.to_string(), pool.quantity.to_string(), pool.used.to_string()]
            }),
        ));
        text.push('\n');
    }
    text.push('\n');
    text.push_str(&table(
        &["WINDOW FROM", "TO", "KIND", "RECORDED"],
        detail.windows.iter().map(|window| {
            let kind = window.kind.as_str().to_owned();
            vec![when(window.from_at), when(window.to_at), kind, when(window.recorded_at)]
        }),
    ));
    text.push_str("\n\n");
    text.push_str(&table(
        &["PRODUCT", "SERIAL", "FROM", "TO", "RECORDED"],
        detail.items.iter().map(|item| {
            vec![
                item.product.to_string(),
                item.serial.to_string(),
                when(item.from_at),
                when(item.to_at),
                when(item.recorded_at),
            ]
        }),
    ));
    text
}
