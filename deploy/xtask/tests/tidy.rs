//! The repository keeps its own rules, and each rule catches what it is for.

use serde_json::json;
use xtask::steps::workspace_root;
use xtask::tidy::{Report, Rule, Tree, arrows, check_all, check_rule, docs, layers, line_of, style};

#[test]
fn the_repository_is_tidy() {
    let findings = check_all(&workspace_root()).unwrap();
    let lines: Vec<_> = findings.iter().map(|(rule, found)| line_of(rule, found)).collect();
    assert!(lines.is_empty(), "{}", lines.join("\n"));
}

/// Findings of a rule on a synthetic tree, as `path:line`.
fn places(check: fn(&Tree) -> Report, files: &[(&str, &str)]) -> Vec<String> {
    let report = check(&Tree::of(files));
    assert!(report.scanned > 0, "the rule saw nothing");
    report.findings.iter().map(|found| format!("{}:{}", found.path, found.line)).collect()
}

#[test]
fn a_rule_that_sees_too_little_is_itself_a_finding() {
    let rule = Rule { name: "any", minimum: 2, check: style::files_are_short };
    let one = check_rule(&rule, &Tree::of(&[("a/src/lib.rs", "")]));
    assert_eq!(one.len(), 1);
    assert!(one[0].message.contains("saw only 1 of at least 2"), "{}", one[0].message);
    assert!(check_rule(&rule, &Tree::of(&[("a/src/lib.rs", ""), ("b/src/lib.rs", "")])).is_empty());
}

#[test]
fn sql_text_belongs_to_the_store() {
    let query = "fn q() -> &'static str { \"SELECT 1\" }";
    let found = places(
        layers::sql_in_store,
        &[
            ("server/src/store/device.rs", query),
            ("server/src/store.rs", "use sqlx::Row;"),
            ("server/src/app/device.rs", query),
            ("server/src/app/raw.rs", "const Q: &str = r#\"\n    WITH a AS (SELECT 1) SELECT * FROM a\"#;"),
            ("server/src/app/lib.rs", "\nuse sqlx::Row;"),
            ("server/src/app/sea.rs", "fn f() { sea_query::Query::select(); }"),
            ("server/catalog/src/device.rs", "#[cfg_attr(feature = \"sql\", derive(sqlx::FromRow))] struct D;"),
            ("server/catalog/src/query.rs", "fn f() { sea_query::Query::select(); }"),
            ("server/src/http/prose.rs", "// SELECT 1\nconst A: &str = \"Select a product\";"),
            ("server/ctl/tests/it/token.rs", "const A: &str = \"DELETE /api/v1/tokens/1\";"),
            ("server/tests/it/store/device.rs", query),
        ],
    );
    assert_eq!(
        found,
        [
            "server/catalog/src/query.rs:1",
            "server/src/app/device.rs:1",
            "server/src/app/lib.rs:2",
            "server/src/app/raw.rs:1",
            "server/src/app/sea.rs:1",
        ]
    );
}

#[test]
fn http_types_belong_to_the_surfaces() {
    let web = "use actix_web::HttpResponse;";
    let found = places(
        layers::http_in_surfaces,
        &[
            ("server/src/http/api.rs", web),
            ("server/src/serve.rs", web),
            ("server/tests/it/main.rs", web),
            ("server/src/app/device.rs", web),
            ("server/src/jobs/run.rs", "fn f() -> actix_http::Response { g() }"),
            ("signer/src/lib.rs", "// actix_web::web"),
        ],
    );
    assert_eq!(found, ["server/src/app/device.rs:1", "server/src/jobs/run.rs:1"]);
}

#[test]
fn object_storage_belongs_to_one_file() {
    let found = places(
        layers::object_store_in_blobs,
        &[
            ("server/src/blobs.rs", "use object_store::ObjectStore;"),
            ("server/src/http/blobs.rs", "use object_store::path::Path;"),
            ("server/src/app/state.rs", "struct S { object_store: u8 }"),
        ],
    );
    // A field of that name is told as well: one name, one meaning.
    assert_eq!(found, ["server/src/app/state.rs:1", "server/src/http/blobs.rs:1"]);
}

#[test]
fn a_surface_never_names_the_store() {
    let found = places(
        layers::surfaces_never_touch_store,
        &[
            ("server/src/http/path.rs", "fn f() { crate::store::device_list(); }"),
            ("server/src/http/grouped.rs", "use crate::{\n    app,\n    store,\n};"),
            ("server/src/http/atomic.rs", "fn f() { flag.store(true, Relaxed); let store = 1; g(\"store::x\"); }"),
            ("server/src/app/device.rs", "use crate::store;"),
        ],
    );
    assert_eq!(found, ["server/src/http/grouped.rs:3", "server/src/http/path.rs:1"]);
}

