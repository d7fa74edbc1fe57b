//! A small world that random events change: contracts, releases, policies and four serials. It keeps everything twice: as facts with the
//! time in which they were held for true, as the server does, and plainly, as it is now.

mod events;
mod moves;
mod rollouts;
mod views;

pub(super) use events::Event;
use rollouts::Plan;
pub(super) use rollouts::{FILTERS, faster};
pub(super) use views::judged;

use super::*;
use crate::contract::{ContractState, Grant};
use crate::facts::{Known, PlanTerms};
use crate::id::FactId;
use crate::policy::{Policy, PolicyKind, PolicyScope};
use crate::release::ReleaseFact;
use crate::source::Heard;
use crate::swap::{Before, Interval};
use crate::time::DAY_MS;

pub(in crate::decide) const SERIALS: [&str; 4] = ["SN-0", "SN-1", "SN-2", "SN-3"];
const TRAINS: [(&str, i64); 3] = [("1.0", 0), ("2.0", 60), ("3.0", 150)];
const RULES: [CoverRule; 5] =
    [CoverRule::TrainGa, CoverRule::Live, CoverRule::ReleaseDate, CoverRule::Fallback(2), CoverRule::Open];
/// The contract that another system keeps.
const KEPT: usize = 2;
/// The contract that has a pool.
const POOLED: usize = 1;
/// Where every other serial stands.
const COUNTRY: &str = "NL";
/// Days after which that system is stale.
const STALE_DAYS: i64 = 7;
const KINDS: [ReleaseKind; 3] = [ReleaseKind::Security, ReleaseKind::Maintenance, ReleaseKind::Feature];

/// A contract, plainly: what holds now.
#[derive(Clone, Debug)]
struct Plain {
    active: bool,
    terms: PlanTerms,
    windows: Vec<Interval>,
    items: Vec<(usize, Interval)>,
}

/// A fact about a contract with its name.
type Fact<T> = (FactId, Known<T>);

/// A contract with all that was ever recorded.
#[derive(Clone, Debug)]
pub(in crate::decide) struct Book {
    pub states: Vec<Known<ContractState>>,
    pub terms: Vec<Known<PlanTerms>>,
    pub windows: Vec<Fact<Interval>>,
    pub items: Vec<Fact<(usize, Interval)>>,
    plain: Plain,
}

/// A swap, and what it did.
#[derive(Clone, Debug)]
struct Swapped {
    old: usize,
    new: usize,
    fence_at: Time,
    before: [Before; 2],
    superseded: Vec<(usize, FactId)>,
    recorded: Vec<(usize, FactId)>,
    policies: Vec<FactId>,
    undone: bool,
}

/// A device as it is.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::decide) struct Unit {
    pub device: Device,
    pub installed: Vec<Installed>,
    failed: Vec<(ReleaseId, u32)>,
    last_seen: Option<Time>,
    under_way: Option<RolloutId>,
}

/// Everything. Each serial has the row of what it was, as the server notes it.
#[derive(Clone, Debug, Default)]
pub(in crate::decide) struct World {
    pub now: i64,
    ids: u128,
    pub books: Vec<Book>,
    releases: Vec<ReleaseView>,
    said: Vec<(ReleaseId, Known<ReleaseFact>)>,
    pub units: Vec<Option<Unit>>,
    unit_rows: Vec<(Time, usize, Unit)>,
    rollouts: Vec<Rollout>,
    rollout_rows: Vec<(Time, Vec<Rollout>)>,
    policies: Vec<(Option<usize>, Known<Policy>)>,
    plain_policies: Vec<(Option<usize>, Policy)>,
    swaps: Vec<Swapped>,
    heard: Vec<Known<Heard>>,
    heard_at: i64,
    /// Places of the pool, and those items that are one.
    places: usize,
    placed: Vec<FactId>,
}

fn heard(at: i64) -> Heard {
    Heard { source: "crm".parse().unwrap(), at: day(at), stale_after_ms: Some(STALE_DAYS * DAY_MS), silence: None }
}

fn number(contract: usize) -> String {
    format!("C-{contract}")
}

