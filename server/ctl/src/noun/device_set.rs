//! Where a device stands, its labels and its address.

use clap::Args;
use sluice_catalog::Mac;
use sluice_catalog::device::Device;
use sluice_catalog::text::Slug;
use sluice_catalog::wire::admin::DevicePatch;
use sluice_catalog::wire::change::Change;

use crate::cli::Session;
use crate::failure::Failure;
use crate::noun::device::Name;
use crate::output::{fields, joined, or_dash};

/// What is changed of a device.
#[derive(Args)]
pub struct DeviceSet {
    #[command(flatten)]
    name: Name,
    /// Where it stands.
    #[arg(long, conflicts_with = "no_site")]
    site: Option<Slug>,
    /// It stands at no site.
    #[arg(long)]
    no_site: bool,
    /// A free label, in place of all that it has; may be repeated.
    #[arg(long = "tag", conflicts_with = "no_tags")]
    tags: Vec<Slug>,
    /// It has no labels.
    #[arg(long)]
    no_tags: bool,
    /// The address of its network interface.
    #[arg(long, conflicts_with = "no_mac")]
    mac: Option<Mac>,
    /// Its address is not known.
    #[arg(long)]
    no_mac: bool,
}

impl DeviceSet {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        let request = DevicePatch {
            site: if self.no_site || self.site.is_some() { Change::To(self.site) } else { Change::Keep },
            tags: (self.no_tags || !self.tags.is_empty()).then(|| self.tags.into_iter().collect()),
            mac: if self.no_mac || self.mac.is_some() { Change::To(self.mac) } else { Change::Keep },
        };
        if request == DevicePatch::default() {
            return Err(Failure::Usage(
                "say what changes: --site, --tag, --mac, or --no-site, --no-tags, --no-mac".into(),
            ));
        }
        let device: Device = session.client.patch(&self.name.path(&[]), &request)?.value;
        session.out.result(&device, |device| {
            let (site, mac) = (or_dash(device.site.as_ref()), or_dash(device.mac.as_ref()));
            let pairs = [("site", site), ("tags", joined(device.tags.iter())), ("mac", mac)];
            fields(&[&[("device", format!("{}/{}", self.name.product, device.serial))], &pairs[..]].concat())
        })
    }
}
