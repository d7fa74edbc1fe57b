//! What the commands send, and how the answers read.

use std::fs;

use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::script::{answer, problem, run, run_in};

const AT: &str = "2026-01-01T00:00:00Z";

fn id(number: u32) -> String {
    format!("01980000-0000-7000-8000-{number:012}")
}

fn product() -> Value {
    json!({
        "id": id(1), "name": "acme-cam", "title": "Acme Cam", "family": "cam", "pid": "9217",
        "visibility": "gated", "created_at": AT,
    })
}

fn device() -> Value {
    json!({
        "id": id(2), "product_id": id(1), "serial": "C+1", "hw_id": "cam-r3", "customer_id": null, "site": "hall",
        "tags": ["lobby"], "state": "active", "public_key": "00", "epoch": 3, "signing_epoch": 1, "cohort_id": id(3), "channel": "stable",
        "confirmed_train": "1.0", "attempt_seq": 1, "profile": "default", "ram_budget": 33_554_432,
        "scratch_budget": 0, "patches_off": false, "created_at": AT,
    })
}

#[test]
fn a_product_is_created_and_a_repetition_is_success() {
    let arguments = &["product", "create", "acme-cam", "--title", "Acme Cam", "--family", "cam", "--pid", "9217"];
    let first = run(arguments, vec![answer("POST /api/v1/products", 201, &product())]);
    assert_eq!(first.seen[0].authorization.as_deref(), Some("Bearer secret-token"));
    assert_eq!(
        first.seen[0].body,
        json!({ "name": "acme-cam", "title": "Acme Cam", "family": "cam", "pid": "9217", "visibility": "gated" })
    );
    assert_snapshot!(first.text());
    let again = run(arguments, vec![answer("POST /api/v1/products", 200, &product())]);
    assert_snapshot!(again.text());
}

#[test]
fn a_product_is_shown_as_fields_and_as_json() {
    let script = || vec![answer("GET /api/v1/products/acme-cam", 200, &product())];
    assert_snapshot!(run(&["product", "show", "acme-cam"], script()).text());
    assert_eq!(run(&["product", "show", "acme-cam", "--json"], script()).json(), product());
}

#[test]
fn a_device_is_moved_and_what_is_not_named_is_not_sent() {
    let at = "PATCH /api/v1/products/acme-cam/devices/C%2B1";
    let moved =
        run(&["device", "set", "acme-cam", "C+1", "--site", "hall", "--no-mac"], vec![answer(at, 200, &device())]);
    assert_eq!(moved.seen[0].body, json!({ "site": "hall", "mac": null }));
    assert_snapshot!(moved.text());
    let labelled = run(
        &["device", "set", "acme-cam", "C+1", "--tag", "a", "--tag", "b", "--mac", "001B44113AB7", "--no-site"],
        vec![answer(at, 200, &device())],
    );
    let sent = json!({ "site": null, "tags": ["a", "b"], "mac": "00:1b:44:11:3a:b7" });
    assert_eq!(labelled.seen[0].body, sent);
    assert_snapshot!(run(&["device", "set", "acme-cam", "C+1"], vec![]).text());
}

#[test]
fn a_train_is_told_with_the_end_of_its_support() {
    let train = |end: Value| json!({ "product_id": id(1), "name": "1.0", "ga_at": AT, "support_end": end });
    let page = json!({ "items": [train(Value::Null), train(json!("2027-01-01T00:00:00Z"))], "next": null });
    let listed =
        run(&["train", "list", "acme-cam"], vec![answer("GET /api/v1/products/acme-cam/trains?limit=500", 200, &page)]);
    assert_snapshot!(listed.text());
    let at = "PUT /api/v1/products/acme-cam/trains/1.0/support-end";
    let said = run(
        &["train", "support-end", "acme-cam", "1.0", "2027-01-01"],
        vec![answer(at, 200, &train(json!("2027-01-01T00:00:00Z")))],
    );
    assert_eq!(said.seen[0].body, json!({ "support_end": "2027-01-01T00:00:00Z" }));
    assert_snapshot!(said.text());
    let unknown =
        run(&["train", "support-end", "acme-cam", "1.0", "--unknown"], vec![answer(at, 200, &train(Value::Null))]);
    assert_eq!(unknown.seen[0].body, json!({ "support_end": null }));
    assert_snapshot!(unknown.text());
}

