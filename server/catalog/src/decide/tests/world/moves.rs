//! What moves cover as a whole: imports from a sales system, swaps, and undoing them.

use std::collections::BTreeSet;

use super::*;
use crate::contract::WindowKind;
use crate::facts::replace;
use crate::import::{ImportRow, KnownNames, read};
use crate::swap::{Item, Replaced, carry, exchange, through};

impl World {
    /// As an import does: rows in any order come to the same wish, which replaces what is there.
    pub(super) fn import(&mut self, contract: usize, rows: &[(i64, i64, usize)], turn: usize) {
        let date = |at: i64| Some(day(4_000 + at).to_string());
        let row = |(line, &(from, days, serial)): (u64, &(i64, i64, usize))| ImportRow {
            line,
            contract: number(contract),
            customer: "it".to_owned(),
            plan: "plus".to_owned(),
            from: date(from),
            to: date(from + days),
            product: Some("cam".to_owned()),
            serial: Some(SERIALS[serial].to_owned()),
            ..ImportRow::default()
        };
        let mut rows: Vec<ImportRow> = (0..).zip(rows).map(row).collect();
        let names = |name: &str| BTreeSet::from([name.to_owned()]);
        let known = KnownNames {
            customers: names("it"),
            plans: names("plus"),
            products: names("cam"),
            ..KnownNames::default()
        };
        let wanted = read(&rows, &known);
        assert!(wanted.errors.is_empty(), "{:?}", wanted.errors);
        let places = rows.len().max(1);
        rows.rotate_left(turn % places);
        assert_eq!(read(&rows, &known), wanted, "the order of rows decides nothing");
        let Some(wanted) = wanted.contracts.into_values().next() else { return };
        let back = |at: Time| at.plus_days(-4_000);
        let windows: BTreeSet<(Time, Time, WindowKind)> = wanted.windows;
        let windows: BTreeSet<Interval> = windows.into_iter().map(|(from, to, _)| (back(from), back(to))).collect();
        let all = wanted.items.into_iter().map(|(product, serial)| (product, serial, Time::EPOCH, Time::FOREVER));
        let stand = self.swaps.iter().filter(|swap| !swap.undone);
        let swaps: Vec<Replaced> = stand
            .map(|swap| Replaced {
                product: "cam".parse().unwrap(),
                old: SERIALS[swap.old].parse().unwrap(),
                new: SERIALS[swap.new].parse().unwrap(),
                fence_at: swap.fence_at,
            })
            .collect();
        let items: BTreeSet<Item> = through(all.collect(), &swaps);
        let place = |serial: &str| SERIALS.iter().position(|name| *name == serial).unwrap();
        let items: BTreeSet<(usize, Interval)> =
            items.into_iter().map(|(_, serial, from, to)| (place(serial.as_str()), (from, to))).collect();
        let book = &self.books[contract];
        let stand = |known: &Option<Time>| known.is_none();
        let there: Vec<_> = book
            .windows
            .iter()
            .filter(|(_, known)| stand(&known.superseded_at))
            .map(|(id, known)| (*id, known.fact))
            .collect();
        let (gone, new) = replace(&there, &windows);
        // What a pool gives is nothing that rows name.
        let there: Vec<_> = book
            .items
            .iter()
            .filter(|(id, known)| stand(&known.superseded_at) && !self.placed.contains(id))
            .map(|(id, known)| (*id, known.fact))
            .collect();
        let (items_gone, items_new) = replace(&there, &items);
        for id in gone {
            self.window_end(contract, id);
        }
        for window in new {
            self.window_add(contract, window);
        }
        for id in items_gone {
            self.item_end(contract, id);
        }
        for item in items_new {
            self.item_add(contract, item);
        }
    }

