//! What a device keeps across restarts, and that its protection against rollback is in it.

use crate::sample::*;
use sluice_signer::{RepositoryState, TargetsMetadata, TrustedRepository, VerifyError};

fn restarted(device: &TrustedRepository) -> TrustedRepository {
    let json = serde_json::to_string(&device.state()).unwrap();
    let state: RepositoryState = serde_json::from_str(&json).unwrap();
    TrustedRepository::from_state(&state, &limits()).unwrap()
}

#[test]
fn a_restarted_device_knows_what_it_knew() {
    let device = Sample::new().current_device();
    let again = restarted(&device);
    assert_eq!(again.state(), device.state());
    assert!(finds(&again, &path("2.4.1"), now()));
    assert_eq!(again.wanted_snapshot(), None);
    assert_eq!(again.wanted_role(PRODUCT), None);
}

#[test]
fn rollback_is_refused_after_a_restart_even_when_everything_kept_has_expired() {
    let old = Sample::new();
    let mut new = old.next();
    new.product.version = 2;
    let mut device = new.device();
    new.refresh(&mut device, now()).unwrap();
    let mut again = restarted(&device);
    let later = now() + days(30);
    let mut evil = old.clone();
    evil.timestamp_expires = later + days(1);
    let error = again.update_timestamp(&evil.timestamp_bytes(), later).unwrap_err();
    assert_eq!(error, VerifyError::Rollback { role: "timestamp".into(), trusted: 2, found: 1 });
    assert!(again.target(&path("2.4.1"), later).is_err(), "kept documents are not fresh documents");
}

#[test]
fn a_kept_document_that_was_tampered_with_is_refused() {
    let device = Sample::new().current_device();
    let tampered = |change: &dyn Fn(&mut RepositoryState)| {
        let mut state = device.state();
        change(&mut state);
        TrustedRepository::from_state(&state, &limits()).unwrap_err()
    };
    let raise = |document: &mut String| *document = document.replace("\"version\":1}", "\"version\":9}");
    for error in [
        tampered(&|state| raise(&mut state.root)),
        tampered(&|state| raise(state.timestamp.as_mut().unwrap())),
        tampered(&|state| raise(state.snapshot.as_mut().unwrap())),
        tampered(&|state| raise(&mut state.roles.get_mut(PRODUCT).unwrap().document)),
    ] {
        assert!(matches!(error, VerifyError::Threshold { valid: 0, .. }), "{error}");
    }
}

#[test]
fn a_device_interrupted_between_timestamp_and_snapshot_goes_on() {
    let sample = Sample::new();
    let mut device = sample.current_device();
    let next = sample.next();
    device.update_timestamp(&next.timestamp_bytes(), now()).unwrap();
    let mut again = restarted(&device);
    assert_eq!((again.timestamp_version(), again.snapshot_version()), (Some(2), Some(1)));
    next.refresh(&mut again, now()).unwrap();
    assert!(finds(&again, &path("2.4.1"), now()));
}

#[test]
fn keys_that_no_role_names_are_written_back() {
    let mut top = top(1, Vec::new());
    let key = holders(PRODUCT_ROLE).remove(0).public().clone();
    top.delegation_keys.insert(key.keyid().to_owned(), key);
    assert_eq!(TargetsMetadata::from_json("targets", &top.to_json(), &limits()), Ok(top));
}
