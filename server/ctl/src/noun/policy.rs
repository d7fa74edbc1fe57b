//! What a customer wants for its devices: to hold new versions back, to stay at one, or to follow.

use clap::{Args, Subcommand};
use sluice_catalog::Time;
use sluice_catalog::id::FactId;
use sluice_catalog::policy::{MAX_POLICY_REASON, PolicyKind, PolicyScope};
use sluice_catalog::text::{ProductName, Serial, Slug, Version};
use sluice_catalog::wire::entitlement::{PolicyCreate, PolicyDetail};

use crate::cli::Session;
use crate::client::path;
use crate::failure::Failure;
use crate::noun::short_text;
use crate::output::{made, or_dash, table, when};

/// Which devices, from when until when, and why.
#[derive(Args)]
pub struct For {
    /// Whose devices.
    #[arg(long)]
    customer: Slug,
    /// Those of this site only.
    #[arg(long, conflicts_with_all = ["group", "device"])]
    site: Option<Slug>,
    /// Those with this tag only.
    #[arg(long, value_name = "TAG", conflicts_with = "device")]
    group: Option<Slug>,
    /// This one only; needs --product.
    #[arg(long, value_name = "SERIAL", requires = "product")]
    device: Option<Serial>,
    /// For this product only.
    #[arg(long)]
    product: Option<ProductName>,
    /// Why, in one line; the device's owner and support read it.
    #[arg(long, value_parser = short_text(MAX_POLICY_REASON))]
    reason: String,
    /// From then on [default: now].
    #[arg(long, value_name = "TIME")]
    from: Option<Time>,
    /// Until then [default: until it is lifted].
    #[arg(long, value_name = "TIME")]
    until: Option<Time>,
}

#[derive(Subcommand)]
pub enum Command {
    /// Hold new versions back. Security fixes go through.
    Hold {
        #[command(flatten)]
        devices: For,
        /// Hold security fixes back as well.
        #[arg(long)]
        security: bool,
    },
    /// Stay at one version: no other is offered.
    Pin {
        /// The version.
        version: Version,
        #[command(flatten)]
        devices: For,
    },
    /// Take everything the devices are entitled to, whatever a wider policy says.
    Follow {
        #[command(flatten)]
        devices: For,
    },
    /// List a customer's policies that are in force or to come.
    List {
        /// Whose.
        customer: Slug,
    },
    /// Lift a policy.
    Lift {
        /// Whose.
        customer: Slug,
        /// Its id, as listed.
        id: FactId,
    },
}

impl Command {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        match self {
            Self::Hold { devices, security } => devices.set(session, PolicyKind::Hold { security }),
            Self::Pin { version, devices } => devices.set(session, PolicyKind::Pin { version }),
            Self::Follow { devices } => devices.set(session, PolicyKind::Follow),
            Self::List { customer } => {
                let query = [("customer", Some(customer.to_string()))];
                let list: Vec<PolicyDetail> = session.client.get(&path(&["policies"]), &query)?;
                session.out.result(&list, |list| {
                    table(
                        &["ID", "WHAT", "FOR", "PRODUCT", "OWNER", "FROM", "UNTIL", "REASON"],
                        list.iter().map(|one| {
                            vec![
                                one.policy.id.to_string(),
                                what(&one.policy.kind),
                                whom(one),
                                or_dash(one.product.as_ref()),
                                one.policy.owner.to_string(),
                                when(one.policy.from_at),
                                when(one.policy.to_at),
                                one.policy.reason.clone(),
                            ]
                        }),
                    )
                })
            }
            Self::Lift { customer, id } => {
                let path = format!("{}?customer={customer}", path(&["policies", &id.to_string()]));
                session.client.delete(&path)?;
                session.out.result(&serde_json::json!({"lifted": id}), |_| format!("policy {id} is lifted"))
            }
        }
    }
}

impl For {
    fn set(self, session: &Session, kind: PolicyKind) -> Result<(), Failure> {
        let (scope, target) = match (&self.site, &self.group, &self.device) {
            (Some(site), ..) => (PolicyScope::Site, Some(site.to_string())),
            (_, Some(group), _) => (PolicyScope::Group, Some(group.to_string())),
            (.., Some(device)) => (PolicyScope::Device, Some(device.to_string())),
            _ => (PolicyScope::Customer, None),
        };
        let Self { customer, product, reason, from, until, .. } = self;
        let request = PolicyCreate { customer, scope, target, product, kind, reason, from, until };
        let answer = session.client.post::<PolicyDetail>(&path(&["policies"]), &request)?;
        session.out.result(&answer.value, |one| {
            made(answer.created, &format!("policy {}: {} for {}", one.policy.id, what(&one.policy.kind), whom(one)))
        })
    }
}

fn what(kind: &PolicyKind) -> String {
    match kind {
        PolicyKind::Hold { security: true } => "hold, security too".to_owned(),
        PolicyKind::Hold { security: false } => "hold".to_owned(),
        PolicyKind::Pin { version } => format!("pin {version}"),
        PolicyKind::Follow => "follow".to_owned(),
        PolicyKind::UpdateNow { version } => format!("update now to {version}"),
    }
}

fn whom(one: &PolicyDetail) -> String {
    match one.policy.scope {
        PolicyScope::Customer => one.customer.to_string(),
        scope => format!("{} {}", scope.as_str(), one.target),
    }
}
