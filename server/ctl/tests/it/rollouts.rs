//! Rollouts: made, moved, followed.

use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::script::{Exchange, answer, answer_with, problem, run};

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
        "attempts": { "healthy": 3, "failed": 1, "superseded": 2 }, "failures": { "out_of_space": 1 },
        "patches": { "ready": ready, "not_worth": 1, "pending": pending, "parked": 0 },
    })
}

/// Whom the rollout is for.
fn audience() -> Exchange {
    let count = json!({
        "devices": 3, "by_hardware": { "cam-r3": 3 }, "by_version": { "1.0.0": 3 }, "entitled": 2,
        "warnings": ["nobody knows tag b"],
    });
    answer("GET /api/v1/rollouts/spring/audience", 200, &count)
}

#[test]
fn a_count_that_fails_takes_nothing_back() {
    let request = "GET /api/v1/rollouts/spring/audience";
    let older = problem(request, sluice_catalog::Kind::NotFound, "there is no page");
    let arguments =
        ["rollout", "create", "spring", "--product", "acme-cam", "--version", "2.0.0", "--preset", "normal"];
    let made = answer("POST /api/v1/rollouts", 201, &detail("draft", 0, 0, 0));
    assert_snapshot!(run(&arguments, vec![made, older]).text());
}

#[test]
fn a_program_is_not_kept_waiting_for_a_count() {
    let arguments =
        ["rollout", "create", "spring", "--product", "acme-cam", "--version", "2.0.0", "--preset", "normal", "--json"];
    let made = answer("POST /api/v1/rollouts", 201, &detail("draft", 0, 0, 0));
    assert_eq!(run(&arguments, vec![made]).json()["rollout"]["name"], "spring");
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
        vec![answer("POST /api/v1/rollouts", 201, &detail("draft", 0, 0, 0)), audience()],
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
        let mut script = vec![answer("POST /api/v1/rollouts/spring/move", 200, &detail("running", 1, 2, 0))];
        // A plan that starts without approvals is counted then; what goes on was.
        script.extend((action == "start").then(audience));
        let run = run(&["rollout", action, "spring", "--from-stage", "0", "--cause", "looks good"], script);
        assert_eq!(run.seen[0].body, json!({ "action": action, "from_stage": 0, "cause": "looks good" }));
        assert_eq!(run.stdout, "rollout spring is running, stage 1 of 1: 100 %\n");
    }
}

#[test]
fn figures_are_shown_as_a_table_and_as_csv() {
    let point = |at: &str, begun: u64| {
        json!({"at": at, "state": "running", "stage": 0, "reach": 1050,
        "devices": {"begun": begun, "healthy": 3}, "bytes": {"sent": 1000, "saved": 5}})
    };
    let points = [point("2027-01-01T00:00:00Z", 4), point("2027-01-01T00:05:00Z", 5)];
    let request = "GET /api/v1/rollouts/spring/series?from=2027-01-01T00%3A00%3A00Z&limit=500";
    let script = || vec![answer(request, 200, &json!({"items": points, "next": null}))];
    let arguments = ["rollout", "series", "spring", "--from", "2027-01-01"];
    assert_snapshot!(run(&arguments, script()).text());
    assert_snapshot!(run(&[&arguments[..], &["--csv"]].concat(), script()).text());
    assert_eq!(run(&[&arguments[..], &["--json"]].concat(), script()).json()["items"][1]["devices"]["begun"], 5);
}

#[test]
fn failures_are_told_with_the_end_of_their_logs() {
    let failure = |seq: i32, more: Value| {
        let mut failure = json!({
            "device_id": "01980000-0000-7000-8000-000000000003", "serial": "CAM-1", "hw_id": "cam-r3", "seq": seq,
            "state": "rolled_back", "failure": "check_failed", "changed_at": "2027-01-01T00:00:00Z",
        });
        failure.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        failure
    };
    let page = json!({"items": [
        failure(2, json!({"detail": "boot_check /usr/bin/probe: exit status: 3", "log": "eth0: no link\n\tgiving up\u{7}\n"})),
        failure(1, json!({"failure": null})),
    ]});
    let request = "GET /api/v1/rollouts/spring/failures?limit=500";
    assert_snapshot!(run(&["rollout", "failures", "spring"], vec![answer(request, 200, &page)]).text());
    let of_code = ["rollout", "failures", "spring", "--failure", "check_failed", "--json"];
    let asked = answer("GET /api/v1/rollouts/spring/failures?failure=check_failed&limit=500", 200, &page);
    let told = run(&of_code, vec![asked]).json();
    assert_eq!(told["items"][0]["log"], "eth0: no link\n\tgiving up\u{7}\n");
    let none = answer(request, 200, &json!({"items": []}));
    assert_eq!(run(&["rollout", "failures", "spring"], vec![none]).stdout, "no failures\n");
}

