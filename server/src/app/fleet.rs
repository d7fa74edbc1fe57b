//! Why does each device of a fleet get, or not get, a version, and what becomes of its access as time goes by? The answer is a stream:
//! pages are read, decided and sent one after the other, and no more than a few are in memory, however large the fleet.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::SinkExt as _;
use futures::channel::mpsc;
use sluice_catalog::decide::{self, DeviceView, ProductView};
use sluice_catalog::principal::Permission;
use sluice_catalog::text::{ProductName, Version};
use sluice_catalog::wire::fleet::{DeviceShift, FleetDevice, FleetLine, FleetSummary, ShiftSummary};
use sluice_catalog::{Kind, Problem, Time};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Actor, App};
use crate::error::{Error, Result};
use crate::poll::views::{self, MAX_ROWS};
use crate::store::{self, DeviceFilter, On};

/// Pages that wait for a client that reads slowly: it holds so many, and its connection, and no database.
const PAGES_AHEAD: usize = 2;
/// Answers about a fleet that run at once on one server: each takes a core and a database connection, and devices poll meanwhile.
pub const FLEETS_AT_ONCE: usize = 4;
/// Changes that are held at once against what they would take: each keeps a transaction open and takes two database connections.
const GUARDS_AT_ONCE: usize = 2;
/// A change waits no longer for its turn to be looked at: it keeps its transaction open meanwhile.
const MAX_GUARD_WAIT: Duration = Duration::from_secs(5);

/// Pages of lines. Dropping it ends the work.
pub type Lines = mpsc::Receiver<Vec<FleetLine>>;

/// How many answers about a fleet run, and how many changes are held against what they would take.
#[derive(Debug)]
pub struct Fleets {
    answers: Arc<Semaphore>,
    guards: Arc<Semaphore>,
}

impl Default for Fleets {
    fn default() -> Self {
        Self { answers: Arc::new(Semaphore::new(FLEETS_AT_ONCE)), guards: Arc::new(Semaphore::new(GUARDS_AT_ONCE)) }
    }
}

impl Fleets {
    /// Leave for one more, until it is dropped.
    pub(super) fn slot(&self) -> Result<OwnedSemaphorePermit> {
        Arc::clone(&self.answers).try_acquire_owned().map_err(|_| {
            let detail = format!("{FLEETS_AT_ONCE} answers about a whole fleet run already; try again later");
            Error::new(Kind::Unavailable, detail)
        })
    }

    /// Leave for a change to be held against what it would take. Those before it take seconds, so it waits for them; answers to
    /// administrators, which take minutes, keep no change waiting.
    pub(super) async fn guard(&self) -> Result<OwnedSemaphorePermit> {
        match tokio::time::timeout(MAX_GUARD_WAIT, Arc::clone(&self.guards).acquire_owned()).await {
            Ok(Ok(slot)) => Ok(slot),
            _ => {
                let detail =
                    format!("{GUARDS_AT_ONCE} changes that may take cover are looked at already; try again later");
                Err(Error::new(Kind::Unavailable, detail))
            }
        }
    }
}

/// What is asked about each device, with what is counted on the way.
enum Asked {
    Why { version: Option<Version>, summary: FleetSummary },
    Shift { from: Time, to: Time, summary: ShiftSummary },
}

impl App {
    /// What is decided for each device of a product, now or at a moment to come; about one version only, when one is named.
    pub fn fleet_why(
        self: &Arc<Self>,
        actor: &Actor,
        product: &ProductName,
        version: Option<Version>,
        at: Option<Time>,
        filter: DeviceFilter,
    ) -> Result<Lines> {
        actor.need(Permission::Read)?;
        let view = self.product_view(product)?;
        if let Some(version) = &version
            && view.release_of_version(version).is_none()
        {
            return Err(Error::not_found("version", format!("{product} {version}")));
        }
        let at = self.not_past("at", at)?;
        let summary = FleetSummary {
            product: product.clone(),
            version: version.clone(),
            at,
            devices: 0,
            pass: 0,
            reasons: BTreeMap::new(),
        };
        self.walk(view, filter, Asked::Why { version, summary })
    }

    /// Which devices of a product lose or gain versions between two moments, now or to come, by what is known now.
    pub fn fleet_forecast(
        self: &Arc<Self>,
        actor: &Actor,
        product: &ProductName,
        from: Option<Time>,
        to: Time,
        filter: DeviceFilter,
    ) -> Result<Lines> {
        actor.need(Permission::Read)?;
        let view = self.product_view(product)?;
        let from = self.not_past("from", from)?;
        if to <= from {
            return Err(Error::invalid("to", format!("{to} is not after {from}")));
        }
        self.walk(view, filter, Asked::Shift { from, to, summary: ShiftSummary::default() })
    }

    /// A moment that is not past; now, when none is given. What a device was like before is told of one device at a time.
    fn not_past(&self, field: &str, moment: Option<Time>) -> Result<Time> {
        let now = self.now();
        match moment {
            Some(moment) if moment < now => {
                Err(Error::invalid(field, format!("{moment} is past: `why` about one device tells what was then")))
            }
            moment => Ok(moment.unwrap_or(now)),
        }
    }

