//! Requests and signatures come from other machines: whatever stands in such a file, reading it ends with an answer.

use crate::sandbox::Sandbox;
use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::Value;
use sluice_sign::{examine, signatures_in};
use std::sync::LazyLock;

const NOW: &str = "2026-06-01T12:00:00Z";

struct Files {
    request: Vec<u8>,
    signatures: Vec<u8>,
}

static FILES: LazyLock<Files> = LazyLock::new(|| {
    let sandbox = Sandbox::with_first_release();
    sandbox.run(Sandbox::V2).ok();
    sandbox.holder("root-d", 21);
    sandbox.run("root rotate --repo repo --add keys/root-d.pub --remove root-a").ok();
    sandbox.run("request --repo repo --note monday --out x.fwreq").ok();
    sandbox.run("sign --request x.fwreq --key keys/cam-a.key --out a.fwsig").ok();
    let request = sandbox.read("x.fwreq");
    Files { request, signatures: sandbox.read("a.fwsig") }
});

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

/// Every value of a document that can be replaced, as a JSON pointer.
fn pointers(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match value {
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                pointers(item, &format!("{at}/{index}"), found);
            }
        }
        Value::Object(fields) => {
            for (name, field) in fields {
                pointers(field, &format!("{at}/{}", name.replace('~', "~0").replace('/', "~1")), found);
            }
        }
        _ => {}
    }
}

fn odd_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        Just(Value::from(u64::MAX)),
        Just(Value::from(-1)),
        Just(Value::from(0)),
        Just(Value::from("root")),
        Just(Value::from("../../x")),
        Just(Value::from("\u{1b}[2J")),
        Just(serde_json::json!([])),
        Just(serde_json::json!({})),
        Just(Value::from(1.5)),
    ]
}

#[test]
fn what_the_program_wrote_is_read() {
    assert_eq!(examine(&FILES.request, now()).unwrap(), 2);
    assert_eq!(signatures_in(&FILES.signatures).unwrap(), 1);
    let later = now().checked_add(jiff::SignedDuration::from_hours(24 * 15)).unwrap();
    assert!(examine(&FILES.request, later).is_err(), "void after 14 days");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn changed_bytes_end_with_an_answer(at in any::<prop::sample::Index>(), byte: u8, cut in any::<prop::sample::Index>()) {
        for file in [&FILES.request, &FILES.signatures] {
            let mut changed = file.clone();
            let index = at.index(changed.len());
            changed[index] = byte;
            drop(examine(&changed, now()));
            drop(signatures_in(&changed));
            let cut = &file[..cut.index(file.len())];
            prop_assert!(examine(cut, now()).is_err() && signatures_in(cut).is_err());
        }
    }

    /// What a document is, what it follows, and the roots: any other value there is refused.
    #[test]
    fn a_changed_value_where_trust_hangs_on_it_is_refused(at in any::<prop::sample::Index>(), odd in odd_value()) {
        let mut request: Value = serde_json::from_slice(&FILES.request).unwrap();
        let mut places = Vec::new();
        pointers(&request, "", &mut places);
        let root = |list: &str, index: &str| request[list][index.parse::<usize>().unwrap()]["role"] == "root";
        places.retain(|place| {
            let steps: Vec<&str> = place.split('/').skip(1).collect();
            match steps.as_slice() {
                ["format" | "expires" | "documents" | "standing" | "online_keys", ..] if steps.len() == 1 => true,
                ["documents", _, "repository" | "role" | "version" | "base", ..] => true,
                ["documents", index, "signed", ..] => root("documents", index),
                ["standing", index, ..] => root("standing", index) && !steps.contains(&"signatures"),
                _ => false,
            }
        });
        prop_assert!(places.len() > 100);
        let place = at.get(&places);
        prop_assume!(request.pointer(place) != Some(&odd));
        *request.pointer_mut(place).unwrap() = odd;
        let answer = examine(&serde_json::to_vec(&request).unwrap(), now());
        prop_assert!(matches!(answer, Err(_) | Ok(0)), "{}", place);
    }
}
