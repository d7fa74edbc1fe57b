//! Cuts a copy into units, words or parts of words, and predicts each from the old view.

use super::{
    isa::{self, Form, Reference, Shape, kind},
    model::Window,
    references::References,
    space::{Isa, Region},
};

/// Words looked ahead for the instruction that completes the address of an ADRP.
const ADRP_REACH: u64 = 8;

/// A piece of a copy that is predicted as a whole.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unit {
    pub kind: u8,
    pub form: Form,
    /// Bytes, 1 to 4.
    pub len: u8,
    /// The old word as it stands, and in canonical form.
    pub raw: u32,
    pub old: u32,
    /// What the reference becomes, in canonical form; the old word when there is none.
    pub moved: u32,
    /// The same with the new target itself in its field, wherever the word stands.
    #[cfg_attr(not(feature = "generate"), expect(dead_code, reason = "for the matcher's normalised views"))]
    pub absolute: u32,
    /// What a remembered difference belongs to: the old target of a reference, or the old word.
    pub subject: u32,
    /// Whether `subject` is a target.
    pub refers: bool,
}

/// For each AArch64 register the old page that an ADRP put there, if one did.
#[derive(Clone, Copy)]
pub(crate) struct Pages {
    known: u32,
    page: [u64; 32],
}

impl Pages {
    fn get(&self, register: usize) -> Option<u64> {
        self.page.get(register).copied().filter(|_| self.known >> register & 1 == 1)
    }

    fn set(&mut self, register: usize, page: u64) {
        if let Some(entry) = self.page.get_mut(register) {
            *entry = page;
            self.known |= 1 << register;
        }
    }

    fn forget(&mut self, register: usize) {
        if register < self.page.len() {
            self.known &= !(1 << register);
        }
    }
}

/// Walks through copies and keeps what instructions before tell about those behind.
pub(crate) struct Walker {
    pages: Pages,
    old_region: usize,
    new_region: usize,
    /// Whether a distance counts as a reference even when it stays as it is.
    all_distances: bool,
}

impl Walker {
    /// A walker for coding: a distance that stays is as good as no distance.
    pub(crate) const fn new() -> Self {
        Self { pages: Pages { known: 0, page: [0; 32] }, old_region: 0, new_region: 0, all_distances: false }
    }

    /// A walker to which all distances are references.
    #[cfg(feature = "generate")]
    pub(crate) fn of_all_distances() -> Self {
        Self { all_distances: true, ..Self::new() }
    }

    /// What is known of registers, to return to.
    pub(crate) fn pages(&self) -> Pages {
        self.pages
    }

    /// Forgets what happened since [`Walker::pages`].
    pub(crate) fn restore(&mut self, pages: &Pages) {
        self.pages = *pages;
    }

    /// Finds the regions at the beginning of a piece; nothing of it reaches across their ends, see [`Walker::until`].
    pub(crate) fn enter(&mut self, references: &References, old: u64, new: u64) {
        self.old_region = references.old.find(old);
        self.new_region = references.new.find(new);
    }

    /// Bytes from `old` and `new` on that lie in the regions entered.
    pub(crate) fn until(&self, references: &References, old: u64, new: u64) -> u64 {
        let old_end = references.old.next_start(self.old_region);
        let new_end = references.new.next_start(self.new_region);
        old_end.saturating_sub(old).min(new_end.saturating_sub(new)).max(1)
    }

