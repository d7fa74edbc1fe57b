//! Rollouts: made, moved, followed.

use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::script::{answer, run};

fn detail(state: &str, stage: i32, ready: i64, pending: i64) -> Value {
    json!({
        "product": "acme-cam", "version": "2.0.0",
        "rollout": {
            "id": "01980000-0000-7000-8000-000000000001", "release_id": "01980000-0000-7000-8000-000000000002",
            "name": "spring", "state": state, "salt": "s", "weight": 5, "stages": [{ "percent": 10 }, { "percent": 100 }],
            "stage": stage, "selector": { "serials": [], "customers": ["acme"], "sites": [], "tags": ["a", "b"], "hw_ids": [] },
            "created_at": "2026-01-01T00:00:00Z",
        },
        "transitions": [
            { "at": "2026-01-01T00:00:00Z", "actor": "admin", "state": "draft", "stage": 0, "cause": "created" },
        ],
        "attempts": { "healthy": 3, "failed": 1, "superseded": 2 },
        "patches": { "ready": ready, "not_worth": 1, "pending": pending, "parked": 0 },
    })
}

#[test]
fn a_rollout_is_created_with_stages_and_audience() {
    let run = run(
        &[
            "rollout",
            "create",
            "spring",
            "--product",
            "acme-cam",
            "--version",
            "2.0.0",
            "--stages",
            "10,100",
            "--customer",
            "acme",
            "--tag",
            "a",
            "--tag",
            "b",
            "--weight",
            "-5",
        ],
        vec![answer("POST /api/v1/rollouts", 201, &detail("draft", 0, 0, 0))],
    );
    assert_eq!(
        run.seen[0].body,
        json!({
            "name": "spring", "product": "acme-cam", "version": "2.0.0",
            "stages": [{ "percent": 10 }, { "percent": 100 }],
            "selector": { "serials": [], "customers": ["acme"], "sites": [], "tags": ["a", "b"], "hw_ids": [] },
            "weight": -5,
        })
    );
    assert_snapshot!(run.text());
}

#[test]
fn a_rollout_is_shown_with_its_history() {
    let script = vec![answer("GET /api/v1/rollouts/spring", 200, &detail("running", 1, 2, 0))];
    assert_snapshot!(run(&["rollout", "show", "spring"], script).text());
}

#[test]
fn each_move_says_what_it_saw_and_why() {
    for action in ["start", "advance", "pause", "resume", "halt"] {
        let run = run(
            &["rollout", action, "spring", "--from-stage", "0", "--cause", "looks good"],
            vec![answer("POST /api/v1/rollouts/spring/move", 200, &detail("running", 1, 2, 0))],
        );
        assert_eq!(run.seen[0].body, json!({ "action": action, "from_stage": 0, "cause": "looks good" }));
        assert_eq!(run.stdout, "rollout spring is running, stage 1 of 1: 100 %\n");
    }
}

#[test]
fn watch_ends_when_the_patches_stand() {
    let script = vec![
        answer("GET /api/v1/rollouts/spring", 200, &detail("preparing", 0, 0, 2)),
        answer("GET /api/v1/rollouts/spring", 200, &detail("running", 0, 2, 0)),
    ];
    let run = run(&["rollout", "watch", "spring", "--until", "running"], script);
    assert_snapshot!(run.text());
}

#[test]
fn watch_gives_up_when_told_to_or_when_it_cannot_happen() {
    let look = |state: &str| answer("GET /api/v1/rollouts/spring", 200, &detail(state, 0, 0, 2));
    let arguments = ["rollout", "watch", "spring", "--until", "running", "--timeout", "1"];
    let late = run(&arguments, vec![look("preparing"), look("preparing")]);
    assert_eq!(late.code, 6, "{}", late.text());
    let never = run(&arguments, vec![look("halted")]);
    assert_eq!(never.code, 1, "{}", never.text());
}
