//! The `Range` header (RFC 9110, section 14): pure.

use std::ops::Range;

/// Most ranges in one request: SWUpdate's delta handler asks for up to 150.
pub const MAX_RANGES: usize = 256;

/// What a `Range` header asks of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// No or an unusable header: the whole body.
    Whole,
    /// Parts of it, in the order asked, each within the body and not empty.
    Parts(Vec<Range<u64>>),
    /// Nothing that was asked for exists.
    Unsatisfiable,
}

/// Reads a `Range` header for a body of `length` bytes.
pub fn wanted(header: Option<&str>, length: u64) -> Wanted {
    let Some(list) = header.and_then(|header| header.trim().strip_prefix("bytes=")) else { return Wanted::Whole };
    let mut parts = Vec::new();
    for (index, spec) in list.split(',').enumerate() {
        if index >= MAX_RANGES {
            return Wanted::Whole;
        }
        let Some((first, last)) = spec.trim().split_once('-') else { return Wanted::Whole };
        let number = |text: &str| -> Option<u64> {
            (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().unwrap_or(u64::MAX))
        };
        let range = match (number(first), number(last)) {
            (Some(first), Some(last)) if first <= last => first..last.saturating_add(1).min(length),
            (Some(first), None) if last.is_empty() => first..length,
            (None, Some(suffix)) if first.is_empty() => length.saturating_sub(suffix)..length,
            _ => return Wanted::Whole,
        };
        if range.start < range.end {
            parts.push(range);
        }
    }
    if parts.is_empty() {
        return Wanted::Unsatisfiable;
    }
    // Many overlapping ranges are an amplifier: more bytes than the body has, the body is sent once.
    let total: u128 = parts.iter().map(|range| u128::from(range.end - range.start)).sum();
    if parts.len() > 1 && total > u128::from(length) { Wanted::Whole } else { Wanted::Parts(parts) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(header: &str, length: u64, expected: &[(u64, u64)]) {
        let expected = expected.iter().map(|&(start, end)| start..end).collect();
        assert_eq!(wanted(Some(header), length), Wanted::Parts(expected), "{header}");
    }

    #[test]
    fn the_forms_of_rfc_9110() {
        check("bytes=0-0", 10, &[(0, 1)]);
        check("bytes=2-", 10, &[(2, 10)]);
        check("bytes=-3", 10, &[(7, 10)]);
        check("bytes=-30", 10, &[(0, 10)]);
        check("bytes=5-99", 10, &[(5, 10)]);
        check("bytes=0-1, 4-5", 10, &[(0, 2), (4, 6)]);
        check("bytes=8-9,20-30", 10, &[(8, 10)]);
    }

    #[test]
    fn a_resume_at_the_end_is_unsatisfiable_and_nonsense_is_ignored() {
        assert_eq!(wanted(Some("bytes=10-"), 10), Wanted::Unsatisfiable);
        assert_eq!(wanted(Some("bytes=-0"), 10), Wanted::Unsatisfiable);
        for header in ["lines=1-2", "bytes=", "bytes=a-b", "bytes=5-2", "bytes=1", "bytes=+1-2"] {
            assert_eq!(wanted(Some(header), 10), Wanted::Whole, "{header}");
        }
        assert_eq!(wanted(None, 10), Wanted::Whole);
    }

    #[test]
    fn many_overlapping_ranges_are_no_amplifier() {
        let header = format!("bytes={}", vec!["0-9"; 200].join(","));
        assert_eq!(wanted(Some(&header), 10), Wanted::Whole);
        assert_eq!(wanted(Some("bytes=0-64,2-"), u64::MAX), Wanted::Whole);
        let header = format!("bytes={}", vec!["0-0"; 300].join(","));
        assert_eq!(wanted(Some(&header), 1_000_000), Wanted::Whole);
    }

    proptest! {
        #[test]
        fn parts_lie_within_the_body(header in "(bytes=)?[0-9,\\- ]{0,40}", length in 0u64..1000) {
            if let Wanted::Parts(parts) = wanted(Some(&header), length) {
                prop_assert!(!parts.is_empty());
                for part in parts {
                    prop_assert!(part.start < part.end && part.end <= length);
                }
            }
        }

        #[test]
        fn arbitrary_text_never_panics(header in ".{0,100}", length: u64) {
            let _ = wanted(Some(&header), length);
        }
    }
}
