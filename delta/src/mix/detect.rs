//! Finds programs, their instruction sets and their addresses.

use std::{collections::HashMap, ops::Range};

use rayon::prelude::*;

use super::{
    isa::{self, kind},
    space::{Isa, Region},
};

/// Shortest stretch between programs that is looked at for code.
const MIN_STRETCH: usize = 16 << 10;

/// An image that is more than so many times as long as the programs in it may be one program that carries them.
const MAX_CARRIED: usize = 4;

/// Fewest calls that make code.
const MIN_CALLS: usize = 32;

/// Fewest pointers to functions that prove an address.
const MIN_VOTES: u32 = 6;

/// Most words that vote for an address; enough for any image, and bounds the time.
const MAX_VOTERS: usize = 1 << 16;

/// Addresses that an image may be placed at are multiples of this.
const PLACEMENT: u64 = 1 << 12;

/// The programs in `image`, in order: the regions of each, of which the first one is marked.
pub(crate) fn programs(image: &[u8]) -> Vec<Region> {
    let mut regions = Vec::new();
    let mut stretches = Vec::new();
    let (mut at, mut covered, mut first) = (0, 0, None);
    while let Some(found) = next_elf(image, at) {
        let program = elf_regions(image, found);
        let end = program.iter().map(|region| (region.start + region.len) as usize).max().unwrap_or(0);
        if end <= found {
            at = found + 4;
            continue;
        }
        first = first.or(Some(found));
        stretches.push(at..found);
        regions.extend(program);
        covered += end - found;
        at = end;
    }
    stretches.push(at..image.len());
    // A kernel carries small programs within; it is one thing all the same, and most of its code is outside of them.
    if first != Some(0) && covered * MAX_CARRIED < image.len() {
        let sole = stretch(image, 0..image.len(), &stretches);
        if sole.isa != Isa::Data {
            return vec![sole];
        }
    }
    stretches.retain(|stretch| stretch.len() >= MIN_STRETCH || stretch.len() == image.len());
    let found: Vec<Region> = stretches.into_par_iter().map(|range| stretch(image, range.clone(), &[range])).collect();
    regions.extend(found.into_iter().filter(|region| region.isa != Isa::Data));
    regions.sort_unstable_by_key(|region| region.start);
    regions
}

/// Where the next ELF file begins, in whatever way it is aligned: archives and file systems pack files closely.
fn next_elf(image: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    loop {
        at += image.get(at..)?.iter().position(|&byte| byte == 0x7f)?;
        // Magic, class, little endian, version 1.
        if let [_, b'E', b'L', b'F', 1 | 2, 1, 1, ..] = image[at..] {
            return Some(at);
        }
        at += 1;
    }
}

fn number(image: &[u8], at: usize, len: usize) -> Option<u64> {
    let bytes = image.get(at..at.checked_add(len)?)?;
    Some(bytes.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte)))
}

/// The loaded segments of the little-endian ELF file at `start`.
fn elf_regions(image: &[u8], start: usize) -> Vec<Region> {
    let read = || {
        let wide = match number(image, start + 4, 2)? {
            0x0102 => true,
            0x0101 => false,
            _ => return None,
        };
        let machine = number(image, start + 18, 2)?;
        let word = if wide { 8 } else { 4 };
        let headers = number(image, start + if wide { 32 } else { 28 }, word)? as usize;
        let size = number(image, start + if wide { 54 } else { 42 }, 2)? as usize;
        let count = number(image, start + if wide { 56 } else { 44 }, 2)? as usize;
        if size < if wide { 56 } else { 32 } {
            return None;
        }
        let mut regions: Vec<Region> = Vec::new();
        for n in 0..count.min(64) {
            let header = start.checked_add(headers)?.checked_add(n * size)?;
            if number(image, header, 4)? != 1 {
                continue;
            }
            let [offset, address, len] = if wide { [8, 16, 32] } else { [4, 8, 16] };
            let mut region = Region {
                start: (start as u64).checked_add(number(image, header + offset, word)?)?,
                len: number(image, header + len, word)?,
                address: number(image, header + address, word)?,
                isa: Isa::Data,
                wide,
                first: regions.is_empty(),
            };
            let before = regions.last().map_or(start as u64, |last| last.start + last.len);
            let cut = before.saturating_sub(region.start).min(region.len);
            region.start += cut;
            region.address = region.address.wrapping_add(cut);
            region.len = region.len.saturating_sub(cut).min((image.len() as u64).saturating_sub(region.start));
            if region.len == 0 {
                continue;
            }
            let bytes = &image[region.start as usize..(region.start + region.len) as usize];
            // Code is what may be executed.
            let executable = number(image, header + if wide { 4 } else { 24 }, 4)? & 1 == 1;
            region.isa = match machine {
                _ if !executable => Isa::Data,
                183 => Isa::A64,
                62 | 3 => Isa::X64,
                40 => best_isa(bytes, std::slice::from_ref(&(0..bytes.len())), &[Isa::A32, Isa::Thumb]).0,
                _ => Isa::Data,
            };
            regions.push(region);
        }
        Some(regions)
    };
    read().unwrap_or_default()
}

