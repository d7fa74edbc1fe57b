//! Hostile input: every consumer of outsiders' bytes replays its corpus, then takes seeded mutations of valid inputs. None
//! panics, none reserves more than it may, all end.
//!
//! All of it is one test in a binary of its own, because the allocator counts for the whole process.

#![cfg(all(feature = "generate", feature = "foreign"))]
#![expect(clippy::cast_possible_truncation, reason = "inputs are a few kilobytes")]

#[path = "../../fuzz/src/lib.rs"]
mod consumers;
mod mutate;
mod seeds;

use std::{fs, path::Path};

use consumers::{CONSUMERS, Consumer};
use mutate::{Seeded, mutate};
use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// Longest file of a corpus: they stand in the repository.
const CORPUS_FILE_MAX: usize = 8 << 10;

/// Mutants of whole patches that go through the reader of heads and the applier, as they are and vouched for.
const PATCH_MUTANTS: usize = 50_000;

/// Mutants for every other consumer.
const MUTANTS: usize = 15_000;

/// Feeds `bytes` and holds the consumer to its memory.
fn feed(consumer: &Consumer, bytes: &[u8], what: &dyn Fn() -> String) {
    ALLOCATOR.reset_peak_usage();
    let before = ALLOCATOR.current_usage();
    let outcome = std::panic::catch_unwind(|| (consumer.consume)(bytes));
    let used = (ALLOCATOR.peak_usage() - before) as u64;
    let Ok(outcome) = outcome else { panic!("{} panics on {}: {bytes:02x?}", consumer.name, what()) };
    let allowed = consumer.memory + 64 * bytes.len() as u64;
    assert!(used <= allowed, "{} reserves {used} of {allowed} bytes on {} ({outcome})", consumer.name, what());
}

fn replay(consumer: &Consumer) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(consumer.name);
    let files = fs::read_dir(&folder).unwrap_or_else(|error| {
        panic!("{}: {error}; make it: cargo run -p sluice-delta --example fuzz_corpus", folder.display())
    });
    let mut count = 0;
    for file in files {
        let path = file.unwrap().path();
        let bytes = fs::read(&path).unwrap();
        assert!(bytes.len() <= CORPUS_FILE_MAX, "{} is too long for the repository", path.display());
        feed(consumer, &bytes, &|| path.display().to_string());
        count += 1;
    }
    assert!(count >= 4, "{} has {count} files", folder.display());
}

fn attack(consumer: &Consumer, mutants: usize) {
    let seeds = seeds::seeds(consumer.name);
    for (at, seed) in seeds.iter().enumerate() {
        feed(consumer, seed, &|| format!("valid input {at}"));
    }
    for number in 0..mutants {
        let mut seeded = Seeded::new(number as u64);
        let (seed, other) = (&seeds[number % seeds.len()], &seeds[seeded.below(seeds.len())]);
        let mutant = mutate(seed, other, &mut seeded);
        feed(consumer, &mutant, &|| format!("mutant {number}"));
    }
}

#[test]
fn hostile_input() {
    // Made once by whoever comes first, and not counted.
    assert!(!consumers::OLD.is_empty());
    for patch in seeds::all_patches() {
        assert_eq!(consumers::consume("patch", &patch), "applied");
        assert_eq!(consumers::consume("patch_vouched", &patch), "applied");
    }
    for name in ["mcu", "bsdiff40", "zstd_prefix"] {
        for patch in seeds::seeds(name) {
            assert_eq!(consumers::consume(name, &patch), "applied", "{name}");
        }
    }
    for consumer in CONSUMERS {
        replay(consumer);
        attack(consumer, if consumer.name.starts_with("patch") { PATCH_MUTANTS } else { MUTANTS });
    }
}
