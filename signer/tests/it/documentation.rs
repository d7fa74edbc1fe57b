//! `docs/tuf-documents.md` is in step with the code: its examples, field names and limits.

use crate::sample::{PRODUCT, frozen_certificates, frozen_documents, limits};
use sluice_signer::Json;
use std::collections::BTreeSet;

const DOCUMENT: &str = include_str!("../../../docs/tuf-documents.md");

fn documents() -> Vec<Json> {
    let parse = |bytes: Vec<u8>| Json::parse(&bytes, 1 << 20).unwrap();
    frozen_documents().into_values().chain(frozen_certificates().into_values()).map(parse).collect()
}

fn holds(value: &Json, wanted: &Json) -> bool {
    value == wanted
        || match value {
            Json::List(items) => items.iter().any(|item| holds(item, wanted)),
            Json::Object(members) => members.values().any(|member| holds(member, wanted)),
            _ => false,
        }
}

#[test]
fn every_example_is_a_part_of_the_frozen_sample() {
    let documents = documents();
    let blocks: Vec<&str> = DOCUMENT.split("```json\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(blocks.len() >= 8, "{} examples", blocks.len());
    for block in blocks {
        let example = Json::parse(block.as_bytes(), 1 << 20).unwrap();
        assert!(documents.iter().any(|document| holds(document, &example)), "{block}");
    }
}

/// Names of fields, leaving out names that are data: key ids, paths, roles, devices, files.
fn field_names(value: &Json, names: &mut BTreeSet<String>) {
    match value {
        Json::List(items) => {
            for item in items {
                field_names(item, names);
            }
        }
        Json::Object(members) => {
            for (name, member) in members {
                // Codes and versions, too, in certificates.
                let data = name.len() == 64 || name.contains(['/', '.']) || name == "cam-0001";
                if !data {
                    names.insert(name.clone());
                }
                field_names(member, names);
            }
        }
        _ => {}
    }
}

#[test]
fn every_field_is_described() {
    let mut names = BTreeSet::new();
    for document in documents() {
        field_names(&document, &mut names);
    }
    assert!(names.len() > 50, "{names:?}");
    let undescribed: Vec<&String> = names
        .iter()
        .filter(|name| name.as_str() != PRODUCT && !DOCUMENT.contains(&format!("`{name}`")))
        .filter(|name| !DOCUMENT.contains(&format!("`custom.{name}`")))
        // Members of the server's key export, which stand in the table of keys as S, T, D and E.
        .filter(|name| !matches!(name.as_str(), "director"))
        .collect();
    assert!(undescribed.is_empty(), "{undescribed:?}");
}

#[test]
fn every_limit_is_listed_with_its_value() {
    // The debug form has every field, so that a new limit cannot be forgotten.
    let text = format!("{:?}", limits());
    let fields = text.trim_start_matches("Limits { ").trim_end_matches(" }").split(", ");
    for field in fields {
        let (name, value) = field.split_once(": ").unwrap();
        assert!(DOCUMENT.contains(&format!("| `{name}` | {value} |")), "{name} {value}");
    }
}

#[test]
fn embargo_roles_are_described_as_they_are() {
    use sluice_signer::embargo::{MAX_EMBARGO, ROLE_PREFIX, role_name};
    let days = MAX_EMBARGO.as_hours() / 24;
    let digits = role_name([0; 8]).len() - ROLE_PREFIX.len();
    for told in [format!("more than {days} days ahead"), format!("`{ROLE_PREFIX}` and {digits} hexadecimal digits")] {
        assert!(DOCUMENT.contains(&told), "{told}");
    }
    let mut document = sluice_signer::TargetsMetadata::new(1, crate::sample::now(), None);
    document.not_before = Some(crate::sample::now());
    let signed = document.to_json();
    let Some(Json::Object(custom)) = signed.get("custom") else { panic!("{signed}") };
    assert!(custom.keys().all(|field| DOCUMENT.contains(&format!("| `custom.{field}` |"))), "{custom:?}");
}
