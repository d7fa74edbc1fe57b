//! What is free for security, and the way to it: only by fixes that are out for the device, over images of its own hardware.

use super::*;
use crate::release::Embargo;

/// Feature releases 1 to 3, where nobody may have 2 and 3 without a contract, and a fix 4 over a floor.
fn releases(floor: i64) -> Vec<ReleaseView> {
    let fix = Make { order: 4, kind: ReleaseKind::Security, floor: Some(floor), ..FEATURE };
    let mut made: Vec<ReleaseView> = (1..=3).map(|order| release(Make { order, ..FEATURE })).collect();
    made.push(release(fix));
    made
}

fn rollouts() -> Vec<Rollout> {
    (1..=6).map(|order| rollout_of(order, 100)).collect()
}

/// What a device on version 1 without any contract is offered, or why nothing.
fn said(releases: Vec<ReleaseView>, now: i64) -> (Reason, Option<String>) {
    reason(&device(1, vec![]), &product(releases, rollouts()), now)
}

fn offered(order: i64) -> (Reason, Option<String>) {
    (Reason::Offered, Some(format!("v{order}")))
}

#[test]
fn a_stone_to_a_fix_is_free_and_so_is_the_stone_before_it() {
    assert_eq!(said(releases(3), 10), offered(3));
    let mut chain = releases(3);
    chain[2].artifacts[0].min_installed = Some("v2".parse().unwrap());
    chain[2].artifacts[0].min_installed_order = Some(2);
    assert_eq!(said(chain, 10), offered(2));
}

#[test]
fn a_fix_that_was_withdrawn_makes_no_stone_free_and_an_older_one_still_does() {
    let mut withdrawn = releases(3);
    withdrawn[3].release.withdrawn_at = Some(day(5));
    assert_eq!(said(withdrawn.clone(), 4), offered(3));
    assert_eq!(said(withdrawn.clone(), 5), (Reason::NoContract, Some("v3".into())));
    let newest = Make { order: 5, kind: ReleaseKind::Security, floor: Some(3), ..FEATURE };
    let mut both = releases(3);
    both.push(release(newest));
    both[4].release.withdrawn_at = Some(day(5));
    assert_eq!(said(both, 6), offered(3));
}

#[test]
fn a_fix_under_embargo_makes_no_stone_free_and_nobody_hears_of_it() {
    let mut held = releases(3);
    held[3].embargo = Some(Embargo { codes: ["NOBODY"].into_iter().collect(), until: day(5) });
    // Not that it wants version 3 first, either.
    assert_eq!(said(held.clone(), 4), (Reason::NoContract, Some("v3".into())));
    assert_eq!(said(held, 5), offered(3));
    let mut alone = vec![release(FEATURE), releases(3).remove(3)];
    alone[1].release.published_at = day(5);
    assert_eq!(said(alone.clone(), 4), (Reason::UpToDate, None));
    assert_eq!(said(alone, 5), (Reason::FloorNotMet, Some("v4".into())));
}

#[test]
fn a_floor_of_other_hardware_makes_no_stone_free() {
    let mut other = releases(3);
    let mut image = other[3].artifacts[0].clone();
    image.hw_ids = ["cam-r9"].into_iter().collect();
    other[3].artifacts[0].min_installed = None;
    other[3].artifacts[0].min_installed_order = None;
    other[3].artifacts.push(image);
    // The fix itself needs no stone on this hardware.
    let view = product(other.clone(), vec![rollout_of(2, 100), rollout_of(3, 100)]);
    assert_eq!(reason(&device(1, vec![]), &view, 10).1, Some("v4".into()));
    assert!(!entitled(&device(1, vec![]), &view, &view.releases()[1], day(10), &mut ()).pass, "version 3");
    assert_eq!(said(other, 10), offered(4));
}

#[test]
fn a_stone_that_is_not_out_leads_no_further() {
    let mut chain = releases(3);
    chain[2].artifacts[0].min_installed = Some("v2".parse().unwrap());
    chain[2].artifacts[0].min_installed_order = Some(2);
    chain[2].release.withdrawn_at = Some(day(1));
    let view = product(chain, rollouts());
    let second = view.releases().iter().find(|release| release.release.order == 2).unwrap();
    assert!(!entitled(&device(1, vec![]), &view, second, day(10), &mut ()).pass);
}
