//! Support plans.

use clap::Subcommand;
use sluice_catalog::contract::Grant;
use sluice_catalog::cover::CoverRule;
use sluice_catalog::text::Slug;
use sluice_catalog::wire::admin::{GrantCreate, PlanCreate, PlanDetail};
use sluice_catalog::wire::entitlement::{PlanChange, WhatIf};

use crate::args::{Paging, grant};
use crate::cli::Session;
use crate::client::path;
use crate::failure::Failure;
use crate::noun::{fleet, list};
use crate::output::{joined, made};

#[derive(Subcommand)]
pub enum Command {
    /// Enter a support plan.
    Create {
        /// A short name.
        name: Slug,
        /// What has to lie in a window of cover: the train's general availability (train-ga), this moment (live), the
        /// release's publication (release-date), N months of the train (fallback-N), or nothing (open).
        #[arg(long, default_value = "train-ga")]
        rule: CoverRule,
        /// Days after each window in which cover still counts.
        #[arg(long, default_value_t = 14, value_parser = clap::value_parser!(u16).range(0..=365))]
        grace_days: u16,
        /// A code it grants, for one family or all, up to a channel (stable, preview, beta); may be repeated.
        #[arg(long = "grant", value_name = "CODE[@FAMILY][:CEILING]", value_parser = grant)]
        grants: Vec<GrantCreate>,
    },
    /// Change what a plan is like, for all its contracts, from now on. What is not given is as in `create`.
    Change {
        /// Its name.
        name: Slug,
        /// See `plan create`.
        #[arg(long, default_value = "train-ga")]
        rule: CoverRule,
        /// See `plan create`.
        #[arg(long, default_value_t = 14, value_parser = clap::value_parser!(u16).range(0..=365))]
        grace_days: u16,
        /// See `plan create`; in place of what it granted.
        #[arg(long = "grant", value_name = "CODE[@FAMILY][:CEILING]", value_parser = grant)]
        grants: Vec<GrantCreate>,
        /// Tell which devices would gain or lose what, and change nothing.
        #[arg(long)]
        what_if: bool,
        /// So many devices may lose a version or a code; without it a change that takes cover from many is refused.
        #[arg(long, value_name = "DEVICES")]
        accept_loss: Option<u64>,
    },
    /// List support plans.
    List(Paging),
}

impl Command {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        let path = path(&["plans"]);
        match self {
            Self::Change { name, rule, grace_days, grants, what_if, accept_loss } => {
                let change = PlanChange { rule, grace_days, grants, accept_loss };
                if what_if {
                    return fleet::what_if(session, &WhatIf::Plan { name, change });
                }
                let path = crate::client::path(&["plans", name.as_str()]);
                let detail = session.client.put::<PlanDetail>(&path, &change)?.value;
                session.out.result(&detail, |detail| {
                    format!(
                        "plan {} is {}, {} days of grace",
                        detail.plan.name, detail.plan.rule, detail.plan.grace_days
                    )
                })
            }
            Self::Create { name, rule, grace_days, grants } => {
                let request = PlanCreate { name, rule, grace_days, grants };
                let answer = session.client.post::<PlanDetail>(&path, &request)?;
                session.out.result(&answer.value, |detail| {
                    made(answer.created, &format!("plan {} ({})", detail.plan.name, detail.plan.rule))
                })
            }
            Self::List(paging) => {
                list(session, &path, &[], &paging, &["NAME", "RULE", "GRACE DAYS", "GRANTS"], |detail: &PlanDetail| {
                    let grants: Vec<String> = detail.grants.iter().map(grant_text).collect();
                    vec![
                        detail.plan.name.to_string(),
                        detail.plan.rule.to_string(),
                        detail.plan.grace_days.to_string(),
                        joined(grants.iter().map(String::as_str)),
                    ]
                })
            }
        }
    }
}

/// A grant as it is typed.
fn grant_text(grant: &Grant) -> String {
    let family = grant.family.as_ref().map(|family| format!("@{family}")).unwrap_or_default();
    format!("{}{family}:{}", grant.code, grant.channel_ceiling.as_str())
}
