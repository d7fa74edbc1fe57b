//! Addresses of a view: which region of it runs at which address, with which instruction set.
//!
//! The list is made by the generator and is part of the patch. Whatever it says only steers predictions: a wrong list
//! costs bytes, never correctness.

#[cfg(feature = "alloc")]
use alloc::vec::Vec;

use super::model::PIECE;
use crate::{error::ApplyError, varint};

/// Most regions of a view. Stops a list that outgrows its memory: 8,192 regions are 2,000 programs in one image.
pub(crate) const MAX_REGIONS: usize = 1 << 13;

/// Bytes that a region is written in at least.
const LEAST_WRITTEN: u64 = 4;

/// Shorter gaps between programs are taken for what stands before them.
#[cfg(feature = "generate")]
const MIN_GAP: u64 = 16 << 10;

/// What the words of a region are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Isa {
    /// Data, or nothing known.
    #[default]
    Data,
    /// AArch64.
    A64,
    /// 32-bit ARM.
    A32,
    /// Thumb and Thumb-2.
    Thumb,
    /// x86-64.
    X64,
}

impl Isa {
    fn from_code(code: u64) -> Option<Self> {
        Some(match code {
            0 => Self::Data,
            1 => Self::A64,
            2 => Self::A32,
            3 => Self::Thumb,
            4 => Self::X64,
            _ => return None,
        })
    }
}

/// A part of a view that stands at one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Region {
    /// First byte in the view.
    pub start: u64,
    /// Bytes in the view.
    pub len: u64,
    /// Address of the first byte.
    pub address: u64,
    /// Instructions in it.
    pub isa: Isa,
    /// Whether pointers have 64 bits.
    pub wide: bool,
    /// Whether another program begins here: references stay within their program.
    pub first: bool,
}

impl Region {
    /// Memory for a region.
    pub(crate) const UNSET: Self = Self { start: 0, len: 0, address: 0, isa: Isa::Data, wide: false, first: false };
}

/// Regions of a view, sorted, not overlapping. Outside of them an offset is its own address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Space<'a> {
    regions: &'a [Region],
}

/// Reads a list off the front of `bytes`, which hold all of it; regions must lie within a view of `len` bytes.
pub(crate) fn read(
    bytes: &mut &[u8],
    len: u64,
    mut each: impl FnMut(Region) -> Result<(), ApplyError>,
) -> Result<(), ApplyError> {
    let malformed = |reason| ApplyError::Malformed { field: "regions", reason };
    let count = varint::read(bytes, "regions")?;
    // A claim longer than its bytes reserves nothing.
    if count > MAX_REGIONS as u64 || count * LEAST_WRITTEN > bytes.len() as u64 {
        return Err(ApplyError::OverLimit { field: "regions", value: count, limit: MAX_REGIONS as u64 });
    }
    let mut end = 0u64;
    for _ in 0..count {
        let start = end.checked_add(varint::read(bytes, "regions")?).filter(|&start| start <= len);
        let start = start.ok_or_else(|| malformed("a region starts behind the view"))?;
        let size = varint::read(bytes, "regions")?;
        end = start
            .checked_add(size)
            .filter(|&end| end <= len && size > 0)
            .ok_or_else(|| malformed("a region is empty or reaches behind the view"))?;
        let address = varint::read(bytes, "regions")?;
        let kind = varint::read(bytes, "regions")?;
        let isa = Isa::from_code(kind & 7).filter(|_| kind < 32).ok_or_else(|| malformed("unknown kind"))?;
        let (wide, first) = (kind & 8 != 0, kind & 16 != 0);
        each(Region { start, len: size, address, isa, wide, first })?;
    }
    Ok(())
}

/// The regions of a view, on the heap.
#[cfg(feature = "alloc")]
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Regions(Vec<Region>);

#[cfg(feature = "alloc")]
impl Regions {
    /// Regions in order of their start; those that overlap one before are dropped.
    #[cfg(any(feature = "generate", test))]
    pub(crate) fn new(mut regions: Vec<Region>) -> Self {
        regions.sort_by_key(|region| region.start);
        let mut end = 0;
        regions.retain(|region| {
            let keep = region.start >= end && region.len > 0;
            if keep {
                end = region.start + region.len;
            }
            keep
        });
        regions.truncate(MAX_REGIONS);
        Self(regions)
    }

    /// The `most` longest of them.
    #[cfg(feature = "generate")]
    pub(crate) fn longest(mut self, most: usize) -> Self {
        self.0.sort_by_key(|region| core::cmp::Reverse(region.len));
        self.0.truncate(most);
        Self::new(self.0)
    }