    /// The unit at offset `old`, whose new place is `new`, with `left` bytes to come at most.
    #[inline]
    pub(crate) fn unit(&mut self, references: &References, window: &Window<'_>, old: u64, new: u64, left: u64) -> Unit {
        let region = references.old.region(self.old_region);
        let place = references.old.address(self.old_region, old.cast_signed());
        let to_boundary = 4 - (place & 3);
        let word = window.word(old);
        let seat = Seat { references, window, region, old, new, place };
        if region.isa == Isa::Thumb && place & 1 == 0 && left >= 2 {
            return self.thumb(&seat, word, left);
        }
        if region.isa == Isa::X64 {
            return self.x64(&seat, word, left);
        }
        if to_boundary != 4 || left < 4 {
            return plain(word, to_boundary.min(left));
        }
        match region.isa {
            Isa::A64 => self.a64(&seat, word),
            Isa::A32 => {
                let shape = isa::a32(word);
                if shape.reference.is_some() {
                    self.referring(&seat, shape, word)
                } else {
                    self.data(&seat, shape, word)
                }
            }
            _ => self.data(&seat, Shape { kind: kind::PLAIN, len: 4, form: Form::PLAIN, reference: None }, word),
        }
    }

    #[inline]
    fn a64(&mut self, seat: &Seat<'_, '_>, word: u32) -> Unit {
        let shape = isa::a64(word);
        let register = (word & 31) as usize;
        if shape.kind == kind::ADRP {
            let canonical = shape.form.canonical(word);
            let page = shape.reference.map_or(0, |reference| reference.target(canonical, seat.place));
            self.pages.set(register, page);
            let low = (1..=ADRP_REACH).find_map(|n| {
                let next = seat.window.word(seat.old + 4 * n);
                let scale = isa::a64_low_scale(next).filter(|_| (next >> 5 & 31) as usize == register)?;
                Some(u64::from(next >> 10 & 0xfff) << scale)
            });
            return self.aimed(seat, shape, word, page.wrapping_add(low.unwrap_or(0)));
        }
        if shape.reference.is_some() {
            return self.referring(seat, shape, word);
        }
        if let Some(scale) = isa::a64_low_scale(word) {
            let base = self.pages.get((word >> 5 & 31) as usize);
            if !isa::a64_keeps_registers(word) {
                self.pages.forget(register);
            }
            if let Some(page) = base {
                let target = page.wrapping_add(u64::from(word >> 10 & 0xfff) << scale);
                let moved = seat.references.moved(self.old_region, self.new_region, target);
                let old = shape.form.canonical(word);
                let field = Reference { base: isa::Base::Zero, bits: 12, scale, signed: false };
                let moved = field.aimed(old, moved & 0xfff, 0);
                let (subject, refers) = (target as u32, true);
                return Unit {
                    kind: kind::LOW,
                    form: shape.form,
                    len: 4,
                    raw: word,
                    old,
                    moved,
                    absolute: moved,
                    subject,
                    refers,
                };
            }
        } else if !isa::a64_keeps_registers(word) {
            self.pages.forget(register);
        }
        self.data(seat, shape, word)
    }

    fn thumb(&mut self, seat: &Seat<'_, '_>, word: u32, left: u64) -> Unit {
        if seat.place.is_multiple_of(4) && left >= 4 && seat.references.old.holds(self.old_region, u64::from(word)) {
            let shape = Shape { kind: kind::POINTER, len: 4, form: Form::PLAIN, reference: Some(isa::POINTER) };
            return self.referring(seat, shape, word);
        }
        let shape = isa::thumb(word);
        let len = u64::from(shape.len);
        if len > left {
            return plain(word, 2);
        }
        let word = if len == 2 { word & 0xffff } else { word };
        if shape.reference.is_some() {
            return self.referring(seat, shape, word);
        }
        let old = shape.form.canonical(word);
        Unit {
            kind: shape.kind,
            form: shape.form,
            len: shape.len,
            raw: word,
            old,
            moved: old,
            absolute: old,
            subject: old,
            refers: false,
        }
    }

