//! What holds after any history of contracts, releases, policies, devices and swaps, asked about any moment.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::staged::{nobody_leaves_the_cohort, nobody_outside_is_offered_it, the_gate_is_what_is_plain};
use super::world::{Event, FILTERS, SERIALS, World, judged, terms};
use super::*;
use crate::facts::Known;

fn any_codes() -> impl Strategy<Value = Vec<&'static str>> {
    prop::sample::subsequence(vec!["A", "B", "E"], 0..=2)
}

/// Most releases are of the train that devices run at first.
fn any_train() -> impl Strategy<Value = usize> {
    prop::sample::select(vec![0, 0, 0, 0, 1, 1, 2])
}

/// Whether who asked for a version at once says something else at once: a hold, with security fixes or without.
fn any_doubt() -> impl Strategy<Value = Option<bool>> {
    prop::option::weighted(0.5, any::<bool>())
}

fn any_event() -> impl Strategy<Value = Event> {
    let (n, serial, from, days) = (0usize..64, 0usize..SERIALS.len(), -60i64..300, 1i64..200);
    let rows = prop::collection::vec((0i64..300, 1i64..200, 0usize..SERIALS.len()), 1..5);
    let add_on = prop::option::weighted(0.3, prop::sample::select(vec!["A", "B"]));
    let required = prop::sample::subsequence(vec!["A", "B"], 0..=1);
    let contracts = prop_oneof![
        6 => (n.clone(), 0i64..300, days.clone()).prop_map(|(contract, from, days)| Event::Window { contract, from, days }),
        2 => (n.clone(), n.clone()).prop_map(|(contract, window)| Event::EndWindow { contract, window }),
        5 => (n.clone(), serial.clone(), from, 60i64..400)
            .prop_map(|(contract, serial, from, days)| Event::Item { contract, serial, from: from.max(0), days }),
        2 => (n.clone(), n.clone()).prop_map(|(contract, item)| Event::EndItem { contract, item }),
        3 => (n.clone(), n.clone(), any_codes(), 0i32..30)
            .prop_map(|(contract, rule, codes, grace)| Event::Plan { contract, rule, codes, grace }),
        1 => n.clone().prop_map(|contract| Event::Void { contract }),
        2 => Just(Event::Heard),
        2 => (0usize..4).prop_map(|quantity| Event::Pool { quantity }),
        3 => (n.clone(), rows, n.clone()).prop_map(|(contract, rows, turn)| Event::Import { contract, rows, turn }),
    ];
    let releases = prop_oneof![
        8 => (prop::bool::weighted(0.5), n.clone(), any_train(), required, prop::option::of(n.clone()), add_on, prop::bool::weighted(0.05))
            .prop_map(|(open, kind, train, codes, floor, add_on, epoch)| Event::Publish { open, kind, train, codes, floor, add_on, epoch }),
        1 => n.clone().prop_map(|release| Event::Withdraw { release }),
        2 => (n.clone(), any::<bool>()).prop_map(|(release, blocked)| Event::Block { release, blocked }),
        2 => (n.clone(), 1i64..60, any::<bool>()).prop_map(|(release, days, early)| Event::Embargo { release, days, early }),
        6 => (n.clone(), 1u8..=100, 0i32..3, prop::option::of(0..FILTERS.len()), prop_oneof![Just(0u32), 1u32..30], prop_oneof![Just(0u32), 1u32..60])
            .prop_map(|(release, percent, weight, filter, ramp, rate)| Event::Rollout { release, percent, weight, filter, ramp, rate }),
        1 => n.clone().prop_map(|rollout| Event::Pause { rollout }),
        2 => n.clone().prop_map(|rollout| Event::Resume { rollout }),
        2 => n.clone().prop_map(|rollout| Event::Advance { rollout }),
        1 => n.clone().prop_map(|rollout| Event::Faster { rollout }),
    ];
    let devices = prop_oneof![
        1 => serial.clone().prop_map(|serial| Event::Enrol { serial }),
        3 => (serial.clone(), n.clone()).prop_map(|(serial, release)| Event::Confirm { serial, release }),
        1 => (serial.clone(), n.clone()).prop_map(|(serial, release)| Event::Fail { serial, release }),
        1 => (serial.clone(), any::<bool>()).prop_map(|(serial, blocked)| Event::State { serial, blocked }),
        1 => (prop::option::of(serial.clone()), any::<bool>(), 1i64..60)
            .prop_map(|(serial, security, days)| Event::Hold { serial, security, days }),
        1 => (serial.clone(), n.clone()).prop_map(|(serial, release)| Event::Pin { serial, release }),
        3 => (serial.clone(), n.clone(), 1i64..60, any_doubt())
            .prop_map(|(serial, release, days, then)| Event::UpdateNow { serial, release, days, then }),
        2 => (serial.clone(), n.clone()).prop_map(|(serial, rollout)| Event::Begin { serial, rollout }),
        2 => serial.clone().prop_map(|serial| Event::Seen { serial }),
        2 => (serial.clone(), any::<bool>(), any::<bool>())
            .prop_map(|(serial, tagged, sited)| Event::Place { serial, tagged, sited }),
        1 => n.clone().prop_map(|policy| Event::Lift { policy }),
        3 => (serial.clone(), serial, 1i64..60).prop_map(|(old, new, days)| Event::Swap { old, new, days }),
        1 => n.prop_map(|swap| Event::Undo { swap }),
    ];
    prop_oneof![4 => contracts, 3 => releases, 3 => devices]
}

