//! Words that refer to places: how branches, address loads and pointers of each instruction set hold their target.
//!
//! A word is handled in a canonical form, in which the bits of its immediate stand together at the low end. Each form is
//! a bijection of all 32-bit words, so that a difference of canonical words always leads back to a word.

/// How to bring a word into its canonical form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// As it is, or rotated right by so many bits.
    Rotated(u8),
    /// AArch64 ADR and ADRP: two low bits of the immediate at bit 29, nineteen at bit 5.
    Adr,
    /// Thumb-2 BL, BLX and B.W, first halfword low: `S imm10` and `J1 J2 imm11`.
    ThumbBranch,
    /// Thumb-2 MOVW and MOVT, first halfword low: `i imm4` and `imm3 imm8`.
    ThumbMove,
}

impl Form {
    /// The word as it is.
    pub(crate) const PLAIN: Self = Self::Rotated(0);

    pub(crate) fn canonical(self, word: u32) -> u32 {
        match self {
            Self::Rotated(by) => word.rotate_right(u32::from(by)),
            Self::Adr => {
                let imm = word >> 5 << 2 & 0x1f_fffc | word >> 29 & 3;
                imm | (word & 0x1f) << 21 | word >> 31 << 26 | (word >> 24 & 0x1f) << 27
            }
            Self::ThumbBranch => {
                let (first, second) = (word & 0xffff, word >> 16);
                let sign = first >> 10 & 1;
                let (i1, i2) = ((second >> 13 ^ sign ^ 1) & 1, (second >> 11 ^ sign ^ 1) & 1);
                let imm = sign << 23 | i1 << 22 | i2 << 21 | (first & 0x3ff) << 11 | second & 0x7ff;
                imm | (first >> 11) << 24 | (second >> 14) << 29 | (second >> 12 & 1) << 31
            }
            Self::ThumbMove => {
                let (first, second) = (word & 0xffff, word >> 16);
                let imm = (first & 0xf) << 12 | (first >> 10 & 1) << 11 | (second >> 12 & 7) << 8 | second & 0xff;
                imm | (first >> 4 & 0x3f) << 16 | (first >> 11) << 22 | (second >> 8 & 0xf) << 27 | second >> 15 << 31
            }
        }
    }

    pub(crate) fn word(self, canonical: u32) -> u32 {
        let c = canonical;
        match self {
            Self::Rotated(by) => c.rotate_left(u32::from(by)),
            Self::Adr => {
                (c & 3) << 29 | (c >> 2 & 0x7_ffff) << 5 | c >> 21 & 0x1f | (c >> 26 & 1) << 31 | (c >> 27) << 24
            }
            Self::ThumbBranch => {
                let sign = c >> 23 & 1;
                let (j1, j2) = ((c >> 22 ^ sign ^ 1) & 1, (c >> 21 ^ sign ^ 1) & 1);
                let first = (c >> 24 & 0x1f) << 11 | sign << 10 | c >> 11 & 0x3ff;
                let second = (c >> 29 & 3) << 14 | (c >> 31) << 12 | j1 << 13 | j2 << 11 | c & 0x7ff;
                second << 16 | first
            }
            Self::ThumbMove => {
                let first = (c >> 22 & 0x1f) << 11 | (c >> 11 & 1) << 10 | (c >> 16 & 0x3f) << 4 | c >> 12 & 0xf;
                let second = (c >> 31) << 15 | (c >> 8 & 7) << 12 | (c >> 27 & 0xf) << 8 | c & 0xff;
                second << 16 | first
            }
        }
    }
}

/// What a target is counted from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Base {
    /// Zero: the field is an address.
    Zero,
    /// The place of the word plus so many bytes.
    Place(u8),
    /// The same, rounded down to a multiple of four.
    Aligned(u8),
    /// The 4 KiB page of the word.
    Page,
}

/// How a word refers to a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reference {
    pub base: Base,
    /// Bits of the field.
    pub bits: u8,
    /// The field counts units of `1 << scale` bytes.
    pub scale: u8,
    /// Whether the field can be negative.
    pub signed: bool,
}

impl Reference {
    fn base(self, place: u64) -> u64 {
        match self.base {
            Base::Zero => 0,
            Base::Place(ahead) => place.wrapping_add(u64::from(ahead)),
            Base::Aligned(ahead) => place.wrapping_add(u64::from(ahead)) & !3,
            Base::Page => place & !0xfff,
        }
    }