    /// As the server does it, with the same refusals. Whether it was done.
    pub(in crate::decide) fn swap(&mut self, old: usize, new: usize, days: i64) -> bool {
        let at = self.at();
        let takes_part = |serial: usize| self.swaps.iter().any(|s| !s.undone && (s.old == serial || s.new == serial));
        let is_free =
            |serial: usize| self.books.iter().all(|book| book.plain.items.iter().all(|item| item.0 != serial));
        let Some(before) = self.units[old].clone().filter(|unit| unit.device.state == DeviceState::Active) else {
            return false;
        };
        let replaced_before = self.swaps.iter().any(|swap| !swap.undone && swap.old == old);
        if old == new || replaced_before || takes_part(new) || !is_free(new) {
            return false;
        }
        let there = self.units[new].clone();
        if there.as_ref().is_some_and(|unit| !matches!(unit.device.state, DeviceState::Active | DeviceState::Pending)) {
            return false;
        }
        let fence_at = at.plus_days(days);
        let entered = there.is_none();
        let unit = there.unwrap_or_else(|| {
            let mut unit = Self::unit(new);
            unit.device.confirmed_train = None;
            unit.installed.clear();
            unit
        });
        let new_before = if entered { Before::nothing(unit.device.cohort_id) } else { Before::of(&unit.device) };
        let mut swapped = Swapped {
            old,
            new,
            fence_at,
            before: [Before::of(&before.device), new_before],
            superseded: vec![],
            recorded: vec![],
            policies: vec![],
            undone: false,
        };
        for contract in 0..self.books.len() {
            let of_old = self.books[contract]
                .items
                .iter()
                .filter(|(_, item)| item.superseded_at.is_none() && item.fact.0 == old);
            let items: Vec<(FactId, Interval)> = of_old.map(|(id, item)| (*id, item.fact.1)).collect();
            let carried = carry(&items, fence_at);
            for ((before, _), interval) in items.iter().zip(carried.new) {
                let id = self.item_add(contract, (new, interval));
                self.placed_as(*before, id);
                swapped.recorded.push((contract, id));
            }
            for (cut, left) in carried.cut {
                self.item_end(contract, cut);
                swapped.superseded.push((contract, cut));
                if let Some(interval) = left {
                    let id = self.item_add(contract, (old, interval));
                    self.placed_as(cut, id);
                    swapped.recorded.push((contract, id));
                }
            }
        }
        let of_old: Vec<Policy> = self
            .plain_policies
            .iter()
            .filter(|(serial, _)| *serial == Some(old))
            .map(|(_, policy)| policy.clone())
            .collect();
        for policy in of_old {
            let id = self.policy(Some(new), policy.kind, policy.to_at);
            swapped.policies.push(id);
        }
        let (device, other) = exchange(before.device, unit.device.clone(), fence_at);
        self.units[old] = Some(Unit { device, ..self.units[old].clone().unwrap() });
        self.units[new] = Some(Unit { device: other, ..unit });
        self.note(old);
        self.note(new);
        self.swaps.push(swapped);
        true
    }

    /// Undoes the swap of a number while its overlap lasts and nobody changed what it moved.
    pub(in crate::decide) fn undo(&mut self, number: usize) -> bool {
        let Some(swap) = self.swaps.get(number).cloned() else { return false };
        let later = self.swaps.iter().enumerate().any(|(at, other)| {
            at != number && !other.undone && (other.old == swap.new || (at > number && other.old == swap.old))
        });
        let stands = |(contract, id): &(usize, FactId)| {
            self.books[*contract].items.iter().any(|(of, item)| of == id && item.superseded_at.is_none())
        };
        let policy_stands = |id: &FactId| self.plain_policies.iter().any(|(_, policy)| policy.id == *id);
        if swap.undone
            || later
            || swap.fence_at <= self.at()
            || !swap.recorded.iter().all(stands)
            || !swap.policies.iter().all(policy_stands)
        {
            return false;
        }
        self.swaps[number].undone = true;
        for (contract, id) in swap.recorded {
            self.item_end(contract, id);
        }
        swap.policies.into_iter().for_each(|id| self.lift(id));
        for (contract, id) in swap.superseded {
            let item = self.books[contract].items.iter().find(|(of, _)| *of == id).unwrap().1.fact;
            let again = self.item_add(contract, item);
            self.placed_as(id, again);
        }
        let [old, new] = swap.before;
        for (serial, before) in [(swap.old, old), (swap.new, new)] {
            let unit = self.units[serial].clone().unwrap();
            self.units[serial] = Some(Unit { device: before.give_back(unit.device.clone()), ..unit });
            self.note(serial);
        }
        true
    }

    /// The number that the next swap gets.
    pub(in crate::decide) fn next_swap(&self) -> usize {
        self.swaps.len()
    }
}