/// Events, each some days after the one before.
fn any_history() -> impl Strategy<Value = Vec<(i64, Event)>> {
    prop::collection::vec((0i64..12, any_event()), 1..36)
}

/// What is decided, in full: the offer or the reason, and every gate's answer.
#[derive(Debug, PartialEq)]
struct Said {
    offered: bool,
    about: Option<String>,
    reason: Reason,
    steps: Vec<Step>,
}

fn ask(device: &DeviceView, product: &ProductView, at: Time) -> Said {
    let mut steps = Vec::new();
    let (offered, about, reason) = match decide(device, product, at, &mut steps) {
        Decision::Offer { release, reason, .. } => (true, Some(release), reason),
        Decision::Nothing { reason, about } => (false, about, reason),
    };
    Said { offered, about: about.map(|about| about.release.version.to_string()), reason, steps }
}

/// Versions that a device may have, wherever it is on its path.
fn may_have(device: &DeviceView, product: &ProductView, at: Time) -> BTreeSet<String> {
    let may = product.releases().iter().filter(|release| entitled(device, product, release, at, &mut ()).pass);
    may.map(|release| release.release.version.to_string()).collect()
}

/// Every security fix of the train that a device confirmed, and the stepping stones on that train to it, as far as it has the parts for
/// it: none of them wants cover.
fn security_wants_no_cover(device: &DeviceView, product: &ProductView, at: Time) -> Result<(), TestCaseError> {
    let Some(train) = &device.device.confirmed_train else { return Ok(()) };
    let on_train = |release: &&ReleaseView| release.release.train == *train;
    let mut free: Vec<&ReleaseView> = product
        .releases()
        .iter()
        .filter(on_train)
        .filter(|release| release.release.kind == ReleaseKind::Security)
        .collect();
    let mut next = 0;
    while let Some(release) = free.get(next) {
        next += 1;
        // What is not out leads nowhere.
        if !is_out(device, release, at) {
            continue;
        }
        let images = release.artifacts.iter().filter(|image| image.runs_on(device));
        let floors = images.filter_map(|image| image.min_installed.as_ref());
        let stones: Vec<_> = floors.filter_map(|floor| product.release_of_version(floor)).filter(on_train).collect();
        for stone in stones {
            if !free.iter().any(|known| std::ptr::eq(*known, stone)) {
                free.push(stone);
            }
        }
    }
    let in_service =
        matches!(device.device.state_at(at), DeviceState::Active | DeviceState::RmaPending | DeviceState::Replaced);
    for release in free {
        let said = outcome(device, product, Some(release), at);
        prop_assert!(!said.reason.is_lack_of_cover(), "{} {:?}", release.release.version, said.reason);
        if in_service && is_out(device, release, at) {
            let verdict = entitled(device, product, release, at, &mut ());
            prop_assert!(verdict.pass, "{} {:?}", release.release.version, verdict);
        }
    }
    Ok(())
}