    fn mask(self) -> u32 {
        u32::MAX >> (32 - u32::from(self.bits.clamp(1, 32)))
    }

    /// The address that `canonical`, standing at address `place`, refers to.
    pub(crate) fn target(self, canonical: u32, place: u64) -> u64 {
        let field = canonical & self.mask();
        let unused = 32 - u32::from(self.bits.clamp(1, 32));
        let value = if self.signed {
            i64::from((field << unused).cast_signed() >> unused).cast_unsigned()
        } else {
            u64::from(field)
        };
        self.base(place).wrapping_add(value << self.scale)
    }

    /// `canonical` with the low bits of `target` in its field, wherever it stands.
    pub(crate) fn absolute(self, canonical: u32, target: u64) -> u32 {
        canonical & !self.mask() | (target >> self.scale) as u32 & self.mask()
    }

    /// `canonical` changed so that it refers to `target` from `place`, as far as its field can.
    pub(crate) fn aimed(self, canonical: u32, target: u64, place: u64) -> u32 {
        let target = if self.base == Base::Page { target & !0xfff } else { target };
        let value = (target.wrapping_sub(self.base(place)) >> self.scale) as u32;
        canonical & !self.mask() | value & self.mask()
    }
}

/// What kind of word stands at a place. The kinds have statistics of their own; what they mean does not matter there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    pub kind: u8,
    /// Bytes: 2 or 4.
    pub len: u8,
    pub form: Form,
    pub reference: Option<Reference>,
}

/// Kinds of words. Instructions without a reference are told apart by where their immediate is.
pub(crate) mod kind {
    pub(crate) const PLAIN: u8 = 0;
    pub(crate) const CALL: u8 = 1;
    pub(crate) const JUMP: u8 = 2;
    pub(crate) const BRANCH: u8 = 3;
    pub(crate) const LITERAL: u8 = 4;
    pub(crate) const TEST: u8 = 5;
    pub(crate) const ADR: u8 = 6;
    pub(crate) const ADRP: u8 = 7;
    /// The low twelve bits that belong to an ADRP before.
    pub(crate) const LOW: u8 = 8;
    pub(crate) const LOAD: u8 = 9;
    pub(crate) const ADD: u8 = 10;
    pub(crate) const MOVE: u8 = 11;
    pub(crate) const OTHER: u8 = 12;
    pub(crate) const POINTER: u8 = 13;
    pub(crate) const RELATIVE: u8 = 14;
    pub(crate) const SHORT: u8 = 15;
}

const fn field(base: Base, bits: u8, scale: u8) -> Reference {
    Reference { base, bits, scale, signed: true }
}

/// A 32-bit absolute address, or the low half of a 64-bit one.
pub(crate) const POINTER: Reference = Reference { base: Base::Zero, bits: 32, scale: 0, signed: false };

/// A 32-bit distance from its own place.
pub(crate) const RELATIVE: Reference = Reference { base: Base::Place(0), bits: 32, scale: 0, signed: true };

const fn shape(kind: u8, form: Form, reference: Option<Reference>) -> Shape {
    Shape { kind, len: 4, form, reference }
}

/// An AArch64 instruction.
pub(crate) fn a64(word: u32) -> Shape {
    let here = Base::Place(0);
    if word & 0x7c00_0000 == 0x1400_0000 {
        return shape(if word >> 31 == 1 { kind::CALL } else { kind::JUMP }, Form::PLAIN, Some(field(here, 26, 2)));
    }
    if word & 0xff00_0010 == 0x5400_0000 || word & 0x7e00_0000 == 0x3400_0000 {
        return shape(kind::BRANCH, Form::Rotated(5), Some(field(here, 19, 2)));
    }
    if word & 0x7e00_0000 == 0x3600_0000 {
        return shape(kind::TEST, Form::Rotated(5), Some(field(here, 14, 2)));
    }
    if word & 0x3b00_0000 == 0x1800_0000 {
        return shape(kind::LITERAL, Form::Rotated(5), Some(field(here, 19, 2)));
    }
    if word & 0x9f00_0000 == 0x1000_0000 {
        return shape(kind::ADR, Form::Adr, Some(field(here, 21, 0)));
    }
    if word & 0x9f00_0000 == 0x9000_0000 {
        return shape(kind::ADRP, Form::Adr, Some(field(Base::Page, 21, 12)));
    }
    if word & 0x3b00_0000 == 0x3900_0000 {
        return shape(kind::LOAD, Form::Rotated(10), None);
    }
    if word & 0x1f00_0000 == 0x1100_0000 {
        return shape(kind::ADD, Form::Rotated(10), None);
    }
    if word & 0x1f80_0000 == 0x1280_0000 {
        return shape(kind::MOVE, Form::Rotated(5), None);
    }
    shape(kind::OTHER, Form::PLAIN, None)
}

