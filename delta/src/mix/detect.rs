//! Finds what a view is made of: programs, their instruction sets and their addresses.

use std::collections::HashMap;

use super::{
    isa::{self, kind},
    space::{Isa, Region, Regions},
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

/// What a view is made of, of which each part stands for itself: parts begin at `starts`, which ascend, and at 0.
pub(crate) fn space_of_parts(view: &[u8], starts: &[u64]) -> Regions {
    let mut regions = Vec::new();
    let ends = starts.iter().copied().chain([view.len() as u64]);
    let mut start = 0;
    for end in ends {
        let part = &view[start as usize..end.max(start) as usize];
        let moved = |region: &Region| Region { start: region.start + start, ..*region };
        regions.extend(space(part).list().iter().map(moved));
        start = end.max(start);
    }
    Regions::new(regions)
}

/// What `image` is made of.
pub(crate) fn space(image: &[u8]) -> Regions {
    let mut programs = Vec::new();
    let (mut at, mut covered) = (0, 0);
    while let Some(found) = next_elf(image, at) {
        let program = elf_regions(image, found);
        let end = program.iter().map(|region| (region.start + region.len) as usize).max().unwrap_or(0);
        if end > found {
            covered += end - found;
            programs.push((found, end, program));
        }
        at = end.max(found + 4);
    }
    // A kernel carries small programs within; it is one thing all the same.
    let sole = programs.first().is_none_or(|&(start, ..)| start > 0) && covered * MAX_CARRIED < image.len();
    if sole {
        let region = stretch(image, 0, image.len());
        if region.isa != Isa::Data {
            return Regions::new(vec![region]);
        }
    }
    let mut regions = Vec::new();
    let mut end = 0;
    for (start, program_end, program) in programs {
        if start >= end + MIN_STRETCH {
            regions.push(stretch(image, end, start));
        }
        regions.extend(program);
        end = program_end;
    }
    if image.len() > end && (image.len() >= end + MIN_STRETCH || regions.is_empty()) {
        regions.push(stretch(image, end, image.len()));
    }
    Regions::new(regions)
}

fn next_elf(image: &[u8], from: usize) -> Option<usize> {
    let from = from.next_multiple_of(4);
    let rest = image.get(from..)?;
    rest.chunks_exact(4).position(|word| word == b"\x7fELF").map(|n| from + 4 * n)
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
                40 => best_isa(bytes, &[Isa::A32, Isa::Thumb]).0,
                _ => Isa::Data,
            };
            regions.push(region);
        }
        Some(regions)
    };
    read().unwrap_or_default()
}

/// A stretch of which nothing is known.
fn stretch(image: &[u8], start: usize, end: usize) -> Region {
    let bytes = &image[start..end];
    let (isa, mut starts) = best_isa(bytes, &[Isa::A64, Isa::Thumb, Isa::A32, Isa::X64]);
    let wide = matches!(isa, Isa::A64 | Isa::X64);
    starts.extend(prologues(bytes, isa));
    starts.sort_unstable();
    starts.dedup();
    let address = placement(bytes, &starts, isa, wide).unwrap_or(0);
    Region { start: start as u64, len: (end - start) as u64, address, isa, wide, first: true }
}

/// The instruction set in which most calls go where other calls go, and where they go.
fn best_isa(bytes: &[u8], choices: &[Isa]) -> (Isa, Vec<u32>) {
    let mut best = (Isa::Data, Vec::new(), 0);
    for &isa in choices {
        let mut targets = calls(bytes, isa);
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
        if all >= MIN_CALLS && shared * 3 > all && shared > best.2 {
            best = (isa, starts, shared);
        }
    }
    (best.0, best.1)
}

/// Targets of all words that read as calls within `bytes`.
fn calls(bytes: &[u8], isa: Isa) -> Vec<u32> {
    let len = bytes.len() as u64;
    let step = match isa {
        Isa::X64 => 1,
        Isa::Thumb => 2,
        _ => 4,
    };
    let mut targets = Vec::new();
    for (n, window) in bytes.windows(4).enumerate().step_by(step) {
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
    targets
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