#[test]
fn only_one_command_reads_the_old_spelling() {
    let way_in = "fn f() { sluice_signer::legacy::trust(a, b); }";
    let found = places(
        layers::old_spelling_in_uptane,
        &[
            ("signer/cli/src/uptane.rs", way_in),
            ("signer/cli/src/client.rs", way_in),
            ("delta/agent/src/metadata.rs", "use sluice_signer::{\n    Refresh,\n    legacy,\n};"),
            ("server/src/app/publish.rs", "// legacy\nuse sluice_signer::Refresh;"),
            ("server/ctl/src/main.rs", "mod legacy;"),
        ],
    );
    assert_eq!(found, ["delta/agent/src/metadata.rs:3", "signer/cli/src/client.rs:1"]);
}

#[test]
fn the_core_has_no_hidden_inputs() {
    let bad = [
        "SystemTime::now()",
        "std::time::Instant::now()",
        "jiff::Timestamp::now()",
        "rand::rng()",
        "OsRng.next()",
        "uuid::Uuid::new_v4()",
        "std::net::lookup()",
        "TcpStream::connect(a)",
        "tokio::spawn(a)",
        "std::fs::read(a)",
        "File::open(a)",
        "std::env::var(a)",
    ];
    for expression in bad {
        let source = format!("fn f() {{\n    {expression};\n}}");
        for path in ["signer/src/key.rs", "server/catalog/src/decide/mod.rs"] {
            assert_eq!(places(layers::core_is_pure, &[(path, &source)])[0], format!("{path}:2"), "{expression}");
        }
    }
    // delta reads and writes streams that may be files; clocks and the rest are refused there too.
    assert!(places(layers::core_is_pure, &[("delta/src/lib.rs", "fn f() { File::open(a); }")]).is_empty());
    assert_eq!(places(layers::core_is_pure, &[("delta/src/lib.rs", "fn f() { Instant::now(); }")]).len(), 1);
    let fine = [
        (
            "signer/src/lib.rs",
            "//! SystemTime\nfn f(now: Timestamp, rng: &mut dyn Rng) -> &'static str { \"std::fs\" }",
        ),
        ("signer/src/key.rs", "#[cfg(test)] mod tests { use std::fs; fn t() { fs::read(a); } }"),
        ("signer/cli/src/main.rs", "fn f() { SystemTime::now(); }"),
        ("signer/tests/it/main.rs", "fn f() { std::fs::read(a); }"),
    ];
    assert!(places(layers::core_is_pure, &fine).is_empty());
}

#[test]
fn migrations_come_in_pairs() {
    let one = "CREATE TABLE a (b TEXT);";
    let found = places(
        layers::migrations_are_paired,
        &[
            ("server/migrations/sqlite/0001_first.sql", one),
            ("server/migrations/postgres/0001_first.sql", one),
            ("server/migrations/sqlite/0002_alone.sql", one),
            ("server/migrations/postgres/0003_other.sql", one),
            ("server/migrations/postgres/0004_empty.sql", "\n"),
            ("server/migrations/sqlite/0004_empty.sql", one),
            ("server/migrations/0005_nowhere.sql", one),
        ],
    );
    assert_eq!(
        found,
        [
            "server/migrations/0005_nowhere.sql:0",
            "server/migrations/postgres/0004_empty.sql:0",
            "server/migrations/sqlite/0002_alone.sql:0",
            "server/migrations/postgres/0003_other.sql:0",
        ]
    );
}

#[test]
fn exceptions_to_lints_say_why() {
    let found = places(
        style::exceptions_have_reasons,
        &[
            ("a.rs", "#[allow(dead_code)] fn f() {}"),
            ("b.rs", "#![allow(clippy::all)]"),
            ("c.rs", "#[expect(dead_code)] fn f() {}"),
            ("d.rs", "#[cfg_attr(test, allow(dead_code))] fn f() {}"),
            ("e.rs", "#[allow(dead_code, reason = \"kept for readers of old files\")] fn f() {}"),
            ("f.rs", "fn f() { a.expect(\"b\"); allow(c); } // #[allow(dead_code)]"),
            ("g.rs", "#![expect(clippy::all, reason = \"generated\")]\n#[allow(dead_code)] fn f() {}"),
        ],
    );
    assert_eq!(found, ["a.rs:1", "b.rs:1", "c.rs:1", "d.rs:1", "g.rs:2"]);
}

