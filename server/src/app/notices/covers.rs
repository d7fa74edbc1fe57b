//! Cover that ends or was gained: planned for a contract from all that was ever recorded of it, and held against what stands when it
//! is written.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use jiff::tz::TimeZone;
use sluice_catalog::Time;
use sluice_catalog::cover::{CoverRule, Windows};
use sluice_catalog::facts::PlanTerms;
use sluice_catalog::id::ContractId;
use sluice_catalog::notice::{self, DAYS_BEFORE, Ending, Moment, Notice};
use sluice_catalog::source::SourceView;
use sluice_catalog::wire::event::{CoverGained, CoverNotice, DeviceName, EventData, MAX_NAMED};

use super::{AT_ONCE, Look, PAGE};
use crate::app::App;
use crate::error::Result;
use crate::store::{ContractStory, NewEvent, NoticeItem, Tx};

/// A contract's event, with the end that it rests on.
type PlannedEvent = (ContractId, Option<(Time, Option<DeviceName>)>, NewEvent);
type Planned = Vec<PlannedEvent>;

/// Moments of one ending that are not told yet, and the serials that lose cover then; `None` when that is the whole contract.
struct Group {
    ending: Ending,
    serials: Option<Vec<DeviceName>>,
}

impl App {
    pub(super) async fn cover_notices(&self, look: Look) -> Result<u64> {
        let (mut after, mut written) = (None, 0);
        loop {
            let page = self.store.notice_contracts(look.from, look.now, after, PAGE).await?;
            let (count, last) = (page.len(), page.last().copied());
            let mut planned: Planned = Vec::new();
            for id in page {
                if let Some(story) = self.store.contract_story(id).await? {
                    self.plan_contract(&story, look, &mut planned).await?;
                }
            }
            written += self.write_covers(&planned, look).await?;
            if count < PAGE as usize || last.is_none() {
                return Ok(written);
            }
            after = last;
        }
    }

    /// Writes what still holds, in short transactions: a renewal may have come in since it was planned.
    async fn write_covers(&self, planned: &[PlannedEvent], look: Look) -> Result<u64> {
        let mut written = 0;
        for page in planned.chunks(AT_ONCE) {
            written += self.write_page(page, look).await?;
        }
        Ok(written)
    }

    async fn write_page(&self, planned: &[PlannedEvent], look: Look) -> Result<u64> {
        let mut tx = self.store.begin().await?;
        let mut standing: BTreeMap<ContractId, Windows> = BTreeMap::new();
        let mut events = Vec::new();
        for (contract, rests_on, event) in planned {
            if let Some((end, device)) = rests_on {
                let windows = match standing.entry(*contract) {
                    Entry::Occupied(there) => there.into_mut(),
                    Entry::Vacant(missing) => {
                        let windows = tx.window_list(*contract).await?;
                        let spans = windows.iter().map(|window| (window.from_at, window.to_at)).collect();
                        missing.insert(Windows::new(spans))
                    }
                };
                let ends = windows.iter().any(|(_, to)| to == *end);
                if !ends && !cut_at(&mut tx, *contract, device.as_ref(), *end).await? {
                    continue;
                }
            }
            events.push(event.clone());
        }
        self.write(tx, &events, look.now).await
    }

