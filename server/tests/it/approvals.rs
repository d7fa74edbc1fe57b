//! Approvals of plans: who may sign, what an edit voids, who counts no more.

use std::thread;

use ed25519_dalek::{Signer as _, SigningKey};
use serde_json::{Value, json};
use sluice_catalog::Kind;
use sluice_catalog::rollout::{RolloutState, approval_message};
use sluice_catalog::wire::rollout::RolloutDetail;

use crate::harness::{Client, Engine, World};
use crate::staging::plan;

both_engines!(
    a_plan_needs_two_others_and_an_edit_voids_what_they_signed,
    an_approver_who_lost_account_or_key_counts_no_more,
    two_who_approve_at_once_count_each_other,
);

/// Someone who stages rollouts, with a key that is enrolled.
fn approver(world: &World, name: &str, seed: u8) -> (Client, SigningKey) {
    let client = world.principal(name, "rollout_admin");
    let key = SigningKey::from_bytes(&[seed; 32]);
    let path = format!("/api/v1/principals/{name}/approver-keys");
    let body = json!({"public_key": hex::encode(key.verifying_key().as_bytes())});
    world.admin.post(&path, &body).expect(201);
    world.admin.post(&path, &body).expect(200);
    (client, key)
}

fn approval(detail: &RolloutDetail, key: &SigningKey) -> Value {
    let digest = detail.rollout.plan_digest(&detail.product, &detail.version);
    json!({
        "digest": digest,
        "public_key": hex::encode(key.verifying_key().as_bytes()),
        "signature": hex::encode(key.sign(&approval_message(digest)).to_bytes()),
    })
}

const APPROVALS: &str = "/api/v1/rollouts/spring/approvals";

fn a_plan_needs_two_others_and_an_edit_voids_what_they_signed(engine: Engine) {
    let mut world = World::new(engine);
    world.two_releases();
    let (ann, ann_key) = approver(&world, "ann", 1);
    let (bob, bob_key) = approver(&world, "bob", 2);
    let (cat, cat_key) = approver(&world, "cat", 3);
    let written = plan(json!({"approvals": 2}));
    ann.post("/api/v1/rollouts", &written).expect(201);
    let move_to = |action: &str| ann.post("/api/v1/rollouts/spring/move", &json!({"action": action}));
    move_to("start").refused(Kind::WrongState);
    let draft = world.rollout("spring");
    bob.post(APPROVALS, &approval(&draft, &bob_key)).refused(Kind::WrongState);
    move_to("submit").expect(200);
    let review = world.rollout("spring");
    assert_eq!((review.rollout.state, review.rollout.author.as_str()), (RolloutState::Review, "ann"));
    assert_eq!(review.digest, draft.digest, "a move is no edit");
    world.server.unchanged(|| {
        ann.post(APPROVALS, &approval(&review, &ann_key)).refused(Kind::Forbidden);
        bob.post(APPROVALS, &approval(&review, &cat_key)).refused(Kind::Forbidden);
        let mut forged = approval(&review, &bob_key);
        forged["signature"] = approval(&review, &cat_key)["signature"].clone();
        bob.post(APPROVALS, &forged).refused(Kind::Unauthenticated);
        let mut other = approval(&review, &bob_key);
        other["digest"] = json!("0".repeat(64));
        bob.post(APPROVALS, &other).refused(Kind::Conflict);
        move_to("start").refused(Kind::WrongState);
        world.principal_path_is_not_ones_own(&bob);
    });
    let one: RolloutDetail = bob.post(APPROVALS, &approval(&review, &bob_key)).expect(200).json();
    assert_eq!((one.rollout.state, one.approvals.len()), (RolloutState::Review, 1));
    let again: RolloutDetail = bob.post(APPROVALS, &approval(&review, &bob_key)).expect(200).json();
    assert_eq!(again.approvals.len(), 1, "the same person twice is one");
    let two: RolloutDetail = cat.post(APPROVALS, &approval(&review, &cat_key)).expect(200).json();
    assert_eq!((two.rollout.state, two.approvals.len()), (RolloutState::Approved, 2));
    // An edit, and what they signed is another plan's.
    let mut edited = written.clone();
    edited["rules"]["mature"] = json!("31m");
    let put = |plan: &Value| ann.put_json("/api/v1/rollouts/spring", plan);
    let draft: RolloutDetail = put(&edited).expect(200).json();
    assert_eq!((draft.rollout.state, draft.approvals.len()), (RolloutState::Draft, 0));
    assert_ne!(draft.digest, two.digest);
    world.server.unchanged(|| put(&edited).expect(200));
    move_to("start").refused(Kind::WrongState);
    move_to("submit").expect(200);
    bob.post(APPROVALS, &approval(&two, &bob_key)).refused(Kind::Conflict);
    // Back to the plan that was approved: it is approved by those who signed it, and by nobody else.
    let draft: RolloutDetail = put(&written).expect(200).json();
    assert_eq!((draft.rollout.state, draft.digest), (RolloutState::Draft, two.digest));
    move_to("submit").expect(200);
    let review = world.rollout("spring");
    assert_eq!(review.rollout.state, RolloutState::Review);
    for (client, key) in [(&bob, &bob_key), (&cat, &cat_key)] {
        client.post(APPROVALS, &approval(&review, key)).expect(200);
    }
    // Whoever edits is the author from then on, and approves no more.
    let by_bob: RolloutDetail = bob.put_json("/api/v1/rollouts/spring", &edited).expect(200).json();
    assert_eq!(by_bob.rollout.author, "bob");
}