/// A server that has no live view.
fn no_live_view() -> Exchange {
    problem(LIVE, sluice_catalog::Kind::NotFound, "there is no page")
}

const LIVE: &str = "GET /api/v1/rollouts/spring/live";

fn event(id: &str, state: &str, stage: i32, healthy: u64) -> String {
    let live = json!({
        "at": "2027-01-01T00:00:00Z", "name": "spring", "product": "acme-cam", "version": "2.0.0", "state": state, "stage": stage,
        "stages": [{ "percent": 10 }, { "percent": 100 }], "reach": 1000, "devices": { "begun": 4, "healthy": healthy },
        "waits": { "kind": "nothing" }, "completes_at": null,
    });
    format!("id: {id}\nevent: state\ndata: {live}\n\n:\n\n")
}

#[test]
fn watch_tells_every_change_and_goes_on_where_a_stream_was_cut() {
    let cut = "id: 3\nevent: state\ndata: {\"at\": \"20";
    let script = || {
        vec![
            answer_with(LIVE, 200, "", &format!("{}{}{cut}", event("1", "running", 0, 1), event("2", "running", 0, 3))),
            problem(LIVE, sluice_catalog::Kind::Unavailable, "the server stops"),
            answer_with(LIVE, 200, "", &event("3", "done", 1, 4)),
        ]
    };
    let arguments = ["rollout", "watch", "spring"];
    let shown = run(&arguments, script());
    assert_snapshot!(shown.text());
    let seen: Vec<_> = shown.seen.iter().map(|one| one.last_event_id.as_deref()).collect();
    assert_eq!(seen, [None, Some("2"), Some("2")]);
    let json = run(&[&arguments[..], &["--json"]].concat(), script());
    let states: Vec<Value> = json.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told: Vec<_> =
        states.iter().map(|state| (state["state"].as_str().unwrap(), state["devices"]["healthy"].as_u64())).collect();
    assert_eq!(told, [("running", Some(1)), ("running", Some(3)), ("done", Some(4))]);
    assert_eq!((json.code, json.stderr.as_str()), (0, ""));
}

#[test]
fn watch_says_so_when_a_server_tells_nothing() {
    let nothing = || answer_with(LIVE, 200, "", ":\n\n");
    let script = vec![nothing(), nothing(), nothing(), answer_with(LIVE, 200, "", &event("1", "done", 1, 4))];
    let shown = run(&["rollout", "watch", "spring"], script);
    assert_eq!(shown.code, 0, "{}", shown.text());
    let said = shown.stderr.matches("tells nothing of rollout spring").count();
    assert_eq!(said, 1, "{}", shown.stderr);
}

#[test]
fn a_live_watch_ends_by_the_outcome_as_well() {
    let watch = |until: &str, state: &str| {
        let script = vec![answer_with(LIVE, 200, "", &event("1", state, 0, 1))];
        run(&["rollout", "watch", "spring", "--until", until], script).code
    };
    assert_eq!(watch("running", "done"), 0, "it has run");
    assert_eq!(watch("paused", "paused"), 0);
    assert_eq!(watch("running", "halted"), 1);
    let denied = vec![problem(LIVE, sluice_catalog::Kind::Forbidden, "no")];
    assert_eq!(
        run(&["rollout", "watch", "spring"], denied).code,
        i32::from(sluice_catalog::Kind::Forbidden.exit_code())
    );
}

#[test]
fn watch_ends_when_the_patches_stand() {
    let script = vec![
        no_live_view(),
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
    let late = run(&arguments, vec![no_live_view(), look("preparing"), look("preparing")]);
    assert_eq!(late.code, 6, "{}", late.text());
    let never = run(&arguments, vec![no_live_view(), look("halted")]);
    assert_eq!(never.code, 1, "{}", never.text());
}