    async fn plan_contract(&self, story: &ContractStory, look: Look, planned: &mut Planned) -> Result<()> {
        let facts = &story.facts;
        let Some(terms) = facts.terms.iter().rfind(|terms| terms.at(look.now)).map(|terms| &terms.fact) else {
            return Ok(());
        };
        let zone = story.zone.as_deref().and_then(|name| TimeZone::get(name).ok()).unwrap_or(TimeZone::UTC);
        self.plan_gains(story, terms, &zone, look, planned).await?;
        // A contract that counts no more has no cover to end, and one without dates has no end.
        if terms.rule == CoverRule::Open || notice::whole(facts, look.now).is_empty() {
            return Ok(());
        }
        for Group { ending, serials } in self.groups(story, terms, look).await? {
            let subject = match serials.as_deref() {
                Some([only]) => format!("device:{}/{}", only.product, only.serial),
                _ => format!("contract:{}", facts.number),
            };
            // Those of one day are told of once, however many they are by then.
            let whole = serials.is_none();
            let of = |moment: Moment| (key(story, moment, ending.end, whole), moment);
            let all = DAYS_BEFORE.map(Moment::Before).into_iter().chain([Moment::End, Moment::GraceEnd]);
            let keys: Vec<(String, Moment)> = all.map(of).collect();
            let asked: Vec<String> = keys.iter().map(|(key, _)| key.clone()).collect();
            let there: BTreeSet<String> = self.store.outbox_there(&asked).await?.into_iter().collect();
            let told = |moment, _| keys.iter().any(|(key, of)| *of == moment && there.contains(key));
            let due = notice::notices(&[ending], terms.grace_days, &zone, (look.floor, look.now), told);
            if due.is_empty() {
                continue;
            }
            let (devices, named) = match &serials {
                Some(serials) => (count(serials.len()), first(serials)),
                None => self.store.notice_devices(story.id, ending.end).await?,
            };
            let only = serials.as_deref().and_then(|serials| serials.first()).cloned();
            for notice in due {
                let told = cover_notice(look.now, story, terms, &zone, notice, (devices, named.clone()));
                let event = NewEvent {
                    key: key(story, notice.moment, ending.end, whole),
                    subject: subject.clone(),
                    customer_id: Some(story.customer_id),
                    at: notice.at,
                    data: told,
                };
                // Before the event itself: they may be written apart, and it is what tells that they were.
                if matches!(notice.moment, Moment::End | Moment::GraceEnd) {
                    for denied in self.denials_at(story.id, ending.end, notice.at, look).await? {
                        planned.push((story.id, Some((ending.end, only.clone())), denied));
                    }
                }
                planned.push((story.id, Some((ending.end, only.clone())), event));
            }
        }
        Ok(())
    }

    /// The endings of a contract: those of its windows, and those of items with dates of their own, by the day on which they end.
    async fn groups(&self, story: &ContractStory, terms: &PlanTerms, look: Look) -> Result<Vec<Group>> {
        let windows = &story.facts.windows;
        let mut groups: Vec<Group> = notice::endings(windows, &[notice::always()], look.now)
            .into_iter()
            .map(|ending| Group { ending, serials: None })
            .collect();
        let horizon = i64::from(DAYS_BEFORE.into_iter().max().unwrap_or(0)) + 1;
        let from = look.from.plus_days(-i64::from(terms.grace_days) - 1);
        let items = self.store.notice_items(story.id, from, look.now.plus_days(horizon)).await?;
        let mut own: BTreeMap<Time, (Ending, Vec<DeviceName>)> = BTreeMap::new();
        for (device, items) in by_device(&items) {
            let known: Vec<_> = items.iter().map(|item| item.known()).collect();
            for ending in notice::endings(windows, &known, look.now) {
                if !groups.iter().any(|group| group.ending.end == ending.end) {
                    own.entry(ending.end).or_insert_with(|| (ending, Vec::new())).1.push(device.clone());
                }
            }
        }
        groups.extend(own.into_values().map(|(ending, serials)| Group { ending, serials: Some(serials) }));
        Ok(groups)
    }

    /// What the contract covers since a moment at which something was recorded, and did not cover before it.
    async fn plan_gains(
        &self,
        story: &ContractStory,
        terms: &PlanTerms,
        zone: &TimeZone,
        look: Look,
        planned: &mut Planned,
    ) -> Result<()> {
        let facts = &story.facts;
        let items = self.store.notice_new_items(story.id, look.from).await?;
        let moments: BTreeSet<Time> = (facts.windows.iter().map(|window| window.recorded_at))
            .chain(facts.states.iter().map(|state| state.recorded_at))
            .chain(items.iter().map(|item| item.recorded_at))
            .filter(|at| *at >= look.from)
            .collect();
        for at in moments {
            let (before, after) = (notice::whole(facts, at.plus_ms(-1)), notice::whole(facts, at));
            let gained = match notice::gained(&before, &after) {
                Some((from, until)) => {
                    let (devices, named) = self.store.notice_devices(story.id, until).await?;
                    Some((from, until, devices, named))
                }
                None => {
                    let new = items.iter().filter(|item| item.recorded_at == at);
                    let names: BTreeSet<DeviceName> = new.map(NoticeItem::name).collect();
                    let names: Vec<DeviceName> = names.into_iter().collect();
                    let run = after.iter().next_back().filter(|_| !names.is_empty());
                    run.map(|(from, until)| (from, until, count(names.len()), first(&names)))
                }
            };
            let Some((from, until, devices, named)) = gained else { continue };
            let told = CoverGained {
                contract: facts.number.clone(),
                plan: terms.plan.clone(),
                from,
                until,
                last_day: until.plus_ms(-1).date_in(zone),
                zone: zone_name(story),
                devices,
                named,
            };
            let subject = format!("contract:{}", facts.number);
            let event = NewEvent::new(subject, at.as_ms(), Some(story.customer_id), at, EventData::CoverGained(told));
            planned.push((story.id, None, event));
        }
        Ok(())
    }
}