/// The part `range` of an image, which may be code. Calls count that stand in `within`, a part of it.
fn stretch(image: &[u8], range: Range<usize>, within: &[Range<usize>]) -> Region {
    let bytes = &image[range.clone()];
    let within: Vec<_> = within.iter().map(|part| part.start - range.start..part.end - range.start).collect();
    let (isa, mut starts) = best_isa(bytes, &within, &[Isa::A64, Isa::Thumb, Isa::A32, Isa::X64]);
    let wide = matches!(isa, Isa::A64 | Isa::X64);
    starts.extend(prologues(bytes, isa));
    starts.sort_unstable();
    starts.dedup();
    let address = placement(bytes, &starts, isa, wide).unwrap_or(0);
    Region { start: range.start as u64, len: range.len() as u64, address, isa, wide, first: true }
}

/// The instruction set in which most calls go where other calls go, and where they go.
fn best_isa(bytes: &[u8], within: &[Range<usize>], choices: &[Isa]) -> (Isa, Vec<u32>) {
    let found: Vec<_> = choices
        .par_iter()
        .map(|&isa| {
            let mut targets = Vec::new();
            for range in within {
                calls(bytes, range.clone(), isa, &mut targets);
            }
            let all = targets.len();
            targets.sort_unstable();
            let mut shared = 0;
            let mut starts = Vec::new();
            for group in targets.chunk_by(|a, b| a == b) {
                starts.push(group[0]);
                if group.len() > 1 {
                    shared += group.len();
                }
            }
            let is_code = all >= MIN_CALLS && shared * 3 > all;
            (if is_code { shared } else { 0 }, isa, starts)
        })
        .collect();
    let mut best = (0, Isa::Data, Vec::new());
    for found in found {
        if found.0 > best.0 {
            best = found;
        }
    }
    (best.1, best.2)
}

/// Adds the targets of all words of `range` that read as calls within `bytes`.
fn calls(bytes: &[u8], range: Range<usize>, isa: Isa, targets: &mut Vec<u32>) {
    let len = bytes.len() as u64;
    let step = match isa {
        Isa::X64 => 1,
        Isa::Thumb => 2,
        _ => 4,
    };
    let first = range.start.next_multiple_of(step);
    for (n, window) in bytes[..range.end].windows(4).enumerate().skip(first).step_by(step) {
        let word = u32::from_le_bytes([window[0], window[1], window[2], window[3]]);
        let place = n as u64;
        let target = match isa {
            Isa::X64 if n > 0 && bytes[n - 1] == 0xe8 => isa::X64.target(word, place),
            Isa::X64 | Isa::Data => continue,
            Isa::A64 | Isa::A32 | Isa::Thumb => {
                let shape = match isa {
                    Isa::A64 => isa::a64(word),
                    Isa::A32 => isa::a32(word),
                    _ => isa::thumb(word),
                };
                let Some(reference) = shape.reference.filter(|_| shape.kind == kind::CALL) else { continue };
                reference.target(shape.form.canonical(word), place)
            }
        };
        if target < len && target != place {
            targets.push(target as u32);
        }
    }
}

/// Where functions begin by the look of their first instruction: those that are only pointed to have no calls.
fn prologues(bytes: &[u8], isa: Isa) -> Vec<u32> {
    let step = if isa == Isa::Thumb { 2 } else { 4 };
    let begins = |word: u32| match isa {
        // PACIASP, BTI C, or a frame record pushed.
        Isa::A64 => word == 0xd503_233f || word == 0xd503_245f || word & 0xffc0_7fff == 0xa980_7bfd,
        // PUSH with LR.
        Isa::Thumb => word & 0xff00 == 0xb500 || word & 0x4000_ffff == 0x4000_e92d,
        Isa::A32 => word & 0xffff_4000 == 0xe92d_4000,
        // ENDBR64, or PUSH RBP and MOV.
        Isa::X64 => word == 0xfa1e_0ff3 || word == 0xe589_4855,
        Isa::Data => false,
    };
    let windows = bytes.windows(4).enumerate().step_by(step);
    windows
        .filter(|(_, word)| begins(u32::from_le_bytes([word[0], word[1], word[2], word[3]])))
        .map(|(at, _)| at as u32)
        .collect()
}

/// The address of a stretch at which most pointers in it point to its functions.
fn placement(bytes: &[u8], starts: &[u32], isa: Isa, wide: bool) -> Option<u64> {
    // Thumb functions are pointed to with the lowest bit set. The upper sixteen bits of a 64-bit pointer are alike.
    let plausible = |word: u64| match isa {
        Isa::Thumb => word & 1 == 1,
        _ => word >= 256 && matches!(word >> 48, 0 | 0xffff),
    };
    let mut by_rest: HashMap<u64, Vec<u64>> = HashMap::new();
    for &start in starts {
        by_rest.entry(u64::from(start) % PLACEMENT).or_default().push(u64::from(start));
    }
    let width = if wide { 8 } else { 4 };
    let mut words: Vec<u64> =
        bytes.chunks_exact(width).filter_map(|word| number(word, 0, width)).filter(|&word| plausible(word)).collect();
    words.sort_unstable();
    words.dedup();
    let step = words.len().div_ceil(MAX_VOTERS).max(1);
    let mut votes: HashMap<u64, u32> = HashMap::new();
    for word in words.iter().step_by(step) {
        let place = if isa == Isa::Thumb { word & !1 } else { *word };
        for start in by_rest.get(&(place % PLACEMENT)).into_iter().flatten() {
            if let Some(base) = place.checked_sub(*start) {
                *votes.entry(base).or_default() += 1;
            }
        }
    }
    let best = votes.into_iter().max_by_key(|&(base, votes)| (votes, std::cmp::Reverse(base)))?;
    (best.1 >= MIN_VOTES).then_some(best.0)
}
