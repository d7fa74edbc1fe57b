//! What a certificate says without the server is what the server says, as long as nothing changed.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::offline::{Certified, ImageFacts, MAX_COVERS, MAX_PUBLISHED, MAX_WINDOWS, Offline, certify};
use crate::release::Embargo;

/// The signed facts of a product's images: no moment of publication, and every code with its image.
fn facts(product: &ProductView) -> Vec<ImageFacts> {
    let of = |release: &ReleaseView| {
        let (train_ga, release) = (release.train_ga, (release.release.clone(), release.artifacts.clone()));
        release
            .1
            .into_iter()
            .map(move |artifact| ImageFacts {
                component: artifact.component.clone(),
                version: release.0.version.clone(),
                order: release.0.order,
                kind: release.0.kind,
                train: release.0.train.clone(),
                train_ga,
                channel: release.0.channel,
                requires: release.0.requires.iter().chain(artifact.requires.iter()).collect(),
                hw_ids: artifact.hw_ids.clone(),
                sha256: artifact.sha256,
                min_installed: artifact.min_installed,
            })
            .collect::<Vec<_>>()
    };
    product.releases().iter().flat_map(of).collect()
}

fn offline(device: &DeviceView, product: &ProductView, certified: Certified) -> Offline {
    let who = (&product.product.name, &device.device.serial, &device.device.hw_id);
    Offline::new(certified, who, device.installed.clone(), facts(product))
}

fn asked(device: &DeviceView, product: &ProductView, version: &str, issued: i64, at: i64) -> Verdict {
    let certified = certify(device, product, day(issued)).unwrap();
    offline(device, product, certified).may_install(&version.parse().unwrap(), day(at)).unwrap()
}

fn verdict(pass: bool, reason: Reason) -> Verdict {
    Verdict { pass, reason }
}

#[test]
fn a_train_that_is_owned_stays_owned_without_the_server() {
    let product = product(vec![release(FEATURE), release(Make { order: 2, train: ("2.0", 50), ..FEATURE })], vec![]);
    let device = device(1, vec![cover(CoverRule::TrainGa, &[(0, 30)])]);
    assert_eq!(asked(&device, &product, "v1", 10, 900), verdict(true, Reason::CoveredTrainGa));
    assert_eq!(asked(&device, &product, "v2", 10, 60), verdict(false, Reason::TrainGaNotCovered));
}

#[test]
fn cover_and_grace_end_without_the_server() {
    let product = product(vec![release(FEATURE)], vec![]);
    let device = device(1, vec![cover(CoverRule::Live, &[(0, 30)])]);
    for (at, pass, reason) in
        [(29, true, Reason::CoveredLive), (30, true, Reason::CoveredGrace), (44, false, Reason::NotLive)]
    {
        assert_eq!(asked(&device, &product, "v1", 10, at), verdict(pass, reason), "{at}");
    }
    let one = offline(&device, &product, certify(&device, &product, day(10)).unwrap());
    let v1 = "v1".parse().unwrap();
    assert_eq!(one.next_change(&v1, day(10), day(100)), Some(day(44)));
    assert_eq!(one.next_change(&v1, day(10), day(44)), None, "the certificate ends before");
    assert_eq!(one.may_install(&"v9".parse().unwrap(), day(10)), None, "nothing is known of it");
}

#[test]
fn a_security_fix_of_the_confirmed_train_needs_no_cover() {
    let fix = release(Make { order: 3, kind: ReleaseKind::Security, floor: Some(2), ..FEATURE });
    let other = release(Make { order: 4, kind: ReleaseKind::Security, train: ("2.0", 5), ..FEATURE });
    let product = product(vec![release(FEATURE), release(Make { order: 2, ..FEATURE }), fix, other], vec![]);
    let device = device(1, vec![]);
    assert_eq!(asked(&device, &product, "v3", 10, 20), verdict(true, Reason::SecurityFree));
    assert_eq!(asked(&device, &product, "v2", 10, 20), verdict(true, Reason::SecurityPath), "the stone on the way");
    assert_eq!(asked(&device, &product, "v4", 10, 20), verdict(false, Reason::NoContract));
}

#[test]
fn a_device_that_is_out_of_service_is_told_so() {
    let product = product(vec![release(Make { requires: &[], ..FEATURE })], vec![]);
    let mut device = device(1, vec![cover(CoverRule::Open, &[])]);
    for (state, reason) in [
        (DeviceState::Blocked, Reason::DeviceBlocked),
        (DeviceState::Retired, Reason::DeviceRetired),
        (DeviceState::Replaced, Reason::DeviceReplaced),
    ] {
        device.device.state = state;
        assert_eq!(asked(&device, &product, "v1", 10, 20), verdict(false, reason));
    }
    device.device.state = DeviceState::Blocked;
    let certified = certify(&device, &product, day(10)).unwrap();
    assert_eq!((certified.covers, certified.confirmed_train), (vec![], None), "what it had is nobody's business");
    device.device.state = DeviceState::Pending;
    assert_eq!(certify(&device, &product, day(10)), None);
}

