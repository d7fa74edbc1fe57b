//! What may happen to a world.

use super::*;
use crate::release::Embargo;

/// What happens. Numbers are taken modulo what there is.
#[derive(Clone, Debug)]
pub(in crate::decide) enum Event {
    Window {
        contract: usize,
        from: i64,
        days: i64,
    },
    EndWindow {
        contract: usize,
        window: usize,
    },
    Item {
        contract: usize,
        serial: usize,
        from: i64,
        days: i64,
    },
    EndItem {
        contract: usize,
        item: usize,
    },
    Plan {
        contract: usize,
        rule: usize,
        codes: Vec<&'static str>,
        grace: i32,
    },
    Void {
        contract: usize,
    },
    Heard,
    Import {
        contract: usize,
        rows: Vec<(i64, i64, usize)>,
        turn: usize,
    },
    Publish {
        open: bool,
        kind: usize,
        train: usize,
        codes: Vec<&'static str>,
        floor: Option<usize>,
        add_on: Option<&'static str>,
        epoch: bool,
    },
    Withdraw {
        release: usize,
    },
    Embargo {
        release: usize,
        days: i64,
        early: bool,
    },
    Rollout {
        release: usize,
        percent: u8,
        weight: i32,
        filter: Option<usize>,
        ramp: u32,
        rate: u32,
    },
    Pause {
        rollout: usize,
    },
    Resume {
        rollout: usize,
    },
    Advance {
        rollout: usize,
    },
    Faster {
        rollout: usize,
    },
    Begin {
        serial: usize,
        rollout: usize,
    },
    Seen {
        serial: usize,
    },
    Place {
        serial: usize,
        tagged: bool,
        sited: bool,
    },
    Enrol {
        serial: usize,
    },
    Confirm {
        serial: usize,
        release: usize,
    },
    Fail {
        serial: usize,
        release: usize,
    },
    State {
        serial: usize,
        blocked: bool,
    },
    Hold {
        serial: Option<usize>,
        security: bool,
        days: i64,
    },
    Pin {
        serial: usize,
        release: usize,
    },
    Lift {
        policy: usize,
    },
    Swap {
        old: usize,
        new: usize,
        days: i64,
    },
    Undo {
        swap: usize,
    },
    UpdateNow {
        serial: usize,
        release: usize,
        days: i64,
        then: Option<bool>,
    },
    Block {
        release: usize,
        blocked: bool,
    },
    Pool {
        quantity: usize,
    },
}

impl World {
    fn say(&mut self, release: ReleaseId, fact: ReleaseFact) {
        let at = self.at();
        let before = self.said.iter_mut().filter(|(of, known)| *of == release && known.fact.kind() == fact.kind());
        before.for_each(|(_, known)| end(known, at));
        self.said.push((release, Known::new(fact, at)));
    }