#[test]
fn releases_are_listed_with_what_they_require() {
    let release = json!({
        "product": "acme-cam",
        "release": {
            "id": id(4), "product_id": id(1), "version": "2.0.0", "order": 20, "kind": "feature", "train": "2.0",
            "requires": ["FW.CAM.MAJOR"], "channel": "stable", "advisories": [], "notes_header": "Better pictures",
            "notes_body": "", "published_at": AT, "withdrawn_at": null, "signing_epoch": 1,
        },
        "train_ga": "2026-03-01T00:00:00Z",
        "artifacts": [{
            "id": id(5), "release_id": id(4), "component": "main", "hw_ids": ["cam-r3"],
            "path": "acme-cam/2.0.0/main.bin", "sha256": "ab".repeat(32), "length": 4_194_304, "security_counter": 7,
            "min_installed": null, "min_installed_order": null,
        }],
    });
    let list = vec![answer("GET /api/v1/products/acme-cam/releases?limit=500", 200, &json!({ "items": [release] }))];
    assert_snapshot!(run(&["release", "list", "acme-cam"], list).text());
    let show = vec![answer("GET /api/v1/products/acme-cam/releases/2.0.0", 200, &release)];
    assert_snapshot!(run(&["release", "show", "acme-cam", "2.0.0"], show).text());
}

#[test]
fn a_plan_carries_rule_grace_and_grants() {
    let plan = json!({
        "id": id(6), "name": "poly-plus", "rule": "train-ga", "grace_days": 30, "created_at": AT,
        "grants": [{ "code": "FW.CAM.MAJOR", "family": "cam", "channel_ceiling": "beta" }],
    });
    let arguments =
        &["plan", "create", "poly-plus", "--grace-days", "30", "--grant", "FW.CAM.MAJOR@cam:beta", "--grant", "FW.ALL"];
    let run_create = run(arguments, vec![answer("POST /api/v1/plans", 201, &plan)]);
    assert_eq!(
        run_create.seen[0].body,
        json!({
            "name": "poly-plus", "rule": "train-ga", "grace_days": 30, "grants": [
                { "code": "FW.CAM.MAJOR", "family": "cam", "channel_ceiling": "beta" },
                { "code": "FW.ALL", "family": null, "channel_ceiling": "stable" },
            ],
        })
    );
    let list = vec![answer("GET /api/v1/plans?limit=500", 200, &json!({ "items": [plan] }))];
    assert_snapshot!(run(&["plan", "list"], list).text());
}

#[test]
fn a_contract_takes_items_from_arguments_and_from_a_file() {
    let contract = json!({
        "id": id(7), "customer_id": id(8), "number": "K-1", "plan_id": id(6), "state": "active", "created_at": AT,
        "customer": "acme", "plan": "poly-plus",
        "windows": [{
            "id": id(9), "contract_id": id(7), "from_at": AT, "to_at": "2027-01-01T00:00:00Z", "kind": "warranty",
            "recorded_at": AT, "superseded_at": null,
        }],
        "items": [{
            "id": id(10), "contract_id": id(7), "product": "acme-cam", "serial": "C+1", "from_at": AT,
            "to_at": "2028-01-01T00:00:00Z", "recorded_at": AT, "superseded_at": null,
        }],
    });
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("items");
    fs::write(&file, "acme-cam/C2\n\n  acme-cam/C3@2026-01-01..2026-02-01\n").unwrap();
    let run_create = run_in(
        home.path(),
        &[("SLUICE_TOKEN", "t")],
        &[
            "contract",
            "create",
            "K-1",
            "--customer",
            "acme",
            "--plan",
            "poly-plus",
            "--window",
            "2026-01-01..2027-01-01:warranty",
            "--item",
            "acme-cam/C+1",
            "--items-from",
            file.to_str().unwrap(),
        ],
        vec![answer("POST /api/v1/contracts", 201, &contract)],
    );
    let body = &run_create.seen[0].body;
    assert_eq!(body["windows"], json!([{ "from": AT, "to": "2027-01-01T00:00:00Z", "kind": "warranty" }]));
    let serials: Vec<&str> =
        body["items"].as_array().unwrap().iter().map(|item| item["serial"].as_str().unwrap()).collect();
    assert_eq!(serials, ["C+1", "C2", "C3"]);
    assert_snapshot!(run_create.text());

    fs::write(&file, "acme-cam/C2\nnonsense\n").unwrap();
    let run_bad = run_in(
        home.path(),
        &[("SLUICE_TOKEN", "t")],
        &["contract", "add", "K-1", "--items-from", file.to_str().unwrap()],
        vec![],
    );
    assert_eq!(run_bad.code, 2);
    assert!(run_bad.stderr.contains("line 2"), "{}", run_bad.stderr);
}

