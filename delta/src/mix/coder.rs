//! The binary arithmetic coder. Encoder and decoder stand behind one trait, so that one model drives both and they
//! cannot diverge.

/// Codes one bit after the other.
pub(crate) trait Coder {
    /// Codes a bit whose probability of being 1 is `p` / 65,536. An encoder writes `bit` and returns it; a decoder ignores
    /// `bit` and returns what was written.
    fn bit(&mut self, p: u32, bit: u32) -> u32;
}

/// An interval of 32-bit numbers: all coded data that agree with the bits so far begin with a number in it.
struct Interval {
    low: u32,
    high: u32,
}

impl Interval {
    const WHOLE: Self = Self { low: 0, high: u32::MAX };

    /// The last number of the part that stands for 1.
    fn split(&self, p: u32) -> u32 {
        let range = u64::from(self.high - self.low);
        self.low + ((range * u64::from(p.clamp(1, 65_535))) >> 16) as u32
    }

    fn narrow(&mut self, middle: u32, bit: u32) {
        if bit == 1 {
            self.high = middle;
        } else {
            self.low = middle.wrapping_add(1);
        }
    }

    /// The first byte, when it is settled, which is then shifted out.
    fn settled(&mut self) -> Option<u8> {
        if (self.low ^ self.high) >> 24 != 0 {
            return None;
        }
        let byte = (self.high >> 24) as u8;
        self.low <<= 8;
        self.high = self.high << 8 | 0xff;
        Some(byte)
    }
}

/// Writes bits.
#[cfg(any(feature = "generate", test))]
pub(crate) struct Encoder {
    interval: Interval,
    out: Vec<u8>,
}

#[cfg(any(feature = "generate", test))]
impl Encoder {
    pub(crate) fn new() -> Self {
        Self { interval: Interval::WHOLE, out: Vec::new() }
    }

    /// The coded bytes. Zeros at their end are left out: a decoder reads zeros behind the end.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        let Interval { low, high } = self.interval;
        // The number within the interval that ends in the most zeros.
        let rounded = |zeros: u32| (u64::from(high) >> zeros << zeros) as u32;
        let zeros = (0..=32).rev().find(|&zeros| rounded(zeros) >= low).unwrap_or(0);
        self.out.extend_from_slice(&rounded(zeros).to_be_bytes());
        let len = self.out.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        self.out.truncate(len);
        self.out
    }
}

#[cfg(any(feature = "generate", test))]
impl Coder for Encoder {
    #[inline]
    fn bit(&mut self, p: u32, bit: u32) -> u32 {
        let middle = self.interval.split(p);
        self.interval.narrow(middle, bit);
        while let Some(byte) = self.interval.settled() {
            self.out.push(byte);
        }
        bit
    }
}

/// Reads bits. Behind the end of its bytes it reads zeros.
pub(crate) struct Decoder<B> {
    interval: Interval,
    value: u32,
    rest: B,
}

impl<B: Iterator<Item = u8>> Decoder<B> {
    pub(crate) fn new(coded: B) -> Self {
        let mut decoder = Self { interval: Interval::WHOLE, value: 0, rest: coded };
        for _ in 0..4 {
            decoder.shift();
        }
        decoder
    }

    /// Where the bytes come from.
    pub(crate) fn source(&mut self) -> &mut B {
        &mut self.rest
    }

    /// Whether every coded byte was looked at: more are never written.
    pub(crate) fn is_used_up(&mut self) -> bool {
        self.rest.next().is_none()
    }

    #[inline]
    fn shift(&mut self) {
        self.value = self.value << 8 | u32::from(self.rest.next().unwrap_or(0));
    }
}

impl<B: Iterator<Item = u8>> Coder for Decoder<B> {
    #[inline]
    fn bit(&mut self, p: u32, _: u32) -> u32 {
        let middle = self.interval.split(p);
        let bit = u32::from(self.value <= middle);
        self.interval.narrow(middle, bit);
        while self.interval.settled().is_some() {
            self.shift();
        }
        bit
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn no_bits_and_likely_bits_take_no_bytes() {
        assert!(Encoder::new().finish().is_empty());
        let mut encoder = Encoder::new();
        for _ in 0..100 {
            encoder.bit(65_535, 1);
        }
        assert!(encoder.finish().len() <= 1);
    }

    proptest! {
        #[test]
        fn bits_come_back(bits in proptest::collection::vec((0u32..70_000, 0u32..2), 0..2_000)) {
            let mut encoder = Encoder::new();
            for &(p, bit) in &bits {
                encoder.bit(p, bit);
            }
            let coded = encoder.finish();
            let mut decoder = Decoder::new(coded.iter().copied());
            for &(p, bit) in &bits {
                prop_assert_eq!(decoder.bit(p, 0), bit);
            }
            prop_assert!(decoder.is_used_up());
        }
    }
}
