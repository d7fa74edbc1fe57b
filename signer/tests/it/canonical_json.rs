//! The canonical form is a function of the value, and only values with one meaning are read.

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use sluice_signer::limits::{MAX_INTEGER, MAX_JSON_DEPTH};
use sluice_signer::{Json, JsonError, sha256};
use std::io::Write as _;
use std::process::{Command, Stdio};

const LIMIT: u64 = 1 << 20;

fn canonical(text: &str) -> String {
    String::from_utf8(Json::parse(text.as_bytes(), LIMIT).unwrap().canonical()).unwrap()
}

fn refused(text: &str) -> JsonError {
    Json::parse(text.as_bytes(), LIMIT).unwrap_err()
}

#[test]
fn objects_are_sorted_by_code_point_and_white_space_goes() {
    assert_eq!(
        canonical(r#" { "b" : [1, -2, true,null] , "a" : {"é":0,"z":1} } "#),
        r#"{"a":{"z":1,"é":0},"b":[1,-2,true,null]}"#
    );
}

#[test]
fn only_quote_and_backslash_are_escaped() {
    assert_eq!(canonical(r#""\u0041\n\t\"\\\/""#), "\"A\n\t\\\"\\\\/\"");
}

#[test]
fn text_is_not_normalised() {
    // "é" as one code point and as two must stay two different texts.
    assert_ne!(canonical("\"\u{e9}\""), canonical("\"e\u{301}\""));
}

#[test]
fn what_two_readers_could_read_differently_is_refused() {
    assert_eq!(refused(r#"{"a":1,"b":{"x":1,"x":2}}"#), JsonError::DuplicateKey { key: "x".into() });
    assert_eq!(refused(r#"{"a":1,"\u0061":2}"#), JsonError::DuplicateKey { key: "a".into() });
    for number in ["1.0", "1e3", "-0", "0.1", "18446744073709551616"] {
        assert!(matches!(refused(number), JsonError::NotInteger { .. }), "{number}");
    }
    assert_eq!(refused("9007199254740992"), JsonError::IntegerRange { value: 1 << 53 });
    assert_eq!(refused("-9007199254740992"), JsonError::IntegerRange { value: -(1 << 53) });
    assert_eq!(refused("18446744073709551615"), JsonError::IntegerRange { value: i128::from(u64::MAX) });
    assert_eq!(canonical("9007199254740991"), MAX_INTEGER.to_string());
}

#[test]
fn malformed_bytes_are_refused() {
    for text in ["", "{", "[1,]", "{\"a\"}", "nul", "1 2", "\"\\ud800\"", "\u{feff}1", "'a'", "NaN", "01"] {
        assert!(matches!(refused(text), JsonError::Syntax { .. }), "{text:?}");
    }
    assert!(matches!(Json::parse(b"\"\xff\"", LIMIT), Err(JsonError::Syntax { .. })));
}

#[test]
fn depth_and_size_are_limited() {
    let nested = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
    assert!(Json::parse(nested(MAX_JSON_DEPTH).as_bytes(), LIMIT).is_ok());
    assert_eq!(refused(&nested(MAX_JSON_DEPTH + 1)), JsonError::TooDeep { limit: MAX_JSON_DEPTH });
    assert_eq!(refused(&"[".repeat(100_000)), JsonError::TooDeep { limit: MAX_JSON_DEPTH });
    assert_eq!(Json::parse(b"[1]", 2), Err(JsonError::TooLarge { length: 3, limit: 2 }));
}

fn value() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::Bool),
        (-MAX_INTEGER..=MAX_INTEGER).prop_map(Json::Int),
        any::<String>().prop_map(Json::Text),
    ];
    leaf.prop_recursive(5, 64, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Json::List),
            prop::collection::btree_map(any::<String>(), inner, 0..8).prop_map(Json::Object),
        ]
    })
}

proptest! {
    #[test]
    fn a_written_value_reads_back(value in value()) {
        prop_assert_eq!(Json::parse(&value.to_bytes(), LIMIT).unwrap(), value);
    }

    #[test]
    fn different_values_have_different_canonical_forms(one in value(), other in value()) {
        prop_assert_eq!(one == other, one.canonical() == other.canonical());
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
        if let Ok(value) = Json::parse(&bytes, LIMIT) {
            prop_assert_eq!(Json::parse(&value.to_bytes(), LIMIT).unwrap(), value);
        }
    }

    #[test]
    fn json_like_bytes_are_read_or_refused(text in r#"[\[\]{}",:0-9a\\.eE -]{0,64}"#) {
        if let Ok(value) = Json::parse(text.as_bytes(), LIMIT) {
            prop_assert_eq!(Json::parse(&value.to_bytes(), LIMIT).unwrap(), value);
        }
    }
}

/// Any document: texts of any characters, integers that every reader keeps, lists and objects inside each other.
fn any_document() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::Bool),
        (-MAX_INTEGER..=MAX_INTEGER).prop_map(Json::Int),
        "\\PC{0,12}".prop_map(Json::Text),
        any::<String>().prop_map(Json::Text),
        "[\"\\\\/\u{0}-\u{1f}\u{7f}é\u{2028}\u{1f600}]{0,8}".prop_map(Json::Text),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Json::List),
            prop::collection::btree_map(any::<String>(), inner, 0..6).prop_map(Json::Object),
        ]
    })
}

/// The reference is the library of the TUF project, as `cargo xtask test` installs it.
#[test]
fn four_thousand_documents_are_canonical_as_securesystemslib_has_them() {
    const VARIABLE: &str = "SLUICE_TEST_PYTHON";
    let python = std::env::var(VARIABLE)
        .unwrap_or_else(|_| panic!("{VARIABLE} is not set: run `cargo xtask test`, which installs python-tuf"));
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let strategy = any_document();
    let documents: Vec<Json> = (0..4_000).map(|_| strategy.new_tree(&mut runner).unwrap().current()).collect();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/canonical.py");
    let mut child =
        Command::new(python).arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the interpreter");
    let mut input = child.stdin.take().unwrap();
    let lines: Vec<Vec<u8>> = documents.iter().map(Json::to_bytes).collect();
    let writer = std::thread::spawn(move || {
        lines.iter().try_for_each(|line| input.write_all(line).and_then(|()| input.write_all(b"\n")))
    });
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success());
    let theirs = String::from_utf8(output.stdout).unwrap();
    assert_eq!(theirs.lines().count(), documents.len());
    for (document, theirs) in documents.iter().zip(theirs.lines()) {
        assert_eq!(hex::encode(sha256(&document.canonical())), theirs, "{document}");
    }
}