#[test]
fn a_device_is_shown_with_its_attempts_and_its_serial_is_escaped() {
    let detail = json!({
        "product": "acme-cam", "device": device(),
        "installed": [
            { "component": "main", "version": "1.0.0", "sha256": "cd".repeat(32), "security_counter": 1 },
        ],
        "last_seen_at": "2026-01-02T03:04:05Z",
        "attempts": [{
            "device_id": id(2), "seq": 1, "release_id": id(4), "rollout_id": id(11), "state": "failed",
            "failure": "delta_mismatch", "encoding": "patch", "bytes": 1234, "offered_at": AT, "began_at": AT,
            "changed_at": AT, "detail": "segment 3 is damaged", "log": "one\n\ttwo\u{1b}[2J\n",
        }],
    });
    let script = vec![answer("GET /api/v1/products/acme-cam/devices/C%2B1", 200, &detail)];
    assert_snapshot!(run(&["device", "show", "acme-cam", "C+1"], script).text());
}

#[test]
fn devices_are_listed_with_their_products_names() {
    let script = vec![
        answer("GET /api/v1/products?limit=500", 200, &json!({ "items": [product()] })),
        answer("GET /api/v1/devices?limit=500", 200, &json!({ "items": [device()] })),
    ];
    assert_snapshot!(run(&["device", "list"], script).text());
}

#[test]
fn a_devices_state_is_changed_and_its_sessions_revoked() {
    for (command, state) in [("accept", "active"), ("block", "blocked"), ("retire", "retired")] {
        let script = vec![answer("POST /api/v1/products/acme-cam/devices/C1/state", 200, &device())];
        let run = run(&["device", command, "acme-cam", "C1"], script);
        assert_eq!(run.seen[0].body, json!({ "state": state }));
        assert_eq!(run.code, 0, "{}", run.text());
    }
    let script = vec![answer("POST /api/v1/products/acme-cam/devices/C1/revoke", 200, &device())];
    assert_snapshot!(run(&["device", "revoke", "acme-cam", "C1"], script).text());
}

#[test]
fn why_is_a_trace_a_person_can_read() {
    let answered = json!({
        "product": "acme-cam", "at": "2026-06-01T00:00:00Z", "offered": false, "version": "2.0.0",
        "reason": "NO_CONTRACT", "sentence": "No contract covers the device.", "newest_entitled": "1.0.1",
        "changes_at": null, "known_at": "2026-05-31T00:00:00Z", "newest_train": "1.0",
        "newest_support_end": "2026-05-01T00:00:00Z",
        "remedies": [{ "kind": "cover", "codes": ["FW"] }], "advice": ["put the device under a contract that grants FW"],
        "overlaps": ["C-1", "C-2"],
        "steps": [
            { "version": "2.0.0", "gate": "identity", "pass": true, "reason": "OFFERED", "evidence": { "kind": "none" }, "detail": "" },
            { "version": "2.0.0", "gate": "grant", "pass": false, "reason": "NO_CONTRACT",
              "evidence": { "kind": "codes", "codes": ["FW"] }, "detail": "FW.\u{1b}MAJOR" },
            { "version": "1.0.1", "gate": "security", "pass": true, "reason": "SECURITY_FREE",
              "evidence": { "kind": "train", "train": "1.0" }, "detail": "train 1.0" },
            { "version": "1.0.1", "gate": "rollout", "pass": false, "reason": "STAGE_WAIT",
              "evidence": { "kind": "rollout", "rollout": "spring" }, "detail": "spring" },
        ],
    });
    let script = || {
        vec![answer(
            "GET /api/v1/products/acme-cam/devices/C1/why?version=2.0.0&at=2026-06-01T00%3A00%3A00Z&known_at=2026-05-31T00%3A00%3A00Z",
            200,
            &answered,
        )]
    };
    let arguments = ["why", "acme-cam", "C1", "2.0.0", "--at", "2026-06-01", "--known-at", "2026-05-31"];
    assert_snapshot!(run(&arguments, script()).text());
    let as_json = run(&[&["--json"][..], &arguments[..]].concat(), script());
    assert_eq!(as_json.json(), answered);
}

