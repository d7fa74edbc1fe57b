//! Lists: pages are followed, the limit holds, tables and JSON.

use insta::assert_snapshot;
use serde_json::{Value, json};
use sluice_catalog::audit::chain_hash;
use sluice_catalog::{Digest, Time};

use crate::script::{answer, run};

fn customer(number: u32) -> Value {
    json!({
        "id": format!("01980000-0000-7000-8000-{number:012}"), "name": format!("customer-{number}"),
        "title": format!("Customer {number}"), "created_at": "2026-01-01T00:00:00Z",
    })
}

#[test]
fn pages_are_followed_to_the_end() {
    let run = run(
        &["customer", "list"],
        vec![
            answer("GET /api/v1/customers?limit=500", 200, &json!({ "items": [customer(1)], "next": "c 1" })),
            answer("GET /api/v1/customers?after=c%201&limit=500", 200, &json!({ "items": [customer(2)] })),
        ],
    );
    assert_snapshot!(run.text());
}

#[test]
fn the_limit_holds_and_more_is_told() {
    let run_limited = run(
        &["customer", "list", "--limit", "1"],
        vec![answer("GET /api/v1/customers?limit=1", 200, &json!({ "items": [customer(1)], "next": "c1" }))],
    );
    assert_snapshot!(run_limited.text());
    let run_json = run(
        &["--json", "customer", "list", "--limit", "1", "--after", "c0"],
        vec![answer("GET /api/v1/customers?after=c0&limit=1", 200, &json!({ "items": [customer(1)], "next": "c1" }))],
    );
    assert_eq!(run_json.json(), json!({ "items": [customer(1)], "next": "c1" }));
    assert_eq!(run_json.stderr, "");
}

#[test]
fn a_server_that_repeats_its_cursor_is_not_asked_for_ever() {
    let page = json!({ "items": [customer(1)], "next": "same" });
    let run = run(
        &["customer", "list"],
        vec![
            answer("GET /api/v1/customers?limit=500", 200, &page),
            answer("GET /api/v1/customers?after=same&limit=500", 200, &page),
        ],
    );
    assert_eq!(run.code, 0, "{}", run.text());
}

#[test]
fn filters_travel_in_the_query() {
    let empty = json!({ "items": [] });
    let run_devices = run(
        &["device", "list", "--product", "cam", "--state", "pending"],
        vec![answer("GET /api/v1/devices?product=cam&state=pending&limit=500", 200, &empty)],
    );
    assert_snapshot!(run_devices.text());
    let run_jobs = run(
        &["job", "list", "--state", "parked", "--limit", "7"],
        vec![answer("GET /api/v1/jobs?state=parked&limit=7", 200, &empty)],
    );
    assert_eq!(run_jobs.code, 0);
}

#[test]
fn what_is_held_is_listed_and_dropped() {
    let held = |refused: Value| {
        let mut held = json!({
            "role": "embargo-0123456789abcdef", "version": 2, "product": "acme-cam", "not_before": "2026-12-01T09:00:00Z",
            "releases": ["2.4.9", "2.5.0"], "held_at": "2026-11-01T00:00:00Z", "held_by": "release-desk",
        });
        if !refused.is_null() {
            held["refused"] = refused;
        }
        held
    };
    let items = json!({ "items": [held(Value::Null), held("the order is taken".into())] });
    let run_list = run(&["held", "list"], vec![answer("GET /api/v1/held?limit=500", 200, &items)]);
    assert_snapshot!(run_list.text());
    let gone = answer("DELETE /api/v1/held/embargo-0123456789abcdef", 204, &Value::Null);
    let run_drop = run(&["held", "drop", "embargo-0123456789abcdef"], vec![gone]);
    assert_snapshot!(run_drop.text());
}

/// A log, as the server answers it.
fn log(length: i64) -> Vec<Value> {
    let mut prev = Digest([0; 32]);
    (1..=length)
        .map(|seq| {
            let at = Time::EPOCH.plus_s(seq);
            let hash = chain_hash(prev, seq, at, "admin", "customer.create", "customer:acme", "{}");
            let entry = json!({
                "seq": seq, "at": at, "actor": "admin", "action": "customer.create", "subject": "customer:acme",
                "detail": "{}", "prev_hash": prev, "hash": hash,
            });
            prev = hash;
            entry
        })
        .collect()
}

#[test]
fn the_audit_chain_is_computed_over_all_pages() {
    let entries = log(3);
    let pages = |second: &[Value]| {
        vec![
            answer("GET /api/v1/audit?limit=500", 200, &json!({ "items": entries[..2], "next": "2" })),
            answer("GET /api/v1/audit?after=2&limit=500", 200, &json!({ "items": second })),
        ]
    };
    assert_snapshot!(run(&["audit", "verify"], pages(&entries[2..])).text());

    let mut altered = entries[2].clone();
    altered["actor"] = json!("intruder");
    let run_altered = run(&["audit", "verify"], pages(&[altered]));
    assert_eq!(run_altered.code, 1);
    assert_snapshot!(run_altered.text());
}
