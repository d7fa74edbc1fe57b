//! What would a change of contracts do? The change itself is made in a transaction, the devices that it touches are read through it and
//! beside it, and it is taken back. So what is foretold cannot differ from what is done. The same counts stop a change that would take
//! cover from many by mistake.

use std::collections::HashMap;
use std::time::Duration;

use sluice_catalog::decide::{self, DeviceView};
use sluice_catalog::id::DeviceId;
use sluice_catalog::principal::Permission;
use sluice_catalog::text::Slug;
use sluice_catalog::wire::entitlement::{ImportRequest, OnError, WhatIf};
use sluice_catalog::wire::fleet::{DeviceShift, FleetLine, ShiftSummary};
use sluice_catalog::{Kind, Time};

use super::fleet::shifted;
use super::{Actor, App};
use crate::error::{Error, Result};
use crate::poll::views::{self, MAX_ROWS};
use crate::store::{self, DeviceFilter, FactKind, On, Tx};

/// A transaction that is only tried stays open no longer: on SQLite every other change waits for it.
const MAX_OPEN: Duration = Duration::from_secs(5);
/// The same in milliseconds: what is read after a change is cut by it, and what it took to make the change counts.
const MAX_OPEN_MS: i64 = 5_000;
/// Devices whose change is told one by one; beyond it they are counted alone. Keeps an answer below 20 MB.
const MAX_TOLD: usize = 50_000;
/// A change that takes cover from more of the covered devices that it touches, percent, must be accepted expressly: a broken export of
/// the contract source must not switch off a fleet.
const LOSS_PERCENT: u64 = 10;
/// How far ahead it is looked for a loss: a contract cut to end next week takes nothing away today.
const LOSS_AHEAD_DAYS: i64 = 60;
/// Losses of fewer devices are a customer's everyday business.
const LOSS_DEVICES: u64 = 20;

impl App {
    /// Which devices would gain or lose versions and codes by a change, which is not made.
    pub async fn what_if(&self, actor: &Actor, change: &WhatIf) -> Result<Vec<FleetLine>> {
        actor.need(Permission::Contracts)?;
        let _slot = self.fleets.slot()?;
        let mut tx = self.store.begin().await?;
        let deadline = self.now().plus_ms(MAX_OPEN_MS);
        let trying = self.try_change(&mut tx, actor, change);
        let Ok(tried) = tokio::time::timeout(MAX_OPEN, trying).await else {
            let seconds = MAX_OPEN.as_secs();
            let detail = format!(
                "the change alone takes longer than {seconds} seconds; ask about a part of it, such as fewer rows"
            );
            return Err(Error::new(Kind::TooLarge, detail));
        };
        let at = tried?;
        let (shifts, mut summary) = self.shifts(&mut tx, at, deadline).await?;
        // Dropped without a commit: nothing of it was.
        drop(tx);
        summary.moves.sort();
        let lines = shifts.into_iter().map(FleetLine::Shift);
        Ok(lines.chain([FleetLine::Shifts(summary)]).collect())
    }

    /// Makes a change in a transaction; the moment that it stamped on what it touched.
    async fn try_change(&self, tx: &mut Tx, actor: &Actor, change: &WhatIf) -> Result<Time> {
        let now = self.now();
        match change {
            WhatIf::Import(request) => {
                let request = ImportRequest { dry_run: false, ..request.clone() };
                let answer = self.contract_import_in(tx, actor, &request, now).await?;
                if let (Some(first), OnError::Refuse) = (answer.errors.first(), request.on_error) {
                    return Err(Error::invalid(
                        "rows",
                        format!(
                            "{} are wrong; the first is line {}, {}: {}; a dry run lists them all",
                            answer.errors.len(),
                            first.line,
                            first.field,
                            first.message
                        ),
                    ));
                }
            }
            WhatIf::Plan { name, change } => drop(self.plan_change_in(tx, actor, name, change, now).await?),
            WhatIf::Contract { number, change } => {
                self.contract_change_in(tx, actor, number, change, now).await?;
            }
            WhatIf::Put { number, contract } => return Ok(self.contract_put_in(tx, actor, number, contract).await?.at),
            WhatIf::Window { number, id } => {
                self.contract_retract_in(tx, actor, number, (FactKind::Window, *id), now).await?;
            }
            WhatIf::Item { number, id } => {
                self.contract_retract_in(tx, actor, number, (FactKind::Item, *id), now).await?;
            }
        }
        Ok(now)
    }