/// How far an AArch64 instruction with a twelve-bit immediate scales it, and whether it is one that completes an address:
/// ADD of 64 bits, or a load or store.
pub(crate) fn a64_low_scale(word: u32) -> Option<u8> {
    if word & 0xffc0_0000 == 0x9100_0000 {
        return Some(0);
    }
    if word & 0x3b00_0000 != 0x3900_0000 {
        return None;
    }
    let size = (word >> 30) as u8;
    Some(if word >> 26 & 1 == 1 && word >> 23 & 1 == 1 { 4 } else { size })
}

/// Whether an AArch64 instruction writes no register in its lowest five bits: stores, branches and compares.
pub(crate) fn a64_keeps_registers(word: u32) -> bool {
    word & 0x3bc0_0000 == 0x3900_0000 || word & 0x1c00_0000 == 0x1400_0000 || word & 0x3a40_0000 == 0x2800_0000
}

/// Whether a word may well be an AArch64 instruction: it lies in the part of the encoding that has some, and is not a small
/// negative number. Small numbers are no instructions.
pub(crate) fn a64_likely(word: u32) -> bool {
    word >> 27 & 3 != 0 && word >> 25 != 0x7f
}

/// An AArch64 branch or ADRP with its target in place of the distance; any other word as it is.
pub(crate) fn a64_absolute(word: u32, place: u64) -> u32 {
    counted(word, place, u32::wrapping_add)
}

/// Undoes [`a64_absolute`].
pub(crate) fn a64_relative(word: u32, place: u64) -> u32 {
    counted(word, place, u32::wrapping_sub)
}

/// Branches of 26 bits and ADRP, with their place counted in by `count`. The operation stays as it is, so this can be undone.
fn counted(word: u32, place: u64, count: fn(u32, u32) -> u32) -> u32 {
    if word & 0x7c00_0000 == 0x1400_0000 {
        return word & 0xfc00_0000 | count(word, (place >> 2) as u32) & 0x03ff_ffff;
    }
    if word & 0x9f00_0000 == 0x9000_0000 {
        let canonical = Form::Adr.canonical(word);
        return Form::Adr.word(canonical & !0x1f_ffff | count(canonical, (place >> 12) as u32) & 0x1f_ffff);
    }
    word
}

/// A 32-bit ARM instruction.
pub(crate) fn a32(word: u32) -> Shape {
    if word & 0x0e00_0000 == 0x0a00_0000 {
        let kind = if word >> 24 & 1 == 1 || word >> 28 == 15 { kind::CALL } else { kind::JUMP };
        return shape(kind, Form::PLAIN, Some(field(Base::Place(8), 24, 2)));
    }
    match word >> 24 & 0xf {
        4..=5 if word >> 16 & 0xf == 15 => shape(kind::LITERAL, Form::PLAIN, None),
        4..=5 => shape(kind::LOAD, Form::PLAIN, None),
        2..=3 => shape(kind::ADD, Form::PLAIN, None),
        _ => shape(kind::OTHER, Form::PLAIN, None),
    }
}