/// Whether an item of the device still ends cover at a moment; of several devices, whether the first one's does.
async fn cut_at(tx: &mut Tx, contract: ContractId, device: Option<&DeviceName>, end: Time) -> Result<bool> {
    let Some(DeviceName { product, serial }) = device else { return Ok(false) };
    let items = tx.serial_items(product, serial).await?;
    let of = |item: &&crate::store::ItemRow| item.contract_id == contract;
    Ok(items.iter().filter(of).any(|item| item.to_at == end)
        && !items.iter().filter(of).any(|item| item.from_at <= end && end < item.to_at))
}

fn kind_of(moment: Moment) -> (&'static str, u8) {
    match moment {
        Moment::Before(days) => ("cover_ends", days),
        Moment::End => ("cover_ended", 0),
        Moment::GraceEnd => ("grace_ended", 0),
    }
}

/// What makes an ending's moment one of its own: a device may be covered by several contracts that end on one day. Devices with dates of
/// their own share one, because more of them may come to a day of which was told already.
fn key(story: &ContractStory, moment: Moment, end: Time, whole: bool) -> String {
    let (kind, days) = kind_of(moment);
    let about = if whole { "contract" } else { "devices" };
    format!("{kind}|{about}:{}|{days}|{}", story.facts.number, end.as_ms())
}

fn cover_notice(
    now: Time,
    story: &ContractStory,
    terms: &PlanTerms,
    zone: &TimeZone,
    notice: Notice,
    (devices, named): (u64, Vec<DeviceName>),
) -> EventData {
    let Notice { moment, ending, .. } = notice;
    let grace = ending.end.plus_days(i64::from(terms.grace_days));
    let told = CoverNotice {
        contract: story.facts.number.clone(),
        plan: terms.plan.clone(),
        days: kind_of(moment).1,
        ends_at: ending.end,
        last_day: ending.end.plus_ms(-1).date_in(zone),
        zone: zone_name(story),
        grace_until: (terms.grace_days > 0).then_some(grace),
        counts_until: counts_until(story, terms, &ending, now).filter(|_| !matches!(moment, Moment::Before(_))),
        again_from: ending.again_from,
        devices,
        named,
    };
    match moment {
        Moment::Before(_) => EventData::CoverEnds(told),
        Moment::End => EventData::CoverEnded(told),
        Moment::GraceEnd => EventData::GraceEnded(told),
    }
}

/// Until when cover that ended counts on, because its source was silent.
fn counts_until(story: &ContractStory, terms: &PlanTerms, ending: &Ending, now: Time) -> Option<Time> {
    let heard = story.facts.sources.last().map(|source| source.fact.clone())?;
    let stale = SourceView { heard, judged_at: None }.stale_at(now)?;
    let open_until = ending.end.plus_days(i64::from(terms.grace_days));
    (ending.from <= stale.heard_at && stale.heard_at < open_until && now < stale.counts_until)
        .then_some(stale.counts_until)
}

fn zone_name(story: &ContractStory) -> String {
    story.zone.clone().unwrap_or_else(|| "UTC".to_owned())
}

/// Items by device; they come in the order of devices.
fn by_device(items: &[NoticeItem]) -> Vec<(DeviceName, Vec<&NoticeItem>)> {
    let mut devices: Vec<(DeviceName, Vec<&NoticeItem>)> = Vec::new();
    for item in items {
        match devices.last_mut() {
            Some((name, of)) if name.product == item.product && name.serial == item.serial => of.push(item),
            _ => devices.push((item.name(), vec![item])),
        }
    }
    devices
}

fn first(names: &[DeviceName]) -> Vec<DeviceName> {
    names.iter().take(MAX_NAMED as usize).cloned().collect()
}

fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
