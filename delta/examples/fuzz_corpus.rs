//! Writes the corpora below `delta/fuzz/corpus`: for every consumer of outsiders' bytes a few valid inputs, and the shortest
//! mutant found for each way in which it answers. What the hostile-input suite replays.

#![expect(clippy::cast_possible_truncation, reason = "inputs are a few kilobytes")]

#[path = "../fuzz/src/lib.rs"]
mod consumers;
#[path = "../tests/hostile/mutate.rs"]
mod mutate;
#[path = "../tests/hostile/seeds.rs"]
mod seeds;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::Path,
};

use consumers::CONSUMERS;
use mutate::{Seeded, mutate};

/// Mutants looked at for each consumer, other ones than the suite makes.
const MUTANTS: std::ops::Range<u64> = 1 << 32..(1 << 32) + 40_000;

/// Longest input that is kept.
const LONGEST: usize = 2 << 10;

/// Most mutants that are kept for one consumer.
const FILES: usize = 30;

fn main() -> io::Result<()> {
    // What one consumer answered to is not kept for another: two of them read the same patches.
    let mut known = BTreeSet::new();
    for consumer in CONSUMERS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(consumer.name);
        fs::create_dir_all(&folder)?;
        let seeds = seeds::seeds(consumer.name);
        let mut found: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        for number in MUTANTS {
            let mut seeded = Seeded::new(number);
            let (seed, other) = (&seeds[seeded.below(seeds.len())], &seeds[seeded.below(seeds.len())]);
            let mutant = mutate(seed, other, &mut seeded);
            let kept = found.entry(consumers::consume(consumer.name, &mutant)).or_insert_with(|| mutant.clone());
            if mutant.len() < kept.len() {
                *kept = mutant;
            }
        }
        let ways = found.len();
        found.retain(|answer, _| known.insert(answer.clone()));
        let (mut valid, mut mutants) = (seeds, found.into_values().collect::<Vec<_>>());
        for inputs in [&mut valid, &mut mutants] {
            inputs.sort_by_key(Vec::len);
            inputs.retain(|input| input.len() <= LONGEST);
            inputs.truncate(FILES);
        }
        valid.truncate(4);
        for (kind, inputs) in [("valid", valid), ("mutant", mutants)] {
            for (at, input) in inputs.iter().enumerate() {
                fs::write(folder.join(format!("{kind}-{at:02}")), input)?;
            }
        }
        println!("{}: {ways} ways to answer, {} bytes of memory allowed", consumer.name, consumer.memory);
    }
    Ok(())
}