/// Reads the trace as somebody would who has nothing else: the last answer about a version decides about it, and what was refused before
/// is only what another gate can make up for.
fn the_trace_says_the_same(
    said: &Said,
    device: &DeviceView,
    product: &ProductView,
    at: Time,
) -> Result<(), TestCaseError> {
    let (mut denial, mut offers) = (None, Vec::new());
    for release in product.releases() {
        let version = &release.release.version;
        let of: Vec<&Step> = said.steps.iter().filter(|step| step.version == *version).collect();
        let last = of.last().expect("every version is answered");
        for (at, step) in of.iter().enumerate().filter(|(at, step)| at + 1 < of.len() && !step.pass) {
            let made_up = matches!(step.gate, Gate::Security | Gate::Grant | Gate::Cover)
                || of[at..].iter().any(|later| later.reason == Reason::EpochPath);
            prop_assert!(made_up, "{version} {step:?}");
        }
        match (last.pass, last.gate) {
            (true, gate) => {
                prop_assert_eq!(gate, Gate::Rollout, "{} is let through by the last gate alone", version);
                offers.push(version.to_string());
            }
            (false, _) if denial.is_none() && !is_silent(last.reason) && is_spoken_of(device, release, at) => {
                denial = Some((last.reason, version.to_string()));
            }
            (false, _) => {}
        }
    }
    if said.offered {
        prop_assert!(said.about.as_ref().is_some_and(|about| offers.contains(about)));
        let about = said.about.clone().unwrap();
        // Why it may be had stands in the trace, too.
        prop_assert!(
            said.steps.iter().any(|step| step.version.as_str() == about && step.pass && step.reason == said.reason)
        );
    } else if let Some((reason, version)) = denial {
        prop_assert_eq!((said.reason, said.about.clone()), (reason, Some(version)));
    } else {
        prop_assert!(matches!(said.reason, Reason::UpToDate | Reason::NoRelease) && device.installed.len() <= 2);
    }
    Ok(())
}

/// A serial that was replaced gets security fixes, the way to them, and nothing by its cover.
fn a_fenced_serial_gets_security_alone(
    device: &DeviceView,
    product: &ProductView,
    at: Time,
) -> Result<(), TestCaseError> {
    if device.device.state_at(at) != DeviceState::Replaced {
        return Ok(());
    }
    let is_security = |reason: Reason| matches!(reason, Reason::SecurityFree | Reason::SecurityPath);
    for release in product.releases() {
        let verdict = entitled(device, product, release, at, &mut ());
        prop_assert!(!verdict.pass || is_security(verdict.reason), "{} {:?}", release.release.version, verdict);
    }
    if let Decision::Offer { reason, .. } = decide(device, product, at, &mut ()) {
        let leads_to_security = || {
            let hop = hop(device, product, at).unwrap();
            is_security(entitled(device, product, hop.towards, at, &mut ()).reason)
        };
        prop_assert!(is_security(reason) || (reason == Reason::EpochPath && leads_to_security()));
    }
    Ok(())
}

/// Neither cover, nor security, nor a wish lets through what is blocked in the country where a device stands.
fn no_country_gets_what_is_blocked_there(
    device: &DeviceView,
    product: &ProductView,
    at: Time,
    said: &Said,
) -> Result<(), TestCaseError> {
    let Some(country) = &device.country else { return Ok(()) };
    for release in product.releases().iter().filter(|release| release.blocked_countries.contains(country)) {
        prop_assert!(!entitled(device, product, release, at, &mut ()).pass);
        prop_assert!(!said.offered || said.about.as_deref() != Some(release.release.version.as_str()));
    }
    Ok(())
}

