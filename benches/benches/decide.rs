//! The pure parts of a poll's answer: the decision on a long product, the bucket formula, canonical JSON, and the signed
//! document. `cargo bench -p sluice-benches`

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use sluice_benches::sample::{self, RELEASES};
use sluice_catalog::decide::{Decision, decide, why};
use sluice_catalog::id::CohortId;
use sluice_catalog::rollout::bucket;
use sluice_signer::{DirectorExpect, Limits};

fn decisions(c: &mut Criterion) {
    let now = sample::now();
    let (open, closed) = (sample::product(100).unwrap(), sample::product(1).unwrap());
    let (newest, last, old) =
        (sample::device(RELEASES).unwrap(), sample::device(RELEASES - 1).unwrap(), sample::device(1).unwrap());
    let mut group = c.benchmark_group("decide");
    for (name, device, product, offered) in [
        ("up to date", &newest, &open, false),
        ("one behind, waits for its stage", &last, &closed, false),
        ("one behind, offered", &last, &open, true),
        ("1999 behind, offered", &old, &open, true),
    ] {
        // A bench of the wrong case measures nothing.
        assert_eq!(matches!(decide(device, product, now, &mut ()), Decision::Offer { .. }), offered, "{name}");
        group.bench_function(name, |b| b.iter(|| decide(black_box(device), black_box(product), now, &mut ())));
    }
    group.finish();
    c.bench_function("why, 1999 behind", |b| b.iter(|| why(black_box(&old), black_box(&open), None, now)));
}

fn buckets(c: &mut Criterion) {
    let cohort = CohortId::new(sample::now(), [7; 10]);
    c.bench_function("bucket", |b| b.iter(|| bucket(black_box("5f3c9d2b7a1e4c60"), black_box(cohort))));
}

fn documents(c: &mut Criterion) {
    let limits = Limits::default();
    let offer = sample::offer().unwrap();
    let value = offer.document.to_json();
    c.bench_function("canonical JSON of an offer", |b| b.iter(|| black_box(&value).canonical()));
    c.bench_function("director: sign an offer", |b| b.iter(|| offer.document.sign(&offer.key, &limits).unwrap()));
    let bytes = offer.document.sign(&offer.key, &limits).unwrap();
    let expect = DirectorExpect {
        device_id: &offer.document.device_id,
        nonce: offer.document.nonce.as_deref(),
        now: offer.now,
        last_version: 0,
    };
    c.bench_function("director: verify an offer", |b| {
        b.iter(|| offer.trust.verify_director(black_box(&bytes), &expect).unwrap());
    });
}

criterion_group!(benches, decisions, buckets, documents);
criterion_main!(benches);
