//! `uptane` with delegated roles: those of the public vectors, and nested ones.

use crate::uptane::{accepts, refuses};
use crate::vectors::{Delegated, Vector};

fn delegated(change: impl FnOnce(&mut Delegated)) -> impl FnOnce(&mut Vector) {
    |vector| {
        let mut child = Delegated::new("foo", "targets");
        change(&mut child);
        vector.image.images.clear();
        vector.image.delegated.push(child);
    }
}

#[test]
fn a_delegated_role_may_speak_for_the_image() {
    let report = accepts(delegated(|_| {}));
    assert_eq!(report["ecus"][0]["role"], "foo");
    accepts(delegated(|child| child.paths = vec!["other", "f*.txt"]));
    accepts(delegated(|child| {
        child.role.keys = vec![6, 7];
        child.role.signers = vec![6, 7];
    }));
    // One that is not needed is not even fetched.
    accepts(|vector| {
        let mut child = Delegated::new("foo", "targets");
        child.role.signers.clear();
        vector.image.delegated.push(child);
    });
}

#[test]
fn a_delegated_role_must_hold_as_every_other() {
    let none = "no role that may speak for it lists file.txt";
    refuses("unsigned", "foo: 0 of 1 required", delegated(|child| child.role.signers.clear()));
    refuses("expired", "foo: expired at 2017", delegated(|child| child.role.expired = true));
    refuses("threshold not met", "foo: 1 of 2 required", delegated(|child| child.role.lacks_one()));
    refuses("threshold zero", "an integer of one or more", delegated(|child| child.role.threshold = Some(0)));
    refuses("wrong key ids", "foo: 0 of 1 required", delegated(|child| child.role.wrong_ids = true));
    refuses("no key", "foo: 0 of 1 required", delegated(|child| child.keys_listed = false));
    refuses("signed twice", "one signature for each", delegated(|child| child.role.signers = vec![6, 6]));
    refuses("not served", "foo: the repository has no delegations/foo.json", delegated(|child| child.served = false));
    refuses("not in the snapshot", none, delegated(|child| child.in_snapshot = false));
    refuses("version", "foo: expected version 2, found 1", delegated(|child| child.snapshot_version = 2));
    refuses("empty", none, delegated(|child| child.images.clear()));
    refuses("another path", none, delegated(|child| child.paths = vec!["does-not-match"]));
    refuses("prefix only", none, delegated(|child| child.paths = vec!["folder/*"]));
    refuses("digest", "director says SHA-256", delegated(|child| child.images[0].wrong_hash = true));
}

#[test]
fn delegations_nest_and_a_terminating_one_ends_the_search() {
    let nested = |terminating: bool| {
        move |vector: &mut Vector| {
            vector.image.images.clear();
            let mut outer = Delegated::new("outer", "targets");
            outer.images.clear();
            outer.terminating = terminating;
            let mut inner = Delegated::new("inner", "outer");
            inner.role.keys = vec![7];
            inner.role.signers = vec![7];
            vector.image.delegated = vec![outer, inner];
        }
    };
    assert_eq!(accepts(nested(false))["ecus"][0]["role"], "inner");
    assert_eq!(accepts(nested(true))["ecus"][0]["role"], "inner", "what it delegates itself is still searched");
    let siblings = |terminating: bool| {
        move |vector: &mut Vector| {
            vector.image.images.clear();
            let mut first = Delegated::new("first", "targets");
            first.images.clear();
            first.terminating = terminating;
            vector.image.delegated = vec![first, Delegated::new("second", "targets")];
        }
    };
    assert_eq!(accepts(siblings(false))["ecus"][0]["role"], "second");
    refuses("terminating", "no role that may speak for it", siblings(true));
}