    /// Something happens, a while after what happened before.
    pub(in crate::decide) fn apply(&mut self, after: i64, event: &Event) {
        self.now += after;
        let at = self.at();
        let releases = self.releases.len();
        match *event {
            Event::Window { contract, from, days } => self.window_add(contract % 3, (day(from), day(from + days))),
            Event::EndWindow { contract, window } => {
                let windows = &self.books[contract % 3].windows;
                if let Some(id) = windows.get(window % windows.len().max(1)).map(|(id, _)| *id) {
                    self.window_end(contract % 3, id);
                }
            }
            Event::Item { contract, serial, from, days } => {
                self.item_add(contract % 3, (serial, (day(from), day(from + days))));
            }
            Event::EndItem { contract, item } => {
                let items = &self.books[contract % 3].items;
                if let Some(id) = items.get(item % items.len().max(1)).map(|(id, _)| *id) {
                    self.item_end(contract % 3, id);
                }
            }
            Event::Plan { contract, rule, ref codes, grace } => {
                let book = &mut self.books[contract % 3];
                book.plain.terms = terms(RULES[rule % RULES.len()], codes, grace);
                book.terms.iter_mut().for_each(|terms| end(terms, at));
                book.terms.push(Known::new(book.plain.terms.clone(), at));
            }
            Event::Void { contract } => {
                let book = &mut self.books[contract % 3];
                book.plain.active = !book.plain.active;
                let state = if book.plain.active { ContractState::Active } else { ContractState::Void };
                book.states.iter_mut().for_each(|state| end(state, at));
                book.states.push(Known::new(state, at));
            }
            Event::Heard => self.hear(),
            Event::Import { contract, ref rows, turn } => self.import(contract % 3, rows, turn),
            Event::Publish { open, kind, train, ref codes, floor, add_on, epoch } => {
                let floor = floor.map(|back| i64::try_from(releases - back % releases.min(3)).unwrap());
                let newest = self.releases.last().map_or(1, |last| last.release.signing_epoch);
                let epoch = (newest + i32::from(epoch)).min(3);
                self.publish(KINDS[kind % 3], train % 3, codes, floor, add_on, epoch);
                let order = i64::try_from(self.releases.len()).unwrap();
                if open {
                    self.rollout(order, 100, 0, Plan::default());
                }
            }
            Event::Withdraw { release } => {
                self.releases[release % releases].release.withdrawn_at.get_or_insert(at);
            }
            Event::Embargo { release, days, early } => {
                let codes = if early { ["E"].into_iter().collect() } else { TextSet::default() };
                let embargo = Embargo { codes, until: at.plus_days(days) };
                let release = &mut self.releases[release % releases];
                let id = release.release.id;
                release.embargo = Some(embargo.clone());
                self.say(id, ReleaseFact::Embargo(embargo));
            }
            Event::Rollout { release, percent, weight, filter, ramp, rate } => {
                let order = i64::try_from(release % releases).unwrap() + 1;
                self.rollout(order, percent, weight, Plan { filter, ramp, rate });
            }
            Event::Pause { rollout } => self.change(rollout, |rollout| match rollout.state {
                RolloutState::Running => rollout.moved(RolloutState::Paused, rollout.stage, at),
                _ => rollout.clone(),
            }),
            Event::Resume { rollout } => self.change(rollout, |rollout| match rollout.state {
                RolloutState::Paused => rollout.moved(RolloutState::Running, rollout.stage, at),
                _ => rollout.clone(),
            }),
            Event::Advance { rollout } => self.change(rollout, |rollout| match rollout.state {
                RolloutState::Running if rollout.stage < rollout.stages.last() => {
                    rollout.moved(RolloutState::Running, rollout.stage + 1, at)
                }
                RolloutState::Running => rollout.moved(RolloutState::Done, rollout.stage, at),
                _ => rollout.clone(),
            }),
            Event::Faster { rollout } => self.change(rollout, faster),
            Event::Begin { serial, rollout } => {
                let count = self.rollouts.len().max(1);
                let begun = self.rollouts.get(rollout % count).map(|rollout| rollout.id);
                if let Some(unit) = &mut self.units[serial] {
                    unit.under_way = begun;
                }
                self.note(serial);
            }
            Event::Seen { serial } => {
                if let Some(unit) = &mut self.units[serial] {
                    unit.last_seen = Some(at);
                }
                self.note(serial);
            }
            Event::Place { serial, tagged, sited } => {
                if let Some(unit) = &mut self.units[serial] {
                    unit.device.tags = if tagged { ["a"].into_iter().collect() } else { TextSet::default() };
                    unit.device.site = sited.then(|| "hall".parse().unwrap());
                }
                self.note(serial);
            }
            Event::Enrol { serial } => self.enrol(serial),
            Event::Confirm { serial, release } => self.confirm(serial, release % releases),
            Event::Fail { serial, release } => {
                let id = self.releases[release % releases].release.id;
                if let Some(unit) = &mut self.units[serial] {
                    match unit.failed.iter_mut().find(|(of, _)| *of == id) {
                        Some((_, count)) => *count += 1,
                        None => unit.failed.push((id, 1)),
                    }
                    (unit.under_way, unit.last_seen) = (None, Some(at));
                    unit.device.attempt_seq += 1;
                }
                self.note(serial);
            }
            Event::State { serial, blocked } => {
                if let Some(unit) = &mut self.units[serial] {
                    unit.device.state = if blocked { DeviceState::Blocked } else { DeviceState::Active };
                }
                self.note(serial);
            }
            Event::Hold { serial, security, days } => {
                self.policy(serial, PolicyKind::Hold { security }, at.plus_days(days));
            }
            Event::Pin { serial, release } => {
                let version = self.releases[release % releases].release.version.clone();
                self.policy(Some(serial), PolicyKind::Pin { version }, Time::FOREVER);
            }
            Event::Lift { policy } => {
                let count = self.policies.len().max(1);
                if let Some(id) = self.policies.get(policy % count).map(|(_, policy)| policy.fact.id) {
                    self.lift(id);
                }
            }
            Event::Swap { old, new, days } => {
                self.swap(old, new, days);
            }
            Event::Undo { swap } => {
                let count = self.swaps.len().max(1);
                self.undo(swap % count);
            }
            Event::UpdateNow { serial, release, days, then } => {
                let version = self.releases[release % releases].release.version.clone();
                self.policy(Some(serial), PolicyKind::UpdateNow { version }, at.plus_days(days));
                if let Some(security) = then {
                    self.policy(Some(serial), PolicyKind::Hold { security }, at.plus_days(days));
                }
            }
            Event::Block { release, blocked } => {
                let countries: TextSet = if blocked { [COUNTRY].into_iter().collect() } else { TextSet::default() };
                let release = &mut self.releases[release % releases];
                release.blocked_countries = countries.clone();
                let id = release.release.id;
                self.say(id, ReleaseFact::Blocked { countries });
            }
            Event::Pool { quantity } => self.places = quantity,
        }
        self.settle();
    }
}