#[test]
fn the_overlap_after_a_swap_ends_without_the_server() {
    let product = product(vec![release(FEATURE)], vec![]);
    let mut device = device(1, vec![cover(CoverRule::Live, &[(0, 300)])]);
    device.device.state = DeviceState::RmaPending;
    device.device.fence_at = Some(day(40));
    assert!(asked(&device, &product, "v1", 10, 39).pass);
    assert_eq!(asked(&device, &product, "v1", 10, 40), verdict(false, Reason::DeviceReplaced));
}

#[test]
fn the_date_of_a_release_is_known_only_from_the_certificate() {
    let mut releases =
        vec![release(FEATURE), release(Make { order: 2, ..FEATURE }), release(Make { order: 3, ..FEATURE })];
    releases[1].release.published_at = day(20);
    releases[2].embargo = Some(Embargo { codes: TextSet::default(), until: day(90) });
    let product = product(releases, vec![]);
    let device = device(1, vec![cover(CoverRule::ReleaseDate, &[(15, 30)])]);
    let certified = certify(&device, &product, day(25)).unwrap();
    let versions: Vec<&str> = certified.published.keys().map(crate::text::Version::as_str).collect();
    assert_eq!(versions, ["v1", "v2"], "what is not out is not told");
    assert_eq!(asked(&device, &product, "v2", 25, 900), verdict(true, Reason::CoveredReleaseDate));
    assert_eq!(asked(&device, &product, "v1", 25, 25), verdict(false, Reason::ReleaseDateNotCovered));
    let one = offline(&device, &product, Certified { published: BTreeMap::new(), ..certified });
    let v2 = "v2".parse().unwrap();
    assert!(!one.is_dated(&v2) && !one.may_install(&v2, day(25)).unwrap().pass, "without its date it is not granted");
}

#[test]
fn fractions_of_a_second_never_add_cover() {
    let product = product(vec![release(FEATURE)], vec![]);
    let (from, to) = (day(10).plus_ms(1), day(20).plus_ms(-1));
    let live = Cover { windows: Windows::new(vec![(from, to)]), grace_days: 0, ..cover(CoverRule::Live, &[]) };
    let certified = certify(&device(1, vec![live]), &product, day(10)).unwrap();
    let windows: Vec<_> = certified.covers[0].windows.iter().collect();
    assert_eq!(windows, [(day(10).plus_s(1), day(20).plus_s(-1))]);
}

#[test]
fn a_certificate_has_limits_and_keeps_what_covers_longest() {
    let count = i64::try_from(MAX_WINDOWS).unwrap() + 1;
    let windows: Vec<(i64, i64)> = (0..count).map(|at| (2 * at, 2 * at + 1)).collect();
    let covers: Vec<Cover> = (0..=MAX_COVERS)
        .map(|at| Cover {
            contract: format!("C-{at}").parse().unwrap(),
            ..cover(CoverRule::Live, if at == 3 { &[(0, 1)] } else { &windows })
        })
        .collect();
    let releases = (1..=i64::try_from(MAX_PUBLISHED).unwrap() + 1).map(|order| release(Make { order, ..FEATURE }));
    let product = product(releases.collect(), vec![]);
    let mut device = device(1, covers);
    device.covers[0].rule = CoverRule::ReleaseDate;
    let certified = certify(&device, &product, day(10)).unwrap();
    assert_eq!(certified.covers.len(), MAX_COVERS);
    assert!(
        certified.covers.iter().all(|cover| cover.contract.as_str() != "C-3"),
        "the one that ended first is left out"
    );
    assert_eq!(certified.covers[0].windows.iter().next(), Some((day(2), day(3))), "so is the oldest window");
    assert_eq!(certified.published.len(), MAX_PUBLISHED);
    assert!(!certified.published.contains_key(&"v1".parse().unwrap()));
}

fn any_rule() -> impl Strategy<Value = CoverRule> {
    prop::sample::select(vec![
        CoverRule::TrainGa,
        CoverRule::Live,
        CoverRule::ReleaseDate,
        CoverRule::Fallback(1),
        CoverRule::Fallback(12),
        CoverRule::Open,
    ])
}

prop_compose! {
    fn any_cover()(
        rule in any_rule(), number in 0u8..9, grace_days in 0i32..30,
        windows in prop::collection::vec((0i64..400, 1i64..200), 0..4),
        codes in prop::collection::vec((prop::sample::select(vec!["A", "B"]), any_channel()), 0..4),
    ) -> Cover {
        let windows = windows.iter().map(|&(from, length)| (day(from), day(from + length))).collect();
        Cover {
            contract: format!("C-{number}").parse().unwrap(),
            rule,
            grace_days,
            codes: codes.into_iter().map(|(code, ceiling)| (code.parse().unwrap(), ceiling)).collect(),
            windows: Windows::new(windows),
            ..cover(rule, &[])
        }
    }
}