#[test]
fn nothing_unfinished_is_left() {
    let found = places(
        style::nothing_unfinished,
        &[
            ("a.rs", "fn f() { todo!() }"),
            ("b.rs", "fn f() {\n unimplemented!(\"later\") }"),
            ("c.rs", "fn f() { dbg!(1); }"),
            ("d.rs", "#[test]\n#[ignore = \"slow\"]\nfn f() {}"),
            ("e.rs", "fn f() { todo(); \"todo!()\"; } // todo!()"),
        ],
    );
    assert_eq!(found, ["a.rs:1", "b.rs:2", "c.rs:1", "d.rs:2"]);
}

#[test]
fn files_stay_short() {
    let (long, short) = ("\n".repeat(701), "\n".repeat(700));
    assert_eq!(places(style::files_are_short, &[("long.rs", &long), ("short.rs", &short)]), ["long.rs:0"]);
}

#[test]
fn every_source_belongs_to_a_crate() {
    let found = places(
        style::modules_are_wired,
        &[
            ("p/Cargo.toml", ""),
            ("p/src/lib.rs", "mod a;\nmod b;"),
            ("p/src/a.rs", ""),
            ("p/src/b/mod.rs", "mod c;"),
            ("p/src/b/c.rs", "mod d;"),
            ("p/src/b/c/d.rs", ""),
            ("p/src/b/forgotten.rs", ""),
            ("p/src/lost.rs", "// mod lost;"),
            ("p/src/lostdir/mod.rs", ""),
            ("p/tests/it/main.rs", "mod cli;"),
            ("p/tests/it/cli.rs", ""),
            ("p/tests/it/silent.rs", "#[test] fn never_run() {}"),
            ("p/tests/alone.rs", ""),
            ("Cargo.toml", ""),
            ("benches/Cargo.toml", ""),
            ("benches/src/lib.rs", ""),
            ("benches/benches/poll.rs", ""),
            ("p/tests/nowhere/case.rs", ""),
            ("elsewhere/src/stray.rs", ""),
        ],
    );
    assert_eq!(
        found,
        [
            "p/src/b/forgotten.rs:0",
            "p/src/lost.rs:0",
            "p/src/lostdir/mod.rs:0",
            "p/tests/it/silent.rs:0",
            "p/tests/nowhere/case.rs:0",
        ]
    );
}

#[test]
fn environment_variables_are_documented() {
    let found = places(
        docs::variables_are_documented,
        &[
            ("docs/configuration.md", "`SLUICE_DATA` is the folder. `SLUICE_TOKEN_FILE` is a file."),
            ("a.rs", "const A: &str = \"SLUICE_DATA\";"),
            ("b.rs", "#[arg(env = \"SLUICE_HIDDEN\")] struct A;"),
            ("c.rs", "const A: &str = \"set SLUICE_TOKEN to the token\";"),
            ("d.rs", "const A: &str = \"SLUICE_\"; // SLUICE_COMMENT"),
        ],
    );
    assert_eq!(found, ["b.rs:1", "c.rs:1"]);
}

#[test]
fn metrics_are_documented() {
    let found = places(
        docs::metrics_are_documented,
        &[
            ("docs/metrics.md", "| `sluice_polls` | polls |"),
            (
                "server/src/telemetry.rs",
                "fn f() {\n r.register(\"polls\", \"Polls\", a);\n r.register(\"hidden\", \"H\", b); }",
            ),
        ],
    );
    assert_eq!(found, ["server/src/telemetry.rs:3"]);
}

#[test]
fn reason_codes_are_documented() {
    let found = places(
        docs::reasons_are_documented,
        &[
            ("docs/reasons.md", "`STAGE_WAIT`, `NO_CONTRACTS`"),
            (
                "server/catalog/src/reason.rs",
                "reasons! {\n StageWait = \"STAGE_WAIT\": \"The stage.\";\n NoContract = \"NO_CONTRACT\": \"None.\";\n}",
            ),
        ],
    );
    assert_eq!(found, ["server/catalog/src/reason.rs:3"]);
}

#[test]
fn problem_kinds_are_documented() {
    let source = "/// All.\npub enum Kind {\n    /// None.\n    NotFound,\n    #[serde(rename = \"x\")]\n    Internal,\n}\nfn f(a: B) {}";
    let docs = ("docs/problems.md", "`not_found`: there is none. An internal error is ours.");
    let found = places(docs::kinds_are_documented, &[docs, ("server/catalog/src/problem.rs", source)]);
    assert_eq!(found, ["server/catalog/src/problem.rs:6"]);
}

