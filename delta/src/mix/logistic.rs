//! The logistic functions that mixing works with, as integers.
//!
//! A probability has 16 bits. Its logit has 8 fractional bits and lies within ±[`LIMIT`], which is ±12.

/// Largest logit: 12 in units of 1/256, a probability of 6 in a million.
pub(crate) const LIMIT: i32 = 12 * 256 - 1;

/// `65,536 / (1 + e^-x)` for x = -12, -11.5 … 12, rounded.
const CURVE: [u16; 49] = [
    1, 1, 1, 2, 3, 5, 8, 13, 22, 36, 60, 98, 162, 267, 439, 720, 1179, 1921, 3108, 4971, 7812, 11955, 17625, 24743,
    32768, 40793, 47911, 53581, 57724, 60565, 62428, 63615, 64357, 64816, 65097, 65269, 65374, 65438, 65476, 65500,
    65514, 65523, 65528, 65531, 65533, 65534, 65535, 65535, 65535,
];

/// Logits of `p / 4,096` for all p.
static STRETCH: [i16; 4096] = inverse();

/// The probability of logit `x`, from 1 to 65,535.
pub(crate) const fn squash(x: i32) -> i32 {
    let x = if x > LIMIT {
        LIMIT
    } else if x < -LIMIT {
        -LIMIT
    } else {
        x
    };
    let at = x + 12 * 256;
    let (step, part) = ((at >> 7) as usize, at & 127);
    #[expect(clippy::indexing_slicing, reason = "x is within the limit, so step is at most 47")]
    let (low, high) = (CURVE[step] as i32, CURVE[step + 1] as i32);
    let p = low + (((high - low) * part + 64) >> 7);
    if p < 1 {
        1
    } else if p > 65_535 {
        65_535
    } else {
        p
    }
}

/// The logit of a probability of 16 bits, from its upper 12 bits.
pub(crate) fn stretch(p: u16) -> i32 {
    STRETCH.get(usize::from(p >> 4)).map_or(0, |&x| i32::from(x))
}

#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
const fn inverse() -> [i16; 4096] {
    let mut table = [0i16; 4096];
    let mut done = 0;
    let mut x = -LIMIT;
    while x <= LIMIT {
        let p = (squash(x) >> 4) as usize;
        while done <= p {
            table[done] = x as i16;
            done += 1;
        }
        x += 1;
    }
    // Inputs of a mixer have eleven bits and a sign.
    let mut n = 0;
    while n < table.len() {
        if table[n] > 2047 {
            table[n] = 2047;
        } else if table[n] < -2047 {
            table[n] = -2047;
        }
        n += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_functions_are_monotonic_and_inverse() {
        for x in -LIMIT..LIMIT {
            assert!(squash(x) <= squash(x + 1));
        }
        for p in 1..4095u16 {
            let back = squash(stretch(p << 4)) >> 4;
            assert!(back.abs_diff(i32::from(p)) <= 4, "{p}: {back}");
        }
        assert_eq!(stretch(0x8000), 0);
        assert_eq!(stretch(0), -stretch(u16::MAX));
    }
}