/// In the order of contract numbers, as they are read.
fn any_covers() -> impl Strategy<Value = Vec<Cover>> {
    prop::collection::vec(any_cover(), 0..4).prop_map(|mut covers| {
        covers.sort_by(|one, other| one.contract.cmp(&other.contract));
        covers
    })
}

fn any_channel() -> impl Strategy<Value = Channel> {
    prop::sample::select(vec![Channel::Stable, Channel::Preview, Channel::Beta])
}

prop_compose! {
    fn any_release()(
        order in 1i64..7, train in prop::sample::select(vec![("1.0", 0i64), ("2.0", 120), ("3.0", 240)]),
        kind in 0usize..4, codes in prop::sample::subsequence(vec!["A", "B"], 0..=2), channel in any_channel(),
        floor in prop::option::of(1i64..7), published in 0i64..300, add_on in prop::option::of(prop::sample::select(vec!["A", "B"])),
    ) -> ReleaseView {
        let kind = [ReleaseKind::Security, ReleaseKind::Maintenance, ReleaseKind::Feature, ReleaseKind::Recovery][kind];
        let mut made = release(Make { order, train, kind, floor: floor.filter(|floor| *floor < order), ..FEATURE });
        made.release.requires = codes.iter().copied().collect();
        made.release.channel = channel;
        made.release.published_at = day(published);
        if let Some(code) = add_on {
            made.artifacts.push(Artifact {
                component: "radio".parse().unwrap(),
                requires: [code].into_iter().filter(|code| !codes.contains(code)).collect(),
                sha256: digest(900 + order),
                ..made.artifacts[0].clone()
            });
        }
        made
    }
}

proptest! {
    /// Whatever the certificate allows at a moment of its life the server allows then, and the other way round.
    #[test]
    fn the_certificate_says_what_the_server_says(
        covers in any_covers(),
        releases in prop::collection::vec(any_release(), 1..6),
        state in prop::sample::select(vec![
            DeviceState::Active, DeviceState::RmaPending, DeviceState::Replaced, DeviceState::Blocked, DeviceState::Retired,
        ]),
        fence in prop::option::of(200i64..500),
        confirmed in prop::option::of(prop::sample::select(vec!["1.0", "2.0", "3.0"])),
        (radio, issued, later) in (any::<bool>(), 300i64..420, 0i64..90),
    ) {
        let mut releases = releases;
        releases.sort_by_key(|release| release.release.order);
        releases.dedup_by_key(|release| release.release.order);
        let product = product(releases, vec![]);
        let mut device = device(1, covers);
        device.device.state = state;
        device.device.fence_at = fence.map(day);
        device.device.confirmed_train = confirmed.map(|train| train.parse().unwrap());
        if radio {
            device.installed.push(Installed {
                component: "radio".parse().unwrap(),
                version: "v1".parse().unwrap(),
                sha256: digest(901),
                security_counter: 1,
            });
        }
        let certified = certify(&device, &product, day(issued)).unwrap();
        let one = offline(&device, &product, certified);
        let at = day(issued + later);
        for release in product.releases() {
            let server = entitled(&device, &product, release, at, &mut ());
            let certificate = one.may_install(&release.release.version, at).unwrap();
            prop_assert_eq!(certificate, server, "{}", release.release.version);
        }
    }

    /// Where the server holds something back that no certificate tells of, the certificate never holds back more.
    #[test]
    fn what_a_certificate_does_not_know_only_the_server_holds_back(
        covers in any_covers(), release in any_release(),
        withdrawn in prop::option::of(300i64..400), embargo in prop::option::of(300i64..500), blocked in any::<bool>(),
        (issued, later) in (300i64..420, 0i64..90),
    ) {
        let mut release = release;
        release.release.withdrawn_at = withdrawn.map(day);
        release.embargo = embargo.map(|until| Embargo { codes: TextSet::default(), until: day(until) });
        if blocked {
            release.blocked_countries = ["NL"].into_iter().collect();
        }
        let product = product(vec![release], vec![]);
        let mut device = device(1, covers);
        device.country = Some("NL".to_owned());
        let certified = certify(&device, &product, day(issued)).unwrap();
        let one = offline(&device, &product, certified);
        let (at, release) = (day(issued + later), &product.releases()[0]);
        let server = entitled(&device, &product, release, at, &mut ());
        let certificate = one.may_install(&release.release.version, at).unwrap();
        // By the date of a release only what was out when the certificate was made is known.
        prop_assert!(!server.pass || certificate.pass || !one.is_dated(&release.release.version));
        let hidden = matches!(server.reason, Reason::Withdrawn | Reason::Embargoed | Reason::CountryBlocked);
        prop_assert!(hidden || !one.is_dated(&release.release.version) || certificate == server);
    }
}