    /// The programs of a view of `len` bytes. What lies between them is told apart by a region of one byte, which holds no
    /// address, so nothing there is taken for a reference.
    #[cfg(feature = "generate")]
    pub(crate) fn of_programs(programs: &[Region], len: u64) -> Self {
        if programs.is_empty() {
            return Self::default();
        }
        let mut regions = Vec::with_capacity(programs.len());
        let mut end = 0;
        let behind = Region { start: len, first: true, ..Region::default() };
        for region in Self::new(programs.to_vec()).0.into_iter().chain([behind]) {
            if region.first && region.start >= end + MIN_GAP {
                regions.push(Region { start: end, len: 1, address: end, first: true, ..Region::default() });
            }
            end = region.start + region.len;
            regions.push(region);
        }
        Self::new(regions)
    }

    /// What is known by them.
    pub(crate) fn space(&self) -> Space<'_> {
        Space::new(&self.0)
    }

    /// Appends the list: a count, and for each region the gap before it, its length, its address and its kind.
    #[cfg(any(feature = "generate", test))]
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        varint::write(out, self.0.len() as u64);
        let mut end = 0;
        for region in &self.0 {
            varint::write(out, region.start - end);
            varint::write(out, region.len);
            varint::write(out, region.address);
            let isa = region.isa as u64;
            varint::write(out, isa | u64::from(region.wide) << 3 | u64::from(region.first) << 4);
            end = region.start + region.len;
        }
    }

    /// Bytes that the regions of both views take, when they are written in `len` bytes.
    pub(crate) fn memory(len: u32) -> u64 {
        (u64::from(len) / LEAST_WRITTEN + 2) * size_of::<Region>() as u64
    }

    /// Reads a list off the front of `bytes`, as [`read`] does.
    pub(crate) fn read(bytes: &mut &[u8], len: u64) -> Result<Self, ApplyError> {
        // Room for all at once, as far as there are bytes for them: a list that grows would hold two for a moment.
        let count = varint::read(&mut &**bytes, "regions")?.min(bytes.len() as u64 / LEAST_WRITTEN);
        let mut regions = Vec::with_capacity(count as usize);
        read(bytes, len, |region| {
            regions.push(region);
            Ok(())
        })?;
        Ok(Self(regions))
    }
}

impl<'a> Space<'a> {
    /// Regions that are sorted and do not overlap.
    pub(crate) fn new(regions: &'a [Region]) -> Self {
        Self { regions }
    }

    /// Number of the region that holds `offset`, or of the last one before it.
    pub(crate) fn find(&self, offset: u64) -> usize {
        self.regions.partition_point(|region| region.start <= offset).saturating_sub(1)
    }

    /// The region with this number.
    pub(crate) fn region(&self, number: usize) -> Region {
        self.regions.get(number).copied().unwrap_or_default()
    }

    /// Where the region behind this one begins.
    pub(crate) fn next_start(&self, number: usize) -> u64 {
        self.regions.get(number + 1).map_or(u64::MAX, |region| region.start)
    }

    /// The address of `offset`, which lies in or behind region `number`.
    pub(crate) fn address(&self, number: usize, offset: i64) -> u64 {
        let region = self.region(number);
        region.address.wrapping_add_signed(offset.wrapping_sub(region.start.cast_signed()))
    }

    /// The address of `offset`, by the last region that begins before it.
    pub(crate) fn address_of(&self, offset: u64) -> u64 {
        self.address(self.find(offset), offset.cast_signed())
    }

    /// Bytes from `offset` to the end of its piece. Addresses decide, not offsets: a program keeps its alignment wherever it
    /// stands in a view.
    pub(crate) fn piece(&self, offset: u64) -> u64 {
        PIECE - self.address_of(offset) % PIECE
    }