#[test]
fn a_secret_goes_to_a_new_file_or_to_standard_output_once() {
    let made = json!({
        "id": id(12), "label": "line 4", "product_id": id(1), "customer_id": null, "remaining": 100,
        "created_at": AT, "expires_at": "2026-02-01T00:00:00Z", "revoked_at": null, "token": "s3cret",
    });
    let arguments = ["enrol-token", "create", "--product", "acme-cam", "--uses", "100", "--label", "line 4"];
    let shown = run(&arguments, vec![answer("POST /api/v1/enrol-tokens", 201, &made)]);
    assert_eq!(shown.stdout, "s3cret\n", "only the secret, so that a script can take it");
    assert_eq!(
        shown.seen[0].body,
        json!({ "product": "acme-cam", "customer": null, "label": "line 4", "uses": 100, "expires_at": null })
    );

    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("token");
    let with_out = [&arguments[..], &["--out", file.to_str().unwrap(), "--json"]].concat();
    let env = &[("SLUICE_TOKEN", "t")];
    let kept = run_in(home.path(), env, &with_out, vec![answer("POST /api/v1/enrol-tokens", 201, &made)]);
    assert!(!kept.stdout.contains("s3cret"), "{}", kept.text());
    assert_eq!(fs::read_to_string(&file).unwrap(), "s3cret\n");
    let again = run_in(home.path(), env, &with_out, vec![]);
    assert_ne!(again.code, 0, "nothing is asked for when the secret would have no place");
}

#[test]
fn online_keys_go_to_a_file() {
    let keys = json!({ "snapshot": { "k": 1 }, "timestamp": { "k": 2 }, "director": { "k": 3 }, "entitlement": {} });
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("online-keys.json");
    let script = vec![answer("GET /api/v1/online-keys", 200, &keys)];
    let run = run_in(home.path(), &[], &["online-keys", "--out", file.to_str().unwrap()], script);
    assert_eq!(run.code, 0, "{}", run.text());
    assert_eq!(serde_json::from_str::<Value>(&fs::read_to_string(file).unwrap()).unwrap(), keys);
}

#[test]
fn keys_that_wait_to_follow_are_in_the_file_too() {
    let keys = json!({
        "snapshot": { "k": 1 }, "timestamp": { "k": 2 }, "director": { "k": 3 }, "entitlement": {},
        "next": { "snapshot": { "k": 5 } },
    });
    let run = run(&["online-keys"], vec![answer("GET /api/v1/online-keys", 200, &keys)]);
    assert_eq!(run.code, 0, "{}", run.text());
    assert_eq!(serde_json::from_str::<Value>(&run.stdout).unwrap(), keys);
}

#[test]
fn status_is_numbers() {
    let numbers = json!({
        "version": "0.1.0", "database": "sqlite", "blobs": "local", "products": 1, "releases": 2, "devices": 3,
        "jobs_pending": 4, "jobs_parked": 5,
    });
    assert_snapshot!(run(&["status"], vec![answer("GET /api/v1/status", 200, &numbers)]).text());
}

