//! Seeded mutations: what fuzzers do to bytes, without a fuzzer.

/// A small seeded generator, so that a failure can be repeated.
pub struct Seeded(u64);

impl Seeded {
    pub fn new(seed: u64) -> Self {
        Self(seed ^ 0x9e37_79b9_7f4a_7c15)
    }

    fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 32) as u32
    }

    pub fn below(&mut self, bound: usize) -> usize {
        self.next() as usize % bound.max(1)
    }
}

/// Numbers at which readers break.
const NUMBERS: [u64; 12] =
    [0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0xffff, 0x7fff_ffff, 0xffff_ffff, 1 << 60, i64::MAX.cast_unsigned(), u64::MAX];

/// Bytes at the front that are changed as often as all others: there stand the lengths.
const FRONT: usize = 100;

/// One to four changes to `bytes`; `other` is where foreign parts come from.
pub fn mutate(bytes: &[u8], other: &[u8], seeded: &mut Seeded) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..=seeded.below(4) {
        let len = bytes.len();
        let at = if seeded.below(2) == 0 { seeded.below(len.min(FRONT)) } else { seeded.below(len) };
        let run = 1 + seeded.below(16);
        let end = len.min(at + run);
        match seeded.below(9) {
            0 if at < len => bytes[at] ^= 1 << seeded.below(8),
            1 if at < len => bytes[at] = seeded.next() as u8,
            2 if at < len => bytes[at] = bytes[at].wrapping_add(1 + seeded.below(3) as u8),
            3 => {
                let number = NUMBERS[seeded.below(NUMBERS.len())].to_le_bytes();
                let width = [1, 2, 4, 8][seeded.below(4)];
                for (byte, new) in bytes.iter_mut().skip(at).zip(&number[..width]) {
                    *byte = *new;
                }
            }
            4 => drop(bytes.drain(at..end)),
            5 => {
                let copy = bytes[at..end].to_vec();
                bytes.splice(at..at, copy);
            }
            6 if seeded.below(4) == 0 => bytes.truncate(at),
            7 if !other.is_empty() => {
                let from = seeded.below(other.len());
                let part = &other[from..other.len().min(from + run)];
                bytes.splice(at..end, part.iter().copied());
            }
            _ => {
                let random: Vec<u8> = (0..run).map(|_| seeded.next() as u8).collect();
                bytes.splice(at..at, random);
            }
        }
    }
    bytes
}
