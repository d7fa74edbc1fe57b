//! What sales systems and owners of devices send: contracts whole and as rows, registrations, questions for cover. What was read
//! is written back to the same value, and what is made of it (digest, revision, wanted contracts, code) is the same again.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sluice_catalog::Time;
use sluice_catalog::import::{self, KnownNames};
use sluice_catalog::registration::read_code;
use sluice_catalog::wire::contracts::ContractPut;
use sluice_catalog::wire::entitlement::ImportRequest;
use sluice_catalog::wire::registration::{
    CodeCreate, CodeRequest, CoverRequest, RegisterRequest, RegistrationCreate, TransferCreate,
};

fn check<T: DeserializeOwned + Serialize>(bytes: &[u8]) -> Option<T> {
    let request = serde_json::from_slice::<T>(bytes).ok()?;
    let written = serde_json::to_value(&request).unwrap();
    let again: T = serde_json::from_value(written.clone()).unwrap();
    assert_eq!(serde_json::to_value(&again).unwrap(), written);
    Some(request)
}

fn code(text: &str) {
    if let Some(digits) = read_code(text) {
        assert_eq!(read_code(&digits), Some(digits.clone()));
        assert_eq!(digits.len(), 16);
    }
}

fn known(request: &ImportRequest) -> KnownNames {
    // All names are there but those with a `z`, so that both ways are walked.
    let names = |of: fn(&import::ImportRow) -> &str| {
        request.rows.iter().map(|row| of(row).trim().to_owned()).filter(|name| !name.contains('z')).collect()
    };
    KnownNames {
        customers: names(|row| &row.customer),
        plans: names(|row| &row.plan),
        products: names(|row| row.product.as_deref().unwrap_or_default()),
        contracts: BTreeMap::from([("K-1".to_owned(), ("acme".to_owned(), "plus".to_owned()))]),
    }
}

fuzz_target!(|bytes: &[u8]| {
    let now = Time::from_ms(1_780_315_200_000);
    if let Some(put) = check::<ContractPut>(bytes) {
        let _ = put.revised(now);
        let mut turned = put.clone();
        turned.windows.reverse();
        turned.items.reverse();
        assert_eq!(turned.content(), put.content());
    }
    if let Some(request) = check::<ImportRequest>(bytes) {
        let known = known(&request);
        let wanted = import::read(&request.rows, &known);
        let mut turned = request.rows.clone();
        turned.reverse();
        assert_eq!(import::read(&turned, &known), wanted);
        assert!(wanted.errors.len() <= request.rows.len());
    }
    check::<RegisterRequest>(bytes);
    check::<CodeRequest>(bytes);
    check::<CodeCreate>(bytes);
    check::<TransferCreate>(bytes);
    if let Some(request) = check::<RegistrationCreate>(bytes) {
        code(&request.code);
    }
    if let Some(request) = check::<CoverRequest>(bytes) {
        code(request.code.as_deref().unwrap_or_default());
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        code(text);
    }
});
