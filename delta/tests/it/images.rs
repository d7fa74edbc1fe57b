//! Seeded images that resemble firmware, and what every test needs.

use std::{io::Cursor, ops::ControlFlow};

use sluice_delta::{ApplyError, ApplyOptions, DiffOptions, Patch, apply, diff};

/// A small seeded generator, so that the images never change with a dependency.
pub struct Seeded(u64);

impl Seeded {
    pub fn new(seed: u64) -> Self {
        Self(seed ^ 0x9e37_79b9_7f4a_7c15)
    }

    pub fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 32) as u32
    }

    pub fn below(&mut self, bound: u32) -> u32 {
        self.next() % bound
    }
}

/// An image of functions that call each other by relative branches, with a pointer table behind: inserting a function moves
/// addresses everywhere, as linking does. `release` adds functions and changes a few.
pub fn code_like(functions: usize, release: u32) -> Vec<u8> {
    let mut seeded = Seeded::new(7);
    let mut bodies: Vec<Vec<u32>> = Vec::new();
    let mut calls: Vec<(usize, usize, usize)> = Vec::new();
    for number in 0..functions {
        let mut body: Vec<u32> = Vec::new();
        for _ in 0..20 + seeded.below(60) {
            match seeded.below(6) {
                0 => {
                    calls.push((number, body.len(), seeded.below(functions as u32) as usize));
                    body.push(0x9400_0000);
                }
                1 => body.push(0xf940_0000 | seeded.below(64) << 10 | seeded.below(8) << 5 | seeded.below(8)),
                2 => body.push(0x9100_0000 | seeded.below(256) << 10 | seeded.below(4)),
                3 => body.push(0xd503_201f),
                _ => body.push(0xaa00_03e0 | seeded.below(16) << 16),
            }
        }
        bodies.push(body);
    }
    let mut changes = Seeded::new(u64::from(release) + 100);
    let mut inserted: Vec<usize> = Vec::new();
    if release > 0 {
        for _ in 0..functions / 40 {
            let function = changes.below(functions as u32) as usize;
            let at = changes.below(bodies[function].len() as u32) as usize;
            bodies[function][at] = 0x5280_0000 | changes.below(0xffff) << 5;
        }
        inserted = (0..functions / 50).map(|_| changes.below(functions as u32) as usize).collect();
    }
    let mut words: Vec<u32> = Vec::new();
    let mut starts = Vec::new();
    for (number, body) in bodies.iter().enumerate() {
        for _ in inserted.iter().filter(|&&at| at == number) {
            words.extend((0..12).map(|_| changes.next()));
        }
        starts.push(words.len());
        words.extend(body);
    }
    for (caller, at, callee) in calls {
        let place = starts[caller] + at;
        if words[place] == 0x9400_0000 {
            words[place] |= (starts[callee] as u32).wrapping_sub(place as u32) & 0x03ff_ffff;
        }
    }
    words.extend(starts.iter().map(|start| 0x0800_0000 + 4 * *start as u32));
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// Bytes without structure.
pub fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut seeded = Seeded::new(seed);
    (0..len).map(|_| seeded.next() as u8).collect()
}

pub fn patch_with(old: &[u8], new: &[u8], options: &DiffOptions) -> Patch {
    diff(old, new, options, &|_| ControlFlow::Continue(())).expect("a patch can be made")
}

pub fn patch(old: &[u8], new: &[u8]) -> Patch {
    patch_with(old, new, &DiffOptions::default())
}

/// Applies with default options.
pub fn applied(old: &[u8], patch: &[u8]) -> Result<Vec<u8>, ApplyError> {
    applied_with(old, patch, &ApplyOptions::default())
}

pub fn applied_with(old: &[u8], patch: &[u8], options: &ApplyOptions) -> Result<Vec<u8>, ApplyError> {
    let mut new = Vec::new();
    apply(Cursor::new(old), patch, &mut new, options)?;
    Ok(new)
}