impl World {
    /// Nobody enrols a key for themselves, and only an administrator for others.
    fn principal_path_is_not_ones_own(&self, other: &Client) {
        let body = json!({"public_key": hex::encode(SigningKey::from_bytes(&[9; 32]).verifying_key().as_bytes())});
        self.admin.post("/api/v1/principals/root-admin/approver-keys", &body).refused(Kind::Forbidden);
        other.post("/api/v1/principals/bob/approver-keys", &body).refused(Kind::Forbidden);
    }
}

fn an_approver_who_lost_account_or_key_counts_no_more(engine: Engine) {
    let mut world = World::new(engine);
    world.two_releases();
    let (bob, bob_key) = approver(&world, "bob", 2);
    let (cat, cat_key) = approver(&world, "cat", 3);
    world.admin.post("/api/v1/rollouts", &plan(json!({"approvals": 2}))).expect(201);
    world.move_rollout("spring", "submit").expect(200);
    let review = world.rollout("spring");
    bob.post(APPROVALS, &approval(&review, &bob_key)).expect(200);
    cat.post(APPROVALS, &approval(&review, &cat_key)).expect(200);
    assert_eq!(world.rollout("spring").rollout.state, RolloutState::Approved);
    let key = hex::encode(bob_key.verifying_key().as_bytes());
    world.admin.delete(&format!("/api/v1/approvers/{key}")).expect(204);
    world.server.unchanged(|| world.move_rollout("spring", "start").refused(Kind::WrongState));
    let counts: Vec<bool> = world.rollout("spring").approvals.iter().map(|approval| approval.counts).collect();
    assert_eq!(counts, [false, true]);
    world.admin.post("/api/v1/principals/cat/disable", &json!({})).expect(200);
    assert!(world.rollout("spring").approvals.iter().all(|approval| !approval.counts));
    world.move_rollout("spring", "start").refused(Kind::WrongState);
}

fn two_who_approve_at_once_count_each_other(engine: Engine) {
    let mut world = World::new(engine);
    world.two_releases();
    let people = [approver(&world, "bob", 2), approver(&world, "cat", 3)];
    world.admin.post("/api/v1/rollouts", &plan(json!({"approvals": 2}))).expect(201);
    world.move_rollout("spring", "submit").expect(200);
    let review = world.rollout("spring");
    thread::scope(|scope| {
        for (client, key) in &people {
            let signed = approval(&review, key);
            scope.spawn(move || client.post(APPROVALS, &signed).expect(200));
        }
    });
    let approved = world.rollout("spring");
    assert_eq!((approved.rollout.state, approved.approvals.len()), (RolloutState::Approved, 2));
}