    fn walk(self: &Arc<Self>, product: Arc<ProductView>, filter: DeviceFilter, asked: Asked) -> Result<Lines> {
        let slot = self.fleets.slot()?;
        let filter = DeviceFilter { product: Some(product.product.id), ..filter };
        let (mut sender, receiver) = mpsc::channel(PAGES_AHEAD);
        let app = Arc::clone(self);
        self.runtime.spawn(async move {
            let _slot = slot;
            if let Err(error) = app.pages(product, &filter, asked, &mut sender).await {
                let id = hex::encode(app.dice.bytes::<8>());
                tracing::error!(%id, cause = ?error.cause, "an answer about a fleet {id} failed: {}", error.detail);
                let _ = sender.send(vec![FleetLine::Problem(Problem::new(error.kind, error.detail, id))]).await;
            }
        });
        Ok(receiver)
    }

    async fn pages(
        &self,
        product: Arc<ProductView>,
        filter: &DeviceFilter,
        mut asked: Asked,
        sender: &mut mpsc::Sender<Vec<FleetLine>>,
    ) -> Result<()> {
        let mut after = None;
        loop {
            let mut on = On::from(&self.store);
            let rows = store::device_page(&mut on, filter, after, MAX_ROWS).await?;
            let full = rows.len() == MAX_ROWS as usize;
            after = rows.last().map(|row| row.device.id);
            let mut devices = views::of_rows(&mut on, &self.live, rows).await?;
            for device in &mut devices {
                views::judge_sources(&mut device.covers, self.now());
            }
            let product = Arc::clone(&product);
            // Deciding is work for a core and not for the runtime of the database.
            let (lines, went_on) = tokio::task::spawn_blocking(move || {
                let lines = asked.page(&devices, &product);
                (lines, asked)
            })
            .await
            .map_err(Error::internal)?;
            asked = went_on;
            // Whoever asked has gone.
            let gone = !lines.is_empty() && sender.send(lines).await.is_err();
            if gone || sender.is_closed() {
                return Ok(());
            }
            if !full {
                break;
            }
        }
        let _ = sender.send(vec![asked.end()]).await;
        Ok(())
    }
}

impl Asked {
    fn page(&mut self, devices: &[DeviceView], product: &ProductView) -> Vec<FleetLine> {
        match self {
            Self::Why { version, summary } => {
                let tell = |device: &DeviceView| {
                    let told = decided(device, product, version.as_ref(), summary.at);
                    summary.devices += 1;
                    summary.pass += u64::from(told.pass);
                    *summary.reasons.entry(told.reason.code().to_owned()).or_default() += 1;
                    FleetLine::Device(told)
                };
                devices.iter().map(tell).collect()
            }
            Self::Shift { from, to, summary } => {
                let tell = |device: &DeviceView| {
                    let told = shifted((device, *from), (device, *to), product);
                    summary.count(!decide::codes_in_force(device, *from).is_empty(), told.as_ref());
                    told.map(FleetLine::Shift)
                };
                devices.iter().filter_map(tell).collect()
            }
        }
    }

    fn end(self) -> FleetLine {
        match self {
            Self::Why { summary, .. } => FleetLine::Summary(summary),
            Self::Shift { mut summary, .. } => {
                summary.moves.sort();
                FleetLine::Shifts(summary)
            }
        }
    }
}

fn decided(device: &DeviceView, product: &ProductView, version: Option<&Version>, at: Time) -> FleetDevice {
    let only = version.and_then(|version| product.release_of_version(version));
    let ask = |at| decide::outcome(device, product, only, at);
    let said = ask(at);
    FleetDevice {
        serial: device.device.serial.clone(),
        customer: device.customer.clone(),
        site: device.device.site.clone(),
        hw_id: device.device.hw_id.clone(),
        state: device.device.state_at(at),
        runs: device.installed.first().map(|installed| installed.version.clone()),
        pass: said.offered,
        reason: said.reason,
        version: said.about.map(|about| about.release.version.clone()),
        newest_entitled: decide::newest_entitled(device, product, at).map(|newest| newest.release.version.clone()),
        changes_at: decide::next_change(device, product, at, Time::FOREVER, ask),
    }
}

/// How a device's access changes, to be told.
pub(super) fn shifted(
    before: (&DeviceView, Time),
    after: (&DeviceView, Time),
    product: &ProductView,
) -> Option<DeviceShift> {
    let shift = decide::shift(before, after, product)?;
    let device = before.0;
    Some(DeviceShift {
        product: product.product.name.clone(),
        serial: device.device.serial.clone(),
        customer: device.customer.clone(),
        loss: shift.is_loss(),
        before: shift.before,
        after: shift.after,
        codes_lost: shift.lost.into_iter().collect(),
        codes_gained: shift.gained.into_iter().collect(),
    })
}
