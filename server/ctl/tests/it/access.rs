//! Bootstrap, login, and where a token goes and does not go.

use std::fs;

use serde_json::{Value, json};
use sluice_catalog::Kind;

use crate::script::{answer, problem, program, run_in};

fn admin() -> Value {
    json!({
        "id": "01980000-0000-7000-8000-000000000002", "name": "admin", "kind": "person", "role": "administrator",
        "customer_id": null, "created_at": "2026-01-01T00:00:00Z", "disabled_at": null,
    })
}

#[test]
fn bootstrap_trades_the_servers_token_for_ones_own() {
    let home = tempfile::tempdir().unwrap();
    let bootstrap_token = home.path().join("bootstrap-token");
    fs::write(&bootstrap_token, "boot\n").unwrap();
    let made = json!({
        "principal": admin(), "token_id": "01980000-0000-7000-8000-000000000003", "token": "admins-own-token",
    });
    let run = run_in(
        home.path(),
        &[],
        &["bootstrap", "--name", "admin", "--token-file", bootstrap_token.to_str().unwrap()],
        vec![answer("POST /api/v1/bootstrap", 201, &made)],
    );
    assert_eq!(run.code, 0, "{}", run.text());
    assert_eq!(run.seen[0].authorization.as_deref(), Some("Bearer boot"));
    assert_eq!(run.seen[0].body, json!({ "name": "admin" }));
    assert!(!run.stdout.contains("admins-own-token"), "a secret is not shown");
    let config = fs::read_to_string(home.path().join("ctl.toml")).unwrap();
    assert!(config.contains("admins-own-token"));
}

#[test]
fn bootstrap_wants_the_servers_token() {
    let home = tempfile::tempdir().unwrap();
    let run = run_in(home.path(), &[], &["bootstrap", "--name", "admin"], vec![]);
    assert_eq!(run.code, 2);
    assert!(run.stderr.contains("--token-file"), "{}", run.text());
}

#[test]
fn login_checks_the_token_and_remembers_it_for_that_server_alone() {
    let home = tempfile::tempdir().unwrap();
    let refused = run_in(
        home.path(),
        &[("SLUICE_TOKEN", "wrong")],
        &["login"],
        vec![problem("GET /api/v1/me", Kind::Unauthenticated, "unknown token")],
    );
    assert_eq!(refused.code, 3);
    assert!(!home.path().join("ctl.toml").exists(), "a wrong token is not remembered");

    let token = home.path().join("token");
    fs::write(&token, "right\n").unwrap();
    let login = run_in(
        home.path(),
        &[],
        &["--token-file", token.to_str().unwrap(), "login"],
        vec![answer("GET /api/v1/me", 200, &admin())],
    );
    assert_eq!(login.code, 0, "{}", login.text());

    // The next script listens on another port: another server, which must not see the remembered token.
    let elsewhere =
        run_in(home.path(), &[], &["whoami"], vec![problem("GET /api/v1/me", Kind::Unauthenticated, "no token")]);
    assert_eq!(elsewhere.seen[0].authorization, None);
    assert_eq!(elsewhere.code, 3);
}

#[test]
fn a_remembered_login_is_used() {
    let home = tempfile::tempdir().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let server = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    fs::write(home.path().join("ctl.toml"), format!("server = \"{server}\"\ntoken = \"t\"\n")).unwrap();
    let output = program(home.path()).args(["customer", "create", "c"]).output().unwrap();
    assert_eq!(output.status.code(), Some(6), "nobody listens there any more");
    assert!(String::from_utf8(output.stderr).unwrap().contains(&server));
}

#[test]
fn a_broken_configuration_is_told_without_the_token_in_it() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("ctl.toml"), "server = \"http://localhost\"\ntoken = top-secret\n").unwrap();
    let output = program(home.path()).arg("status").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("line 2") && !told.contains("top-secret"), "{told}");
}