#[test]
fn status_lists_what_expires_next() {
    let numbers = json!({
        "version": "0.1.0", "database": "sqlite", "blobs": "local", "products": 1, "releases": 2, "devices": 3,
        "jobs_pending": 4, "jobs_parked": 5, "expiries": [
            { "role": "timestamp", "version": 81, "expires_at": "2026-03-02T09:00:00Z", "days_left": 0 },
            {
                "role": "acme-cam", "version": 4, "expires_at": "2026-03-15T09:00:00Z", "days_left": 13,
                "next_step": "`sluice-sign renew --role acme-cam`, then let its holders sign, and publish",
            },
        ],
    });
    assert_snapshot!(run(&["status"], vec![answer("GET /api/v1/status", 200, &numbers)]).text());
}

#[test]
fn a_tokens_scopes_are_permissions() {
    let made = json!({
        "principal": {
            "id": id(13), "name": "ci", "kind": "machine", "role": "release_engineer", "customer_id": null,
            "created_at": AT, "disabled_at": null,
        },
        "token_id": id(14), "token": "s3cret",
    });
    let run_scoped = run(
        &["token", "create", "ci", "--scope", "publish", "--scope", "read", "--expires", "2026-12-31"],
        vec![answer("POST /api/v1/principals/ci/tokens", 201, &made)],
    );
    assert_eq!(
        run_scoped.seen[0].body,
        json!({ "label": "", "scopes": ["publish", "read"], "expires_at": "2026-12-31T00:00:00Z" })
    );
    let gone = run(
        &["token", "revoke", &id(14)],
        vec![answer("DELETE /api/v1/tokens/01980000-0000-7000-8000-000000000014", 204, &Value::Null)],
    );
    assert_eq!(gone.code, 0, "{}", gone.text());
}

#[test]
fn a_policy_names_the_narrowest_devices_that_were_given() {
    let policy = json!({
        "customer": "globex", "product": "acme-cam", "target": "C1", "id": id(3), "scope": "device", "kind": "pin",
        "version": "2.0.0", "owner": "ops", "reason": "certified", "from_at": AT, "to_at": "9999-12-30T00:00:00Z",
        "recorded_at": AT,
    });
    let arguments = [
        "policy",
        "pin",
        "2.0.0",
        "--customer",
        "globex",
        "--product",
        "acme-cam",
        "--device",
        "C1",
        "--reason",
        "certified",
    ];
    let run_one = run(&arguments, vec![answer("POST /api/v1/policies", 201, &policy)]);
    assert_eq!(run_one.seen[0].body["scope"], "device");
    assert_eq!(run_one.seen[0].body["target"], "C1");
    assert_snapshot!(run_one.text());
    let listed = vec![answer("GET /api/v1/policies?customer=globex", 200, &json!([policy]))];
    assert_snapshot!(run(&["policy", "list", "globex"], listed).text());
    assert_ne!(run(&["policy", "hold", "--customer", "globex", "--device", "C1", "--reason", "x"], vec![]).code, 0);
}

#[test]
fn a_swap_is_shown_with_the_end_of_its_overlap() {
    let swap = json!({
        "rma": "RMA-7", "product": "acme-cam", "old": "C1", "new": "C2", "at": AT, "fence_at": "2026-02-01T00:00:00Z",
        "actor": "support", "undone_at": null,
    });
    let made = vec![answer("POST /api/v1/swaps", 201, &swap)];
    assert_snapshot!(run(&["swap", "create", "RMA-7", "acme-cam", "C1", "C2"], made).text());
    assert_eq!(run(&["swap", "undo", "RMA-7"], vec![answer("POST /api/v1/swaps/RMA-7/undo", 200, &swap)]).code, 0);
}

#[test]
fn a_life_is_a_table() {
    let story = json!([
        { "at": AT, "kind": "changed", "actor": "ops", "cause": "registered", "device": device(), "installed": [] },
        { "at": AT, "kind": "cover", "contract": "C-1", "change": "recorded", "from": AT, "to": "2027-01-01T00:00:00Z" },
        { "at": AT, "kind": "attempt", "attempt": 1, "version": "2.0.0", "state": "failed", "failure": "disk_full" },
        { "at": AT, "kind": "swap", "rma": "RMA-7", "old": "C1", "new": "C2", "change": "swapped" },
    ]);
    let script = || vec![answer("GET /api/v1/products/acme-cam/devices/C1/history?limit=1000", 200, &story)];
    assert_snapshot!(run(&["device", "history", "acme-cam", "C1"], script()).text());
    assert_eq!(run(&["--json", "device", "history", "acme-cam", "C1"], script()).json().as_array().unwrap().len(), 4);
}

