//! A device installs only what both repositories and its own policy allow; each rule refuses by its own name.

use crate::sample::*;
use sluice_signer::{
    AgreeError, DirectorTarget, Found, InstallPolicy, Installed, ReleaseCustom, RepositoryTarget, agree,
};
use std::collections::{BTreeMap, BTreeSet};

fn offered() -> DirectorTarget {
    offer("2.4.1").targets.into_values().next().unwrap()
}

fn policy() -> InstallPolicy {
    InstallPolicy {
        product: PRODUCT.into(),
        component: "main".into(),
        hw_id: "cam-r3".into(),
        security_counter_floor: 7,
        channels: BTreeSet::from(["stable".to_owned()]),
        installed: Some(Installed { version: "2.4.0".into(), order: 20400 }),
        known_orders: BTreeMap::from([("2.4.0".to_owned(), 20400), ("2.4.1".to_owned(), 20401)]),
    }
}

/// Everything that an agreement is made of, before a test changes one thing.
struct Case {
    director: DirectorTarget,
    release: ReleaseCustom,
    entry: RepositoryTarget,
    policy: InstallPolicy,
}

fn check(change: impl FnOnce(&mut Case)) -> Result<ReleaseCustom, &'static str> {
    let release = custom("2.4.1", 20401);
    let mut case = Case { director: offered(), entry: target(&release), release, policy: policy() };
    change(&mut case);
    let custom = case.entry.custom.map(|_| case.release.to_json());
    let entry = RepositoryTarget { custom, ..case.entry };
    let found = Found { role: PRODUCT.into(), target: entry, embargo_of: None };
    agree(&case.director, &found, &case.policy, &limits()).map_err(|error| error.rule())
}

#[test]
fn an_honest_offer_is_agreed() {
    assert_eq!(check(|_| {}), Ok(custom("2.4.1", 20401)));
}

#[test]
fn both_repositories_must_name_the_same_bytes() {
    assert_eq!(check(|case| case.director.path = path("2.4.0")), Err("path"));
    assert_eq!(check(|case| case.director.length += 1), Err("length"));
    assert_eq!(check(|case| case.director.sha256[0] ^= 1), Err("hash"));
    assert_eq!(check(|case| case.entry.sha256[31] ^= 1), Err("hash"));
    assert_eq!(check(|case| case.entry.custom = None), Err("not_a_release"));
}

#[test]
fn an_image_of_a_product_comes_from_the_products_own_role_and_path() {
    // What a thief of another role's keys would sign: everything in it fits the device but who signed it, and where.
    for (role, at) in [
        ("acme-phone", path("2.4.1")),
        ("acme-cam-advisories", format!("advisories/{PRODUCT}/x.bin")),
        (PRODUCT, "acme-phone/2.4.1/main.bin".to_owned()),
        (PRODUCT, path("2.4.0")),
    ] {
        let (mut director, mut entry) = (offered(), target(&custom("2.4.1", 20401)));
        director.path.clone_from(&at);
        entry.path = at;
        let found = Found { role: role.into(), target: entry, embargo_of: None };
        let error = agree(&director, &found, &policy(), &limits()).unwrap_err();
        assert_eq!(error.rule(), "signer", "{role}: {error}");
    }
}

#[test]
fn an_embargo_role_speaks_for_the_product_that_its_delegation_names() {
    let found = |embargo_of: Option<&str>, entry: RepositoryTarget| Found {
        role: "embargo-0123456789abcdef".into(),
        target: entry,
        embargo_of: embargo_of.map(str::to_owned),
    };
    let ask = |embargo_of, entry| agree(&offered(), &found(embargo_of, entry), &policy(), &limits());
    let entry = || target(&custom("2.4.1", 20401));
    assert!(ask(Some(PRODUCT), entry()).is_ok());
    // Its name says nothing, and what the image states of itself neither.
    for of in [None, Some("acme-phone")] {
        assert_eq!(ask(of, entry()).unwrap_err().rule(), "signer", "{of:?}");
    }
}

#[test]
fn the_image_must_be_for_this_device() {
    assert_eq!(check(|case| case.director.hw_id = "cam-r4".into()), Err("director_hardware"));
    assert_eq!(check(|case| case.release.hw_ids = BTreeSet::from(["cam-r4".into()])), Err("hardware"));
    assert_eq!(check(|case| case.policy.product = "acme-phone".into()), Err("product"));
    assert_eq!(check(|case| case.policy.component = "radio".into()), Err("component"));
    assert_eq!(check(|case| case.policy.channels = BTreeSet::from(["beta".into()])), Err("channel"));
}

#[test]
fn rollback_attack_an_image_below_the_security_counter_is_refused() {
    assert_eq!(check(|case| case.release.security_counter = 6), Err("security_counter"));
    assert!(check(|case| case.release.security_counter = 8).is_ok());
    assert_eq!(check(|case| case.policy.security_counter_floor = 8), Err("security_counter"));
}

#[test]
fn min_installed_is_compared_by_signed_order_not_by_text() {
    let needs = |min: &str, installed: Option<(&str, u64)>| {
        check(|case| {
            case.release.min_installed = Some(min.into());
            case.policy.installed = installed.map(|(version, order)| Installed { version: version.into(), order });
            case.policy.known_orders.insert("2.10.0".into(), 21000);
        })
        .map(|_| ())
    };
    assert_eq!(needs("2.4.0", Some(("2.4.0", 20400))), Ok(()));
    assert_eq!(needs("2.4.0", Some(("2.3.9", 20309))), Err("min_installed"));
    assert_eq!(needs("2.10.0", Some(("2.9.0", 20900))), Err("min_installed"), "2.9.0 is older than 2.10.0");
    assert_eq!(needs("2.4.0", Some(("2.10.0", 21000))), Ok(()));
    assert_eq!(needs("1.0.0", Some(("2.4.0", 20400))), Err("min_installed_unknown"));
    assert_eq!(needs("1.0.0", Some(("1.0.0", 10000))), Ok(()), "the very version needs no order");
    assert_eq!(needs("2.4.0", None), Ok(()), "an empty slot takes any version");
}

#[test]
fn a_malformed_release_block_is_refused() {
    let mut entry = target(&custom("2.4.1", 20401));
    entry.custom = Some(sluice_signer::Json::object([("schema", 2u64.into())]));
    let error =
        agree(&offered(), &Found { role: PRODUCT.into(), target: entry, embargo_of: None }, &policy(), &limits())
            .unwrap_err();
    assert!(matches!(error, AgreeError::Custom(_)), "{error}");
}