    /// The regions of the program that region `number` belongs to.
    fn program(&self, number: usize) -> &'a [Region] {
        let upto = self.regions.get(..=number).unwrap_or_default();
        let first = upto.iter().rposition(|region| region.first).unwrap_or(0);
        let behind = self.regions.get(number + 1..).unwrap_or_default();
        let more = behind.iter().position(|region| region.first).unwrap_or(behind.len());
        self.regions.get(first..number + 1 + more).unwrap_or_default()
    }

    /// The region of the program of region `number` in which `address` lies; if in none, the last one below it.
    fn at(&self, number: usize, address: u64) -> Option<Region> {
        let here = self.region(number);
        if address.wrapping_sub(here.address) < here.len {
            return Some(here);
        }
        let below = self.program(number).iter().filter(|region| region.address <= address);
        below.max_by_key(|region| region.address).copied()
    }

    /// The offset of `address` as seen from region `number`. For memory behind a region that is not in the view: the region's
    /// last byte, and how far beyond.
    pub(crate) fn inside(&self, number: usize, address: u64) -> (i64, u64) {
        let region = self.at(number, address).unwrap_or_else(|| self.region(number));
        let from = address.wrapping_sub(region.address);
        let beyond = if region.len == 0 { 0 } else { from.saturating_sub(region.len - 1) };
        (region.start.wrapping_add(from - beyond).cast_signed(), beyond)
    }

    /// The address of any `offset` of the program of region `number`.
    pub(crate) fn address_near(&self, number: usize, offset: i64) -> u64 {
        let region = self.region(number);
        let from_start = offset.wrapping_sub(region.start.cast_signed());
        if (0..region.len.cast_signed()).contains(&from_start) {
            return region.address.wrapping_add_signed(from_start);
        }
        let at = u64::try_from(offset).unwrap_or(0);
        let program = self.program(number);
        let holding = program.partition_point(|region| region.start <= at).saturating_sub(1);
        let region = program.get(holding).copied().unwrap_or_default();
        region.address.wrapping_add_signed(offset.wrapping_sub(region.start.cast_signed()))
    }

    /// Whether `address` is one of the program's.
    pub(crate) fn holds(&self, number: usize, address: u64) -> bool {
        self.at(number, address).is_some_and(|region| {
            // Memory behind the last region is not in the view: a sixteenth more is taken for it.
            address.wrapping_sub(region.address) < region.len + region.len / 16
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn region(start: u64, len: u64, address: u64) -> Region {
        Region { start, len, address, ..Region::default() }
    }

    #[test]
    fn addresses_and_offsets_of_a_program_with_two_segments() {
        let text = Region { first: true, isa: Isa::A64, wide: true, ..region(0, 0x1000, 0x10000) };
        let regions = Regions::new(vec![region(0x1000, 0x500, 0x30000), text]);
        let space = regions.space();
        assert_eq!(space.address(0, 0x10), 0x10010);
        assert_eq!(space.inside(0, 0x30020), (0x1020, 0));
        assert_eq!(space.inside(1, 0x10020), (0x20, 0));
        assert_eq!(space.inside(1, 0x30500), (0x14ff, 1), "memory behind the file");
        assert_eq!(space.address_near(0, 0x1020), 0x30020);
        assert!(space.holds(1, 0x10fff) && !space.holds(1, 0x0fff) && !space.holds(0, 0x40000));
        let mut bytes = Vec::new();
        regions.write(&mut bytes);
        assert_eq!(Regions::read(&mut &bytes[..], 0x1500).unwrap(), regions);
        assert!(Regions::read(&mut &bytes[..], 0x14ff).is_err());
    }

    #[cfg(feature = "generate")]
    #[test]
    fn what_is_no_program_holds_no_address() {
        let text = Region { first: true, isa: Isa::A64, ..region(0x8000, 0x1000, 0x10000) };
        let data = region(0x20000, 0x1000, 0x30000);
        let regions = Regions::of_programs(&[text, data], 0x30000);
        assert_eq!(regions.0.iter().map(|region| region.start).collect::<Vec<_>>(), [0, 0x8000, 0x20000, 0x21000]);
        let space = regions.space();
        assert!(!space.holds(0, 0x10) && !space.holds(3, 0x21010) && space.holds(2, 0x10010));
        assert_eq!(space.address_of(0x21010), 0x21010);
        assert_eq!(Regions::of_programs(&[], 0x30000), Regions::default());
    }

    #[test]
    fn references_stay_within_their_program() {
        let first = |start, address| Region { first: true, ..region(start, 0x100, address) };
        let regions = [first(0, 0), first(0x100, 0), first(0x200, 0)];
        let space = Space::new(&regions);
        assert_eq!(space.inside(1, 0x20), (0x120, 0));
        assert_eq!(space.inside(2, 0x20), (0x220, 0));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200), len in any::<u64>()) {
            if let Ok(regions) = Regions::read(&mut &bytes[..], len) {
                let space = regions.space();
                for number in 0..4 {
                    let address = space.address(number, bytes.len() as i64);
                    let _ = (space.inside(number, address), space.holds(number, len), space.address_near(number, -1));
                }
            }
        }
    }
}