#[test]
fn a_file_of_contracts_is_checked_whole_before_it_is_taken_in() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("contracts.csv");
    fs::write(&file, "contract,customer,plan,from,last_day,product,serial\nC-1,globex,plus,2026-01-01,2026-12-31,acme-cam,\"SN,1\"\nC-2, globex ,plus,,,acme-cam,SN-2\n").unwrap();
    let answered = |applied: bool, errors: Value| json!({"applied": applied, "contracts": 2, "plans_changed": 0, "windows": 1, "items": 2, "errors": errors});
    let env = &[("SLUICE_TOKEN", "t")];
    let arguments = ["contract", "import", file.to_str().unwrap(), "--batch", "1"];
    let script = vec![
        answer("POST /api/v1/contract-imports", 200, &answered(false, json!([]))),
        answer("POST /api/v1/contract-imports", 200, &answered(false, json!([]))),
        answer("POST /api/v1/contract-imports", 200, &answered(true, json!([]))),
        answer("POST /api/v1/contract-imports", 200, &answered(true, json!([]))),
    ];
    let run = run_in(home.path(), env, &arguments, script);
    assert_eq!(run.code, 0, "{}", run.text());
    assert_eq!(
        run.seen.iter().map(|seen| seen.body["dry_run"].as_bool().unwrap()).collect::<Vec<_>>(),
        [true, true, false, false]
    );
    assert_eq!(run.seen[0].body["rows"][0]["serial"], "SN,1");
    assert_eq!(run.seen[0].body["rows"][0]["line"], 2);
    assert_eq!(run.seen[3].body["rows"][0]["customer"], "globex");
    assert_snapshot!(run.text());

    let script = vec![
        answer("POST /api/v1/contract-imports", 200, &answered(false, json!([]))),
        answer("POST /api/v1/contract-imports", 200, &answered(false, json!([]))),
        answer("POST /api/v1/contract-imports", 200, &answered(true, json!([]))),
        problem("POST /api/v1/contract-imports", sluice_catalog::Kind::Unavailable, "the database does not answer"),
    ];
    let cut = run_in(home.path(), env, &arguments, script);
    assert_eq!(cut.code, 6, "{}", cut.text());
    assert!(cut.stderr.contains("--from-line 3"), "{}", cut.text());
    let resume = [&arguments[..], &["--resume"]].concat();
    let script = vec![
        answer("POST /api/v1/contract-imports", 200, &answered(false, json!([]))),
        answer("POST /api/v1/contract-imports", 200, &answered(true, json!([]))),
    ];
    let resumed = run_in(home.path(), env, &resume, script);
    assert_eq!(resumed.code, 0, "{}", resumed.text());
    assert!(resumed.seen.iter().all(|seen| seen.body["rows"][0]["line"] == 3), "the first row was taken in before");
    assert!(!home.path().join("contracts.csv.taken").exists(), "nothing is left to resume");

    let wrong = json!([{"line": 3, "field": "serial", "message": "serial `S N`: no"}]);
    let script = vec![answer("POST /api/v1/contract-imports", 200, &answered(false, wrong))];
    let refused = run_in(home.path(), env, &arguments[..3], script);
    assert_eq!(refused.code, 2, "{}", refused.text());
    assert_eq!(refused.seen.len(), 1, "nothing is taken in");
    assert!(refused.text().contains("LINE"), "{}", refused.text());

    let lines = home.path().join("contracts.jsonl");
    fs::write(&lines, "{\"contract\":\"C-1\"}\n{\"contract\":\"C-2\",\"surplus\":1}\n").unwrap();
    let odd = run_in(home.path(), env, &["contract", "import", lines.to_str().unwrap(), "--skip-bad"], vec![]);
    assert_eq!(odd.code, 2);
    assert!(odd.stderr.contains("line 2") && odd.stderr.contains("surplus"), "{}", odd.text());
}