/// A Thumb instruction, which begins in the low half of `word`.
pub(crate) fn thumb(word: u32) -> Shape {
    let (first, second) = (word & 0xffff, word >> 16);
    if first >> 11 >= 0x1d {
        if first & 0xf800 == 0xf000 && second & 0x8000 != 0 {
            let (kind, base) = match second & 0x5000 {
                0x5000 => (kind::CALL, Base::Place(4)),
                0x4000 => (kind::CALL, Base::Aligned(4)),
                0x1000 => (kind::JUMP, Base::Place(4)),
                _ => return shape(kind::BRANCH, Form::Rotated(16), None),
            };
            return shape(kind, Form::ThumbBranch, Some(field(base, 24, 1)));
        }
        return match first & 0xfbf0 {
            0xf240 | 0xf2c0 => shape(kind::MOVE, Form::ThumbMove, None),
            _ if first & 0xfe00 == 0xf800 => shape(kind::LOAD, Form::Rotated(16), None),
            _ => shape(kind::OTHER, Form::Rotated(16), None),
        };
    }
    let short = |kind, form, reference| Shape { kind, len: 2, form, reference };
    match first >> 11 {
        // LDR from a literal pool, and ADR.
        9 | 20 => {
            let field = Reference { base: Base::Aligned(4), bits: 8, scale: 2, signed: false };
            short(kind::LITERAL, Form::PLAIN, Some(field))
        }
        28 => short(kind::SHORT, Form::PLAIN, Some(field(Base::Place(4), 11, 1))),
        26 | 27 if first >> 8 & 0xf < 14 => short(kind::TEST, Form::PLAIN, Some(field(Base::Place(4), 8, 1))),
        _ => short(kind::PLAIN, Form::PLAIN, None),
    }
}

/// Whether the bytes before a word of x86-64 code make it a distance from its own end: `before` holds them, the last in the low
/// byte.
pub(crate) fn x64(before: u32) -> Option<u8> {
    let (last, second, third) = (before & 0xff, before >> 8 & 0xff, before >> 16 & 0xff);
    if last == 0xe8 {
        return Some(kind::CALL);
    }
    if last == 0xe9 {
        return Some(kind::JUMP);
    }
    if second == 0x0f && last & 0xf0 == 0x80 {
        return Some(kind::BRANCH);
    }
    // ModRM with mode 0 and base 5 is relative to the instruction pointer. Most such operands belong to MOV and LEA with a prefix.
    if last & 0xc7 == 5 && (second & 0xfc == 0x88 || second == 0x8d || third & 0xf0 == 0x40 || third == 0x0f) {
        return Some(kind::ADR);
    }
    None
}

