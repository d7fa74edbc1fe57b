//! Answers that come line by line: counted, handed on as they are, and never taken for whole when they were cut.

use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::script::{answer_with, problem, run};

const AT: &str = "2026-06-01T00:00:00Z";
const WHY: &str = "GET /api/v1/products/acme-cam/why?version=2.0.0";

fn lines(lines: &[Value]) -> String {
    let mut text = String::new();
    for line in lines {
        text.push_str(&line.to_string());
        text.push('\n');
    }
    text
}

fn device(serial: &str, reason: &str) -> Value {
    json!({"line": "device", "serial": serial, "customer": "acme", "site": null, "hw_id": "cam-r3", "state": "active", "runs": "1.0.0",
        "pass": reason == "OFFERED", "reason": reason, "version": "2.0.0", "newest_entitled": "1.0.0", "changes_at": null})
}

fn summary() -> Value {
    json!({"line": "summary", "product": "acme-cam", "version": "2.0.0", "at": AT, "devices": 3, "pass": 1,
        "reasons": {"OFFERED": 1, "NO_CONTRACT": 2}})
}

#[test]
fn a_fleet_is_counted_as_it_comes() {
    let later = json!({"line": "of_a_later_server", "more": 1});
    let fleet = [device("C1", "NO_CONTRACT"), later, device("C2", "OFFERED"), device("C3", "NO_CONTRACT"), summary()];
    let ask = |more: &[&str]| {
        let arguments = [&["why", "--product", "acme-cam", "--release", "2.0.0"], more].concat();
        run(&arguments, vec![answer_with(WHY, 200, "", &lines(&fleet))])
    };
    assert_snapshot!(ask(&[]).text());
    assert_snapshot!("by_customer", ask(&["--group-by", "customer"]).text());
    assert_snapshot!("one_by_one", ask(&["--group-by", "none"]).text());
    let handed_on = ask(&["--json"]);
    let kinds: Vec<Value> = handed_on.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(
        kinds.iter().map(|line| line["line"].as_str().unwrap()).collect::<Vec<_>>(),
        ["device", "device", "device", "summary"]
    );
}

#[test]
fn an_answer_that_was_cut_is_no_answer() {
    let ask = |body: &str| {
        run(&["why", "--product", "acme-cam", "--release", "2.0.0"], vec![answer_with(WHY, 200, "", body)])
    };
    let cut = ask(&lines(&[device("C1", "OFFERED")]));
    assert!(cut.code == 1 && cut.stderr.contains("without a summary"), "{}", cut.text());
    let cut = ask(lines(&[device("C1", "OFFERED"), summary()]).trim_end());
    assert!(cut.code == 6 && cut.stderr.contains("was cut"), "{}", cut.text());
    let told = json!({"line": "problem", "type": "about:blank", "title": "away", "status": 503, "kind": "unavailable", "detail": "gone", "id": "1"});
    let cut = ask(&lines(&[device("C1", "OFFERED"), told]));
    assert!(cut.code == 6 && cut.stderr.contains("gone"), "{}", cut.text());
    let refused = run(
        &["why", "--product", "acme-cam", "--release", "2.0.0"],
        vec![problem(WHY, sluice_catalog::Kind::NotFound, "there is no version")],
    );
    assert_eq!(refused.code, 4, "{}", refused.text());
    let alone = run(&["why", "acme-cam", "C1", "--state", "active"], vec![]);
    assert!(alone.code == 2 && alone.stderr.contains("--product"), "{}", alone.text());
}

#[test]
fn a_change_is_tried_before_it_is_made() {
    let shift = json!({"line": "shift", "product": "acme-cam", "serial": "C1", "customer": "acme", "before": "2.0.0", "after": "1.0.0",
        "codes_lost": ["FW.CAM"], "codes_gained": [], "loss": true});
    let end = json!({"line": "shifts", "devices": 4, "covered": 3, "losses": 1, "gains": 0, "cut": true,
        "moves": [{"product": "acme-cam", "before": "2.0.0", "after": "1.0.0", "devices": 1}]});
    let body = lines(&[shift, end]);
    let script = || vec![answer_with("POST /api/v1/what-if", 200, "", &body)];
    let tried = run(&["contract", "change", "K-1", "--state", "void", "--what-if"], script());
    assert_snapshot!(tried.text());
    assert_eq!(tried.seen[0].body, json!({"contract": {"number": "K-1", "change": {"plan": null, "state": "void"}}}));
    let plan = run(&["plan", "change", "plus", "--rule", "live", "--grant", "FW.CAM", "--what-if"], script());
    assert_eq!(plan.seen[0].body["plan"]["change"]["rule"], "live");
    let soon = vec![answer_with("GET /api/v1/products/acme-cam/forecast?to=2027-01-01T00%3A00%3A00Z", 200, "", &body)];
    assert_eq!(run(&["entitlement", "forecast", "acme-cam", "--to", "2027-01-01"], soon).stdout, tried.stdout);
}
