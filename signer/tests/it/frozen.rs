//! The frozen sample: documents signed by version 1 of the formats verify for ever.

use crate::sample::{PRODUCT, frozen_documents, limits, now, path};
use sluice_signer::{
    DirectorExpect, DirectorTrust, InstallPolicy, Installed, Lookup, OnlineKeys, ReleaseKind, TrustedRepository, agree,
};
use std::collections::BTreeSet;

fn frozen(name: &str) -> Vec<u8> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../fixtures/frozen/tuf-v1/");
    std::fs::read(format!("{folder}{name}")).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn the_frozen_repository_and_director_still_lead_to_an_installation() {
    let mut repository = TrustedRepository::from_root(&frozen("metadata/1.root.json"), &limits()).unwrap();
    repository.update_timestamp(&frozen("metadata/timestamp.json"), now()).unwrap();
    repository.update_snapshot(&frozen("metadata/1.snapshot.json"), now()).unwrap();
    repository.update_targets("targets", "root", &frozen("metadata/1.targets.json"), now()).unwrap();
    repository.update_targets(PRODUCT, "targets", &frozen("metadata/1.acme-cam.json"), now()).unwrap();

    let director = DirectorTrust::from_root(&frozen("director/1.root.json"), &limits()).unwrap();
    let expect =
        DirectorExpect { device_id: "cam-0001", nonce: Some("6e6f6e6365"), now: now(), last_version: 1_780_315_200 };
    let answer = director.verify_director(&frozen("director/offer.json"), &expect).unwrap();
    let offered = answer.document.targets.get(&path("2.4.2")).unwrap();
    let Lookup::Found(found) = repository.target(&offered.path, now()).unwrap() else { panic!("not found") };
    let policy = InstallPolicy {
        product: PRODUCT.into(),
        component: "main".into(),
        hw_id: "cam-r3".into(),
        security_counter_floor: 8,
        channels: BTreeSet::from(["stable".to_owned()]),
        installed: Some(Installed { version: "2.4.0".into(), order: 20400 }),
        known_orders: repository.version_orders(PRODUCT, "main"),
    };
    let release = agree(offered, &found, &policy, &limits()).unwrap();
    assert_eq!((release.version.as_str(), release.kind), ("2.4.2", ReleaseKind::Security));
    assert_eq!(release.notes.as_deref(), Some("acme-cam/2.4.2/notes.md"));

    let nothing = director.verify_director(&frozen("director/nothing.json"), &expect).unwrap();
    assert!(nothing.document.targets.is_empty());
    let keys = OnlineKeys::from_bytes(&frozen("online-keys.json")).unwrap();
    assert_eq!(director.root().entitlement_keys(), [&keys.entitlement]);
}

/// A change of the writer is a change of the format: it needs a new frozen sample beside this one.
#[test]
fn the_writer_still_makes_the_frozen_bytes() {
    for (name, bytes) in frozen_documents() {
        assert_eq!(String::from_utf8(frozen(name)).unwrap(), String::from_utf8(bytes).unwrap(), "{name}");
    }
}