/// The distance in x86-64 code counts from the end of the word.
pub(crate) const X64: Reference = Reference { base: Base::Place(4), bits: 32, scale: 0, signed: true };

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Where `word` at `place` refers to, and the word that refers to `target` from `new_place`.
    fn moved(shape: Shape, word: u32, place: u64, target: u64, new_place: u64) -> (u64, u32) {
        let reference = shape.reference.unwrap();
        let canonical = shape.form.canonical(word);
        (reference.target(canonical, place), shape.form.word(reference.aimed(canonical, target, new_place)))
    }

    #[test]
    fn aarch64_branches() {
        // bl .+0x100; b .-8; b.ne .+0x20; cbz x3, .-4; tbnz w1, #3, .+0x40; ldr x2, .+0x1000
        assert_eq!(moved(a64(0x9400_0040), 0x9400_0040, 0x1000, 0x1104, 0x1000), (0x1100, 0x9400_0041));
        assert_eq!(moved(a64(0x17ff_fffe), 0x17ff_fffe, 0x1000, 0xff8, 0xffc), (0xff8, 0x17ff_ffff));
        assert_eq!(moved(a64(0x5400_0101), 0x5400_0101, 0x1000, 0x1024, 0x1000), (0x1020, 0x5400_0121));
        assert_eq!(moved(a64(0xb4ff_ffe3), 0xb4ff_ffe3, 0x1000, 0x1004, 0x1000), (0xffc, 0xb400_0023));
        assert_eq!(moved(a64(0x3718_0201), 0x3718_0201, 0x1000, 0x1044, 0x1000), (0x1040, 0x3718_0221));
        assert_eq!(moved(a64(0x5800_8002), 0x5800_8002, 0x1000, 0x2004, 0x1000), (0x2000, 0x5800_8022));
    }

    #[test]
    fn aarch64_addresses() {
        // adrp x0, .+0x3000; adr x1, .+5
        assert_eq!(moved(a64(0xf000_0000), 0xf000_0000, 0x1234, 0x4fff, 0x1234), (0x4000, 0xf000_0000));
        assert_eq!(moved(a64(0xf000_0000), 0xf000_0000, 0x1234, 0x5010, 0x1234), (0x4000, 0x9000_0020));
        assert_eq!(moved(a64(0x3000_0021), 0x3000_0021, 0x1000, 0x1006, 0x1000), (0x1005, 0x5000_0021));
        // add x0, x0, #8; ldr x0, [x0, #8]; ldr q0, [x0, #16]; strb w0, [x0, #1]
        assert_eq!([0x9100_2000, 0xf940_0400, 0x3dc0_0400, 0x3900_0400].map(a64_low_scale), [0, 3, 4, 0].map(Some));
        assert_eq!(a64_low_scale(0x1100_2000), None, "32 bits hold no address");
        assert!(a64_keeps_registers(0xf900_0400) && !a64_keeps_registers(0xf940_0400));
    }

    #[test]
    fn arm_branches() {
        // bl .+0x108; b .
        assert_eq!(moved(a32(0xeb00_0040), 0xeb00_0040, 0x1000, 0x110c, 0x1000), (0x1108, 0xeb00_0041));
        assert_eq!(moved(a32(0xeaff_fffe), 0xeaff_fffe, 0x1000, 0x1004, 0x1000), (0x1000, 0xeaff_ffff));
    }

    #[test]
    fn thumb_branches() {
        // bl .+4 is f000 f800; bl .-4 is f7ff fffe; b.w .+4 is f000 b800.
        assert_eq!(moved(thumb(0xf800_f000), 0xf800_f000, 0x1000, 0x1006, 0x1000), (0x1004, 0xf801_f000));
        assert_eq!(moved(thumb(0xfffc_f7ff), 0xfffc_f7ff, 0x1000, 0x1000, 0x1000), (0xffc, 0xfffe_f7ff));
        assert_eq!(moved(thumb(0xb800_f000), 0xb800_f000, 0x1000, 0x1004, 0x1002), (0x1004, 0xbfff_f7ff));
        // ldr r0, [pc, #4]; b .; beq .+4
        assert_eq!(moved(thumb(0x4801), 0x4801, 0x1002, 0x100c, 0x1002), (0x1008, 0x4802));
        assert_eq!(moved(thumb(0xe7fe), 0xe7fe, 0x1000, 0x1002, 0x1000), (0x1000, 0xe7ff));
        assert_eq!(moved(thumb(0xd000), 0xd000, 0x1000, 0x1006, 0x1000), (0x1004, 0xd001));
        // movw r0, #0x1234 is f241 2034.
        assert_eq!(Form::ThumbMove.canonical(0x2034_f241) & 0xffff, 0x1234);
    }

    #[test]
    fn x86_distances() {
        assert_eq!([0xe8, 0x12e9, 0x0f84].map(x64), [kind::CALL, kind::JUMP, kind::BRANCH].map(Some));
        // lea rax, [rip + …] is 48 8d 05.
        assert_eq!(x64(0x0048_8d05), Some(kind::ADR));
        assert_eq!(x64(0x0090_9090), None);
        assert_eq!(X64.target(0xffff_fffb, 0x1001), 0x1000);
    }

    proptest! {
        #[test]
        fn forms_are_bijections(word in any::<u32>(), by in 0u8..32) {
            for form in [Form::Rotated(by), Form::Adr, Form::ThumbBranch, Form::ThumbMove] {
                prop_assert_eq!(form.word(form.canonical(word)), word);
                prop_assert_eq!(form.canonical(form.word(word)), word);
            }
        }

        #[test]
        fn counting_the_place_in_can_be_undone(word in any::<u32>(), place in any::<u64>()) {
            prop_assert_eq!(a64_relative(a64_absolute(word, place), place), word);
        }

        #[test]
        fn aiming_at_the_own_target_changes_nothing(word in any::<u32>(), place in (0u64..1 << 40).prop_map(|p| p & !3)) {
            for shape in [a64(word), a32(word), thumb(word)] {
                if let Some(reference) = shape.reference {
                    let word = if shape.len == 2 { word & 0xffff } else { word };
                    let canonical = shape.form.canonical(word);
                    prop_assert_eq!(reference.aimed(canonical, reference.target(canonical, place), place), canonical);
                }
            }
        }
    }
}