    fn x64(&mut self, seat: &Seat<'_, '_>, word: u32, left: u64) -> Unit {
        let before = |n: u64| seat.window.word(seat.old.wrapping_add(n).wrapping_sub(4)).swap_bytes();
        let found = |n: u64| {
            let kind = isa::x64(before(n))?;
            let target = isa::X64.target(seat.window.word(seat.old + n), seat.place.wrapping_add(n));
            seat.references.old.holds(self.old_region, target).then_some(kind)
        };
        if left >= 4
            && let Some(kind) = found(0)
        {
            let shape = Shape { kind, len: 4, form: Form::PLAIN, reference: Some(isa::X64) };
            return self.referring(seat, shape, word);
        }
        let whole = (4 - (seat.place & 3)).min(left);
        let len = (1..whole).find(|&n| found(n).is_some()).unwrap_or(whole);
        if len < 4 {
            return plain(word, len);
        }
        self.data(seat, Shape { kind: kind::PLAIN, len: 4, form: Form::PLAIN, reference: None }, word)
    }

    /// A word that may be data although it can be read as the instruction `shape`.
    #[inline]
    fn data(&self, seat: &Seat<'_, '_>, shape: Shape, word: u32) -> Unit {
        let space = &seat.references.old;
        if seat.region.wide {
            if seat.place.is_multiple_of(8) {
                let target = u64::from(seat.window.word(seat.old + 4)) << 32 | u64::from(word);
                if space.holds(self.old_region, target) {
                    let moved = seat.references.moved(self.old_region, self.new_region, target);
                    return Unit {
                        kind: kind::POINTER,
                        form: Form::PLAIN,
                        len: 4,
                        raw: word,
                        old: word,
                        moved: moved as u32,
                        absolute: moved as u32,
                        subject: target as u32,
                        refers: true,
                    };
                }
            }
        } else if space.holds(self.old_region, u64::from(word)) {
            let shape = Shape { kind: kind::POINTER, len: 4, form: Form::PLAIN, reference: Some(isa::POINTER) };
            return self.referring(seat, shape, word);
        }
        let distance = i64::from(word.cast_signed());
        if distance.unsigned_abs() >= 4 && space.holds(self.old_region, seat.place.wrapping_add_signed(distance)) {
            let shape = Shape { kind: kind::RELATIVE, len: 4, form: Form::PLAIN, reference: Some(isa::RELATIVE) };
            let unit = self.referring(seat, shape, word);
            if unit.moved != unit.old || self.all_distances {
                return unit;
            }
        }
        let old = shape.form.canonical(word);
        Unit {
            kind: shape.kind,
            form: shape.form,
            len: 4,
            raw: word,
            old,
            moved: old,
            absolute: old,
            subject: old,
            refers: false,
        }
    }

    fn referring(&self, seat: &Seat<'_, '_>, shape: Shape, word: u32) -> Unit {
        let canonical = shape.form.canonical(word);
        let target = shape.reference.map_or(0, |reference| reference.target(canonical, seat.place));
        self.aimed(seat, shape, word, target)
    }

    fn aimed(&self, seat: &Seat<'_, '_>, shape: Shape, word: u32, target: u64) -> Unit {
        let old = shape.form.canonical(word);
        let (moved, absolute) = shape.reference.map_or((old, old), |reference| {
            let target = seat.references.moved(self.old_region, self.new_region, target);
            let new_place = seat.references.new.address(self.new_region, seat.new.cast_signed());
            (reference.aimed(old, target, new_place), reference.absolute(old, target))
        });
        let (kind, form, len) = (shape.kind, shape.form, shape.len);
        Unit { kind, form, len, raw: word, old, moved, absolute, subject: target as u32, refers: true }
    }
}

/// Where a unit stands.
struct Seat<'a, 'o> {
    references: &'a References<'a>,
    window: &'a Window<'o>,
    region: Region,
    old: u64,
    new: u64,
    /// Address of `old`.
    place: u64,
}

/// A unit of a few bytes that mean nothing.
fn plain(word: u32, len: u64) -> Unit {
    let len = len.clamp(1, 4) as u8;
    let old = word & u32::MAX >> (32 - 8 * u32::from(len));
    Unit {
        kind: kind::PLAIN,
        form: Form::PLAIN,
        len,
        raw: old,
        old,
        moved: old,
        absolute: old,
        subject: old,
        refers: false,
    }
}