pub(in crate::decide) fn terms(rule: CoverRule, codes: &[&str], grace_days: i32) -> PlanTerms {
    let grant = |code: &&str| Grant { code: code.parse().unwrap(), family: None, channel_ceiling: Channel::Stable };
    PlanTerms { plan: "plus".parse().unwrap(), rule, grace_days, grants: codes.iter().map(grant).collect() }
}

fn end<T>(known: &mut Known<T>, at: Time) {
    if known.superseded_at.is_none() {
        known.superseded_at = Some(at);
    }
}

impl World {
    pub(in crate::decide) fn new() -> Self {
        let mut world = Self { units: vec![None; SERIALS.len()], ..Self::default() };
        for _ in 0..3 {
            let first = terms(CoverRule::TrainGa, &["A"], 14);
            world.books.push(Book {
                states: vec![Known::new(ContractState::Active, day(0))],
                terms: vec![Known::new(first.clone(), day(0))],
                windows: vec![],
                items: vec![],
                plain: Plain { active: true, terms: first, windows: vec![], items: vec![] },
            });
        }
        world.heard.push(Known::new(heard(0), day(0)));
        world.publish(ReleaseKind::Feature, 0, &[], None, None, 1);
        world.note_rollouts();
        world.window_add(0, (day(0), day(100)));
        for serial in 0..2 {
            world.enrol(serial);
            world.item_add(0, (serial, (day(0), day(400))));
        }
        world
    }

    fn id(&mut self) -> FactId {
        self.ids += 1;
        FactId(uuid(self.ids))
    }

    fn at(&self) -> Time {
        day(self.now)
    }

    fn note(&mut self, serial: usize) {
        let at = self.at();
        if let Some(unit) = self.units[serial].clone() {
            self.unit_rows.push((at, serial, unit));
        }
    }

    fn note_rollouts(&mut self) {
        self.rollout_rows.push((self.at(), self.rollouts.clone()));
    }

    fn unit(serial: usize) -> Unit {
        let mut view = device(1, vec![]);
        view.device.serial = SERIALS[serial].parse().unwrap();
        view.device.id = DeviceId(uuid(100 + u128::try_from(serial).unwrap()));
        view.device.cohort_id = CohortId(uuid(100 + u128::try_from(serial).unwrap()));
        // Of some nothing is known: they were only entered.
        if serial >= 2 {
            view.device.confirmed_train = None;
            view.installed.clear();
        }
        Unit { device: view.device, installed: view.installed, failed: vec![], last_seen: None, under_way: None }
    }

    fn enrol(&mut self, serial: usize) {
        if self.units[serial].is_none() {
            self.units[serial] = Some(Self::unit(serial));
            self.note(serial);
        }
    }

    fn publish(
        &mut self,
        kind: ReleaseKind,
        train: usize,
        codes: &[&str],
        floor: Option<i64>,
        add_on: Option<&str>,
        epoch: i32,
    ) {
        let order = i64::try_from(self.releases.len()).unwrap() + 1;
        let mut made = release(Make { order, kind, train: TRAINS[train], requires: &[], floor, epoch });
        made.release.requires = codes.iter().copied().collect();
        made.release.published_at = self.at();
        if let Some(code) = add_on {
            made.artifacts.push(Artifact {
                component: "radio".parse().unwrap(),
                requires: [code].into_iter().filter(|code| !codes.contains(code)).collect(),
                sha256: digest(900 + order),
                ..made.artifacts[0].clone()
            });
        }
        self.releases.push(made);
    }

    fn window_add(&mut self, contract: usize, window: Interval) {
        let (id, at) = (self.id(), self.at());
        self.books[contract].windows.push((id, Known::new(window, at)));
        self.books[contract].plain.windows.push(window);
    }

    fn item_add(&mut self, contract: usize, item: (usize, Interval)) -> FactId {
        let (id, at) = (self.id(), self.at());
        self.books[contract].items.push((id, Known::new(item, at)));
        self.books[contract].plain.items.push(item);
        id
    }