    /// Refuses a change, made in a transaction that is still open, that takes cover from many devices, unless so many are accepted.
    /// `source` is the system that tells it; none of what people change here.
    pub(super) async fn refuse_loss(
        &self,
        tx: &mut Tx,
        now: Time,
        source: Option<&Slug>,
        accepted: Option<u64>,
    ) -> Result<()> {
        let _slot = self.fleets.guard().await?;
        let deadline = self.now().plus_ms(MAX_OPEN_MS);
        let (_, ShiftSummary { losses, losses_ahead, covered, cut, .. }) = self.shifts(tx, now, deadline).await?;
        let losses = losses + losses_ahead;
        let many = losses >= LOSS_DEVICES && losses.saturating_mul(100) > covered.saturating_mul(LOSS_PERCENT);
        // What was not counted is not known to be harmless.
        let many = many || cut;
        if accepted.is_some_and(|accepted| losses <= accepted) {
            return Ok(());
        }
        if !many {
            return refuse_losses_of_day(tx, source, now, losses).await;
        }
        let least = if cut { "at least " } else { "" };
        Err(Error::new(
            Kind::Conflict,
            format!(
                "this would take a version or a code, now or within {LOSS_AHEAD_DAYS} days, from {least}{losses} of the {covered} covered devices that it touches, which is \
                 more than {LOSS_PERCENT} %; ask what it does (what-if), and accept the loss of {losses} if it is meant (accept_loss, \
                 --accept-loss {losses})"
            ),
        ))
    }

    /// How the access of every device changes that a transaction, which is still open, has touched at this moment.
    async fn shifts(&self, tx: &mut Tx, now: Time, deadline: Time) -> Result<(Vec<DeviceShift>, ShiftSummary)> {
        let filter = DeviceFilter { changed_at: Some(now), ..DeviceFilter::default() };
        let (mut told, mut summary) = (Vec::new(), ShiftSummary::default());
        let mut after = None;
        loop {
            let rows = store::device_page(&mut On::from(&mut *tx), &filter, after, MAX_ROWS).await?;
            let full = rows.len() == MAX_ROWS as usize;
            after = rows.last().map(|row| row.device.id);
            let ids: Vec<DeviceId> = rows.iter().map(|row| row.device.id).collect();
            let mut then = views::of_rows(&mut On::from(&mut *tx), &self.live, rows).await?;
            // What nobody has committed yet is not seen from beside.
            let mut beside = On::from(&self.store);
            let rows = store::devices_of(&mut beside, &ids).await?;
            let mut before = views::of_rows(&mut beside, &self.live, rows).await?;
            // What will be is not asked as if no source were heard of until then.
            then.iter_mut().chain(&mut before).for_each(|view| views::judge_sources(&mut view.covers, now));
            let later = now.plus_days(LOSS_AHEAD_DAYS);
            let products = self.live.products_full();
            let compare = move || {
                let before: HashMap<DeviceId, &DeviceView> = before.iter().map(|view| (view.device.id, view)).collect();
                let of = |view: &DeviceView| {
                    let (product, old) = (products.get(view.device.product_id)?, before.get(&view.device.id)?);
                    let covered = !decide::codes_in_force(old, now).is_empty();
                    let shift = shifted((old, now), (view, now), product);
                    let lost = shift.as_ref().is_some_and(|shift| shift.loss);
                    let ahead = !lost
                        && decide::shift((old, later), (view, later), product).is_some_and(|shift| shift.is_loss());
                    Some((covered, ahead, shift))
                };
                then.iter().filter_map(of).collect::<Vec<_>>()
            };
            for (covered, ahead, shift) in tokio::task::spawn_blocking(compare).await.map_err(Error::internal)? {
                summary.count(covered, shift.as_ref());
                summary.losses_ahead += u64::from(ahead);
                told.extend(shift.filter(|_| told.len() < MAX_TOLD));
            }
            if !full {
                return Ok((told, summary));
            }
            if self.now() > deadline {
                summary.cut = true;
                return Ok((told, summary));
            }
        }
    }
}

/// Refuses the loss that is one too many of a day: many small changes are as bad as a large one. What was accepted expressly does not count.
async fn refuse_losses_of_day(tx: &mut Tx, source: Option<&Slug>, now: Time, losses: u64) -> Result<()> {
    if losses == 0 {
        return Ok(());
    }
    let name = source.map_or("", Slug::as_str);
    let day = tx.losses_add(name, now, losses).await?;
    if day < LOSS_DEVICES {
        return Ok(());
    }
    // No more are counted than decide.
    let enough = day.saturating_mul(100) / LOSS_PERCENT;
    let covered = tx.covered_devices(source, enough).await?.saturating_add(day);
    if day.saturating_mul(100) <= covered.saturating_mul(LOSS_PERCENT) {
        return Ok(());
    }
    let who = source.map_or_else(|| "changes made here".to_owned(), |source| format!("changes of source {source}"));
    Err(Error::new(
        Kind::Conflict,
        format!(
            "with this, {who} would take a version or a code from {day} devices today, which is more than {LOSS_PERCENT} % of those that \
             are covered so; accept the loss of {losses} if it is meant (accept_loss, --accept-loss {losses})"
        ),
    ))
}
