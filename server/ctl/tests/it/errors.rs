//! What a person and a script are told when it does not work.

use insta::assert_snapshot;
use serde_json::json;
use sluice_catalog::Kind;

use crate::script::{answer, answer_with, problem, program, run, run_in};

#[test]
fn each_kind_of_problem_has_its_exit_code() {
    for kind in Kind::ALL {
        // Kinds that may pass are asked again for a read; a change is sent once.
        let run = run(&["customer", "create", "acme"], vec![problem("POST /api/v1/customers", kind, "because")]);
        assert_eq!(run.code, i32::from(kind.exit_code()), "{kind:?}");
        assert_eq!(run.stdout, "");
        assert_eq!(run.stderr, format!("sluicectl: {}: because (id 0198)\n", kind.title()));
    }
}

#[test]
fn a_problem_is_json_for_programs() {
    let run = run(
        &["--json", "product", "show", "cam"],
        vec![problem("GET /api/v1/products/cam", Kind::NotFound, "no product `cam`")],
    );
    assert_snapshot!(run.text());
}

#[test]
fn a_read_is_repeated_while_the_server_is_away() {
    let away = || problem("GET /api/v1/products/cam", Kind::Unavailable, "the database is away");
    let product = json!({
        "id": "01980000-0000-7000-8000-000000000001", "name": "cam", "title": "Camera", "family": "cam",
        "pid": null, "visibility": "public", "created_at": "2026-01-01T00:00:00Z",
    });
    let run_back =
        run(&["product", "show", "cam"], vec![away(), away(), answer("GET /api/v1/products/cam", 200, &product)]);
    assert_eq!(run_back.code, 0, "{}", run_back.text());

    let gone = run(&["product", "show", "cam"], vec![away(), away(), away(), away()]);
    assert_eq!(gone.code, 6, "it gives up after four tries");
}

#[test]
fn an_answer_of_something_else_is_told_as_such() {
    let page = "<html>\u{1b}[31mGateway</html>";
    let run_page = run(&["status"], vec![answer_with("GET /api/v1/status", 502, "", page)]);
    assert_eq!(run_page.code, 7);
    assert_snapshot!(run_page.text());
    let odd = run(&["status"], vec![answer("GET /api/v1/status", 200, &json!({ "version": 1 }))]);
    assert_eq!(odd.code, 7);
}

#[test]
fn a_redirect_is_not_followed_with_the_token() {
    let run =
        run(&["status"], vec![answer_with("GET /api/v1/status", 302, "Location: http://elsewhere.invalid/\r\n", "")]);
    assert_ne!(run.code, 0);
    assert_eq!(run.seen.len(), 1);
}

#[test]
fn no_server_is_told_with_what_to_do() {
    let home = tempfile::tempdir().unwrap();
    let output = program(home.path()).arg("status").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("--server URL") && told.contains("sluicectl login"), "{told}");
}

#[test]
fn an_unreachable_server_is_told_and_is_exit_6() {
    let home = tempfile::tempdir().unwrap();
    // A port that was free a moment ago and that nobody listens on.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let output = program(home.path())
        .args(["customer", "create", "acme", "--server", &format!("http://127.0.0.1:{port}")])
        .env("SLUICE_TOKEN", "t")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(6));
    assert!(String::from_utf8(output.stderr).unwrap().contains("does not answer"));
}

#[test]
fn a_token_does_not_travel_over_plain_http_unless_told_to() {
    let home = tempfile::tempdir().unwrap();
    let output = program(home.path())
        .args(["status", "--server", "http://updates.invalid"])
        .env("SLUICE_TOKEN", "t")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("plain HTTP"));
}

#[test]
fn a_field_that_breaks_its_rule_is_refused_before_anything_is_sent() {
    let home = tempfile::tempdir().unwrap();
    for arguments in [
        &["product", "create", "Not A Name"][..],
        &["rollout", "create", "r", "--product", "cam", "--version", "1", "--stages", "50,10"],
        &["plan", "create", "p", "--rule", "sometimes"],
        &["contract", "create", "K1", "--customer", "c", "--plan", "p", "--window", "2027-01-01..2026-01-01"],
        &["contract", "add", "K1"],
        &["device", "list", "--limit", "0"],
    ] {
        let run = run_in(home.path(), &[("SLUICE_TOKEN", "t")], arguments, vec![]);
        assert_eq!(run.code, 2, "{arguments:?}: {}", run.text());
    }
}