    /// Fills the pool as the server does, by its own function.
    fn settle(&mut self) {
        let book = &self.books[POOLED];
        let quantity = if book.plain.active { self.places } else { 0 };
        let standing = |(_, item): &&Fact<(usize, Interval)>| item.superseded_at.is_none();
        let is_place = |(id, _): &&Fact<(usize, Interval)>| self.placed.contains(id);
        let serves = |serial: usize| {
            self.units[serial].as_ref().is_some_and(|unit| unit.device.fence_at.is_none_or(|fence| fence > self.at()))
        };
        let members: Vec<(FactId, bool)> = book
            .items
            .iter()
            .filter(standing)
            .filter(is_place)
            .filter(|(_, item)| item.fact.1.1 == Time::FOREVER)
            .map(|(id, item)| (*id, serves(item.fact.0)))
            .collect();
        let waits = |serial: &usize| {
            let active = self.units[*serial].as_ref().is_some_and(|unit| unit.device.state == DeviceState::Active);
            active && serves(*serial) && book.items.iter().filter(standing).all(|(_, item)| item.fact.0 != *serial)
        };
        let waiting: Vec<usize> = (0..SERIALS.len()).filter(waits).collect();
        let (leave, enter) = crate::pool::fill(quantity, &members, &waiting);
        for id in leave {
            self.item_end(POOLED, id);
        }
        for serial in enter {
            let id = self.item_add(POOLED, (serial, (Time::EPOCH, Time::FOREVER)));
            self.placed.push(id);
        }
    }

    /// What was recorded instead of a place is one.
    fn placed_as(&mut self, before: FactId, after: FactId) {
        if self.placed.contains(&before) {
            self.placed.push(after);
        }
    }

    fn item_end(&mut self, contract: usize, id: FactId) {
        let at = self.at();
        let book = &mut self.books[contract];
        let Some((_, item)) = book.items.iter_mut().find(|(of, item)| *of == id && item.superseded_at.is_none()) else {
            return;
        };
        end(item, at);
        let gone = item.fact;
        let place = book.plain.items.iter().position(|item| *item == gone).unwrap();
        book.plain.items.remove(place);
    }

    fn window_end(&mut self, contract: usize, id: FactId) {
        let at = self.at();
        let book = &mut self.books[contract];
        let Some((_, window)) =
            book.windows.iter_mut().find(|(of, window)| *of == id && window.superseded_at.is_none())
        else {
            return;
        };
        end(window, at);
        let gone = window.fact;
        let place = book.plain.windows.iter().position(|window| *window == gone).unwrap();
        book.plain.windows.remove(place);
    }

    /// As the server does it: the time in which a source is heard of goes on; after a silence another begins.
    fn hear(&mut self) {
        let at = self.at();
        let last = self.heard.last_mut().unwrap();
        if self.now < self.heard_at + STALE_DAYS {
            last.fact.at = at;
        } else {
            end(last, at);
            self.heard.push(Known::new(heard(self.now), at));
        }
        self.heard_at = self.now;
    }

    fn confirm(&mut self, serial: usize, release: usize) {
        let release = &self.releases[release];
        if let Some(unit) = &mut self.units[serial] {
            unit.installed = release
                .artifacts
                .iter()
                .map(|artifact| Installed {
                    component: artifact.component.clone(),
                    version: release.release.version.clone(),
                    sha256: artifact.sha256,
                    security_counter: 1,
                })
                .collect();
            unit.device.confirmed_train = Some(release.release.train.clone());
            unit.device.signing_epoch = unit.device.signing_epoch.max(release.release.signing_epoch);
            unit.device.attempt_seq += 1;
            (unit.under_way, unit.last_seen) = (None, Some(day(self.now)));
        }
        self.note(serial);
    }

    fn policy(&mut self, serial: Option<usize>, kind: PolicyKind, to_at: Time) -> FactId {
        let (id, at) = (self.id(), self.at());
        let scope = if serial.is_some() { PolicyScope::Device } else { PolicyScope::Customer };
        let owner = "it".parse().unwrap();
        let policy = Policy { id, scope, kind, owner, reason: String::new(), from_at: at, to_at, recorded_at: at };
        self.policies.push((serial, Known::new(policy.clone(), at)));
        self.plain_policies.push((serial, policy));
        id
    }

    fn lift(&mut self, id: FactId) {
        let at = self.at();
        self.policies.iter_mut().filter(|(_, policy)| policy.fact.id == id).for_each(|(_, policy)| end(policy, at));
        self.plain_policies.retain(|(_, policy)| policy.id != id);
    }
}