#[test]
fn every_attack_has_its_tests_and_every_test_its_row() {
    let page =
        "`prose`\n| attack | stops | tests |\n| --- | --- | --- |\n| a | `b` | `a_test`, `no_test`, `a_helper` |\n";
    let found = places(
        docs::attacks_are_tested,
        &[
            ("docs/attacks.md", page),
            ("signer/tests/it/attacks.rs", "#[test]\nfn a_test() {}\n#[test]\nfn some_attack_is_refused() {}"),
            ("signer/src/lib.rs", "fn a_helper() {}\nfn no_attack_here() {}"),
        ],
    );
    assert_eq!(found, ["docs/attacks.md:4", "docs/attacks.md:4", "signer/tests/it/attacks.rs:4"]);
}

#[test]
fn links_and_named_paths_lead_to_something() {
    let found = places(
        docs::links_resolve,
        &[
            (
                "README.md",
                "[map](ARCHITECTURE.md), [gone](docs/gone.md), [site](https://sluice.example/x), [here](#top)",
            ),
            (
                "ARCHITECTURE.md",
                "`server/src/lib.rs`, `server/src/gone.rs`, `POST /v1/poll`, `a/b`\n```\n[x](nowhere)\n```",
            ),
            ("docs/guide.md", "[up](../README.md#top)\n[out](../../outside.md) [beside](other.md)"),
            ("docs/other.md", "text"),
            ("server/src/lib.rs", ""),
        ],
    );
    assert_eq!(found, ["ARCHITECTURE.md:1", "README.md:1", "docs/guide.md:2"]);
}

/// `cargo metadata` of all packages, with one more dependency.
fn metadata(from: &str, to: &str, kind: Option<&str>) -> serde_json::Value {
    let names = [
        "sluice-signer",
        "sluice-delta",
        "sluice-catalog",
        "sluice-fixtures",
        "xtask",
        "sluice-token",
        "sluice-sign",
        "sluice-delta-cli",
        "sluice-agent",
        "sluice-server",
        "sluicectl",
        "sluice-benches",
    ];
    let packages: Vec<_> = names
        .iter()
        .map(|name| {
            let ours = if *name == from { vec![json!({ "name": to, "kind": kind })] } else { Vec::new() };
            json!({ "name": name, "dependencies": ours })
        })
        .collect();
    json!({ "packages": packages })
}

#[test]
fn packages_depend_on_each_other_only_along_the_arrows() {
    let messages = |from, to, kind| -> Vec<String> {
        let report = arrows::check(&metadata(from, to, kind));
        assert_eq!(report.scanned, 12);
        report.findings.into_iter().map(|found| found.message).collect()
    };
    assert_eq!(messages("sluice-delta", "sluice-signer", None), ["sluice-delta must not depend on sluice-signer"]);
    assert_eq!(messages("sluice-agent", "sluice-token", None), ["sluice-agent must not depend on sluice-token"]);
    assert_eq!(messages("sluicectl", "sluice-server", None), ["sluicectl must not depend on sluice-server"]);
    assert_eq!(messages("xtask", "sluice-fixtures", Some("dev")), ["xtask must not depend on sluice-fixtures"]);
    assert_eq!(messages("sluice-agent", "sluice-fixtures", None), ["sluice-agent must not depend on sluice-fixtures"]);
    assert!(messages("sluice-agent", "sluice-fixtures", Some("dev")).is_empty());
    assert!(messages("sluice-server", "sluice-delta", None).is_empty());
    assert!(messages("sluice-delta", "serde", None).is_empty());
}

#[test]
fn a_package_without_a_place_among_the_arrows_is_told() {
    let report = arrows::check(&json!({ "packages": [{ "name": "sluice-new", "dependencies": [] }] }));
    let messages: Vec<_> = report.findings.iter().map(|found| found.message.as_str()).collect();
    assert!(messages.contains(&"the package sluice-new has no place in the list of arrows"));
    assert!(messages.contains(&"the package sluice-server is gone; correct the list of arrows"));
}

#[test]
fn the_command_prints_its_findings_as_json_and_fails_when_there_are_any() {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_xtask")).args(["tidy", "--json"]).output().unwrap();
    let findings: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.success(), findings.is_empty());
    for finding in findings {
        assert!(finding["rule"].is_string() && finding["path"].is_string(), "{finding}");
        assert!(finding["line"].is_u64() && finding["message"].is_string(), "{finding}");
    }
}
