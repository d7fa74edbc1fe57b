//! The server's keys: lists with successors, and which key signs according to the roots.

use crate::sample::*;
use proptest::prelude::*;
use sluice_signer::lint::{Lint, lint_director_root, lint_image_root};
use sluice_signer::publish::Repository;
use sluice_signer::{NamedKeys, OnlineKeys, OnlineRole, PublicKey, RoleKeys, RootMetadata};

/// A key that follows another.
const NEXT: u8 = 111;
const OTHER: u8 = 112;

fn public(seed: u8) -> PublicKey {
    key(seed).public().clone()
}

/// The root with another key in an online role.
fn renamed(mut root: RootMetadata, role: OnlineRole, seed: u8) -> RootMetadata {
    let key = public(seed);
    let named = RoleKeys::new([&key], 1);
    root.keys.insert(key.keyid().to_owned(), key);
    match role {
        OnlineRole::Entitlement => root.entitlement = Some(named),
        OnlineRole::Director => drop(root.roles.insert("targets".to_owned(), named)),
        role => drop(root.roles.insert(role.name().to_owned(), named)),
    }
    root
}

fn bytes(root: &RootMetadata) -> Vec<u8> {
    signed(root.to_json(), &[])
}

#[test]
fn a_list_with_successors_is_read_back_and_its_four_keys_stand_where_they_stood() {
    let mut keys = online_keys();
    let plain = keys.to_json();
    assert!(plain.get("next").is_none());
    keys.next.insert(OnlineRole::Director, public(NEXT));
    let list = keys.to_json();
    assert_eq!(OnlineKeys::from_bytes(&list.to_bytes()).unwrap(), keys);
    for role in OnlineRole::ALL {
        assert_eq!(list.get(role.name()), plain.get(role.name()), "older readers find what they know");
        assert_eq!(role.name().parse(), Ok(role));
    }
    assert_eq!(keys.wanted(OnlineRole::Director), &public(NEXT));
    assert_eq!(keys.wanted(OnlineRole::Snapshot), &public(SNAPSHOT));
    assert!("root".parse::<OnlineRole>().is_err());
}

#[test]
fn a_successor_is_another_key_than_every_other() {
    for seed in [SNAPSHOT, TIMESTAMP, DIRECTOR, ENTITLEMENT] {
        let mut keys = online_keys();
        keys.next.insert(OnlineRole::Snapshot, public(seed));
        let error = OnlineKeys::from_bytes(&keys.to_json().to_bytes()).unwrap_err();
        assert!(error.to_string().contains("same key"), "{error}");
    }
    let mut keys = online_keys();
    keys.next = [(OnlineRole::Snapshot, public(NEXT)), (OnlineRole::Timestamp, public(NEXT))].into();
    assert!(OnlineKeys::from_bytes(&keys.to_json().to_bytes()).is_err());
    let broken = br#"{"snapshot":{},"timestamp":{},"director":{},"entitlement":{}}"#;
    assert!(OnlineKeys::from_bytes(broken).is_err());
}

#[test]
fn a_root_may_name_the_current_key_or_its_successor_and_no_other() {
    let mut keys = online_keys();
    keys.next = OnlineRole::ALL.map(|role| (role, public(NEXT + role as u8))).into();
    for role in OnlineRole::ALL {
        let lints = |seed: u8| -> Vec<Lint> {
            let mut lints = lint_director_root(&renamed(director_root(2), role, seed), &keys, now());
            if role.repository() == Repository::Image {
                lints.extend(lint_image_root(&renamed(image_root(2), role, seed), &keys, now()));
            }
            lints
        };
        assert_eq!(lints(NEXT + role as u8), []);
        let refused = lints(99);
        assert!(!refused.is_empty());
        for lint in refused {
            let text = lint.to_string();
            assert!(text.contains(keys.current(role).keyid()) && text.contains(keys.wanted(role).keyid()), "{text}");
        }
    }
}

#[test]
fn the_newest_root_names_the_key_and_what_older_ones_named_is_over() {
    let chain = [
        bytes(&image_root(1)),
        bytes(&renamed(image_root(2), OnlineRole::Snapshot, NEXT)),
        bytes(&renamed(image_root(3), OnlineRole::Snapshot, OTHER)),
    ];
    let named = |length: usize| NamedKeys::of(&chain[..length], &[], &limits()).unwrap();
    assert_eq!(NamedKeys::of(&[], &[], &limits()).unwrap(), NamedKeys::default());
    assert_eq!(named(1).now[&OnlineRole::Snapshot], public(SNAPSHOT).keyid());
    assert!(!named(1).is_retired(public(NEXT).keyid()), "it waits");
    assert_eq!(named(2).now[&OnlineRole::Snapshot], public(NEXT).keyid());
    assert!(named(2).is_retired(public(SNAPSHOT).keyid()));
    assert!(!named(2).is_retired(public(TIMESTAMP).keyid()));
    assert!(named(3).is_retired(public(SNAPSHOT).keyid()) && named(3).is_retired(public(NEXT).keyid()));
    assert!(!named(3).now.contains_key(&OnlineRole::Director), "the director root is not there yet");
}

#[test]
fn what_the_director_root_says_of_snapshot_and_timestamp_decides_nothing() {
    let image = [bytes(&image_root(1))];
    let early = renamed(director_root(2), OnlineRole::Snapshot, NEXT);
    let director = [bytes(&director_root(1)), bytes(&renamed(early, OnlineRole::Director, OTHER))];
    let named = NamedKeys::of(&image, &director, &limits()).unwrap();
    assert_eq!(named.now[&OnlineRole::Snapshot], public(SNAPSHOT).keyid());
    assert!(!named.ever.contains(public(NEXT).keyid()), "it still waits for the image root");
    assert_eq!(named.now[&OnlineRole::Director], public(OTHER).keyid());
    assert!(named.is_retired(public(DIRECTOR).keyid()));
}

#[test]
fn what_is_no_root_is_refused() {
    assert!(NamedKeys::of(&[b"{}".to_vec()], &[], &limits()).is_err());
    assert!(NamedKeys::of(&[], &[Vec::new()], &limits()).is_err());
}

proptest! {
    #[test]
    fn of_every_chain_one_key_signs_and_none_that_signs_is_over(seeds in prop::collection::vec(101u8..=110, 1..8)) {
        let chain: Vec<Vec<u8>> =
            (1..).zip(&seeds).map(|(version, seed)| bytes(&renamed(image_root(version), OnlineRole::Timestamp, *seed))).collect();
        let named = NamedKeys::of(&chain, &[], &limits()).unwrap();
        let last = *seeds.last().unwrap();
        let signs = public(last);
        prop_assert_eq!(&named.now[&OnlineRole::Timestamp], signs.keyid());
        prop_assert!(!named.is_retired(signs.keyid()));
        for seed in seeds.iter().filter(|seed| **seed != last && **seed != SNAPSHOT) {
            prop_assert!(named.is_retired(public(*seed).keyid()));
        }
    }

    #[test]
    fn a_list_is_read_or_refused_and_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = OnlineKeys::from_bytes(&bytes);
    }
}