/// A pool gives as many places as it has, one to each in service, and lets nobody wait while one is free.
fn no_place_is_left_and_none_is_given_twice(world: &World) -> Result<(), TestCaseError> {
    let (quantity, inside, wrong) = world.places();
    let each: BTreeSet<usize> = inside.iter().copied().collect();
    prop_assert!(inside.len() <= quantity && each.len() == inside.len(), "{inside:?} of {quantity}");
    prop_assert_eq!(wrong, Vec::<usize>::new(), "{:?} of {} are inside", inside, quantity);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_history_keeps_its_promises(
        history in any_history(),
        more in (0usize..3, 0usize..SERIALS.len(), 0i64..400, 1i64..300, any_codes(), 0usize..4),
        swap in (0usize..SERIALS.len(), 0usize..SERIALS.len()),
        later in -60i64..120,
    ) {
        let mut world = World::new();
        // Decided as it was played, by what is plain: the device, the moment at which it was asked, the moment asked about.
        let mut told: Vec<(usize, Time, Time, Said)> = Vec::new();
        let mut moments = BTreeSet::new();
        for (after, event) in &history {
            world.apply(*after, event);
            // Of several changes in one moment the last counts.
            told.retain(|(_, known_at, ..)| *known_at < day(world.now));
            moments.insert(world.now);
            let product = world.product();
            no_place_is_left_and_none_is_given_twice(&world)?;
            for serial in 0..SERIALS.len() {
                let Some(device) = world.device(serial) else { continue };
                for at in [day(world.now), day(world.now + later)] {
                    let said = ask(&device, &product, at);
                    told.push((serial, day(world.now), at, said));
                }
            }
        }
        // What was decided then, by what was known then, is answered for ever.
        for (serial, known_at, at, then) in &told {
            let device = world.device_known(*serial, *known_at).unwrap();
            let said = ask(&device, &world.product_known(*known_at), *at);
            prop_assert_eq!(&said, then, "{} at {} known at {}", SERIALS[*serial], at, known_at);
        }
        let product = world.product();
        for (serial, name) in SERIALS.iter().enumerate() {
            let Some(device) = world.device(serial) else { continue };
            for at in [day(world.now), day(world.now + later), day(world.now + 400)] {
                let said = ask(&device, &product, at);
                the_trace_says_the_same(&said, &device, &product, at)?;
                security_wants_no_cover(&device, &product, at)?;
                a_fenced_serial_gets_security_alone(&device, &product, at)?;
                no_country_gets_what_is_blocked_there(&device, &product, at, &said)?;
                the_gate_is_what_is_plain(&device, &product, at)?;
                nobody_outside_is_offered_it(&device, &product, at)?;
                nobody_leaves_the_cohort(&device, &product, at, at.plus_days(later))?;
                // Who stops all takes offers away and nothing else: what each may have stays as it was.
                let mut stopped = product.clone();
                stopped.stopped = true;
                let then = ask(&device, &stopped, at);
                prop_assert!(!then.offered, "{then:?}");
                the_trace_says_the_same(&then, &device, &stopped, at)?;
                prop_assert_eq!(may_have(&device, &stopped, at), may_have(&device, &product, at));
                // More cover: a window, an item, a code or grace. Nothing that it may have goes, nor does the offer.
                let (contract, of, from, days, codes, what) = &more;
                let mut contracts = world.contracts(serial);
                let more = &mut contracts[*contract];
                let span = (day(*from), day(from + days));
                match what {
                    0 => more.windows.push(Known::new(span, day(0))),
                    1 => more.items.push(Known::new((day(0), Time::FOREVER), day(0))),
                    2 => more.windows.extend([Known::new(span, day(0)), Known::new((span.1, span.1.plus_days(*days)), day(0))]),
                    _ => for known in &mut more.terms {
                        known.fact.grace_days += 10;
                        known.fact.grants.extend(terms(known.fact.rule, codes, 0).grants);
                    },
                }
                let richer = DeviceView { covers: judged(&contracts, day(world.now)), ..device.clone() };
                let (had, has) = (may_have(&device, &product, at), may_have(&richer, &product, at));
                prop_assert!(had.is_subset(&has), "{name} {of}: {had:?} became {has:?}");
                prop_assert!(!said.offered || ask(&richer, &product, at).offered);
            }
        }
        // A swap that is undone was none.
        let before: Vec<_> = (0..SERIALS.len()).map(|serial| world.device(serial)).collect();
        let number = world.next_swap();
        if world.swap(swap.0, swap.1, 30) {
            prop_assert!(world.undo(number));
            for (serial, then) in before.into_iter().enumerate() {
                let Some(then) = then else { continue };
                let now = world.device(serial).unwrap();
                let sorted = |view: DeviceView| DeviceView { policies: vec![], ..view };
                prop_assert_eq!(sorted(now.clone()), sorted(then.clone()));
                for at in [day(world.now), day(world.now + later)] {
                    prop_assert_eq!(ask(&now, &product, at), ask(&then, &product, at));
                }
            }
        }
    }

    /// Imports of several contracts come to one state in whatever order they arrive.
    #[test]
    fn any_order_of_imports_comes_to_one_state(
        rows in prop::collection::vec(prop::collection::vec((0i64..300, 1i64..200, 0usize..SERIALS.len()), 1..5), 3), turn in 1usize..3,
        (old, new) in (0usize..2, 2usize..4),
    ) {
        let play = |order: [usize; 3]| {
            let mut world = World::new();
            world.swap(old, new, 30);
            for contract in order {
                world.apply(0, &Event::Import { contract, rows: rows[contract].clone(), turn });
                // The same again changes nothing.
                world.apply(0, &Event::Import { contract, rows: rows[contract].clone(), turn });
            }
            (0..SERIALS.len()).map(|serial| world.device(serial)).collect::<Vec<_>>()
        };
        let first = play([0, 1, 2]);
        let other = if turn == 1 { [1, 2, 0] } else { [2, 1, 0] };
        prop_assert_eq!(first, play(other));
    }
}
