//! Registration codes, and what is said of a device's cover to whoever proves to have it. Pure.

use crate::Time;
use crate::cover::{Cover, CoverRule, Standing};
use crate::wire::registration::{CoverAnswer, CoverState};

/// Random bytes of a code: nobody guesses one of 2^80.
pub const CODE_BYTES: usize = 10;
/// Digits that nobody takes for another (Crockford's base 32).
const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// Digits of a code.
const CODE_DIGITS: usize = CODE_BYTES * 8 / 5;
/// Longest text that is read as a code, with whatever people put between its digits.
pub const MAX_CODE_LEN: usize = 64;

/// A code as it is printed or shown: sixteen digits in groups of four.
pub fn code(random: [u8; CODE_BYTES]) -> String {
    let mut bits = random.into_iter().fold(0_u128, |bits, byte| (bits << 8) | u128::from(byte));
    let mut digits = Vec::with_capacity(CODE_DIGITS);
    for _ in 0..CODE_DIGITS {
        let digit = usize::try_from(bits & 31).unwrap_or(0);
        digits.push(DIGITS.get(digit).copied().unwrap_or(b'0'));
        bits >>= 5;
    }
    digits.reverse();
    let groups: Vec<String> = digits.chunks(4).map(|group| String::from_utf8_lossy(group).into_owned()).collect();
    groups.join("-")
}

/// The digits of a code as somebody typed it: small letters, blanks, dashes and digits that look alike are no mistakes.
pub fn read_code(text: &str) -> Option<String> {
    if text.len() > MAX_CODE_LEN {
        return None;
    }
    let mut digits = String::with_capacity(CODE_DIGITS);
    for given in text.chars().filter(|c| !matches!(c, '-' | ' ')) {
        let digit = match given.to_ascii_uppercase() {
            'O' => '0',
            'I' | 'L' => '1',
            other => other,
        };
        if !u8::try_from(digit).is_ok_and(|digit| DIGITS.contains(&digit)) {
            return None;
        }
        digits.push(digit);
    }
    (digits.len() == CODE_DIGITS).then_some(digits)
}

/// What contracts say of a device's cover at a moment, without a name.
pub fn cover_answer(covers: &[Cover], now: Time) -> CoverAnswer {
    let standing = |cover: &Cover| cover.standing_at(now, now);
    let counts = |cover: &&Cover| standing(cover) != Standing::Outside;
    let mut codes: Vec<_> =
        covers.iter().filter(counts).flat_map(|cover| cover.codes.iter().map(|(code, _)| code.clone())).collect();
    codes.sort_unstable();
    codes.dedup();
    let until = covers.iter().filter_map(|cover| cover.windows.at(now)).map(|(_, to)| to).max();
    let graces = covers.iter().filter_map(|cover| match standing(cover) {
        Standing::Grace(_, to) => Some((to, to.plus_days(i64::from(cover.grace_days)))),
        Standing::CountsOn(_, to) => Some((to, cover.stale_at(now)?.counts_until)),
        _ => None,
    });
    let grace = graces.max_by_key(|(_, end)| *end);
    let from =
        covers.iter().flat_map(|cover| cover.windows.iter()).map(|(from, _)| from).filter(|from| *from > now).min();
    let past = covers.iter().flat_map(|cover| cover.windows.iter()).map(|(_, to)| to).filter(|to| *to <= now).max();
    let open = covers.iter().any(|cover| cover.rule == CoverRule::Open);
    let (state, until) = if open {
        (CoverState::Open, None)
    } else if until.is_some() {
        (CoverState::Covered, until)
    } else if let Some((to, _)) = grace {
        (CoverState::Grace, Some(to))
    } else if from.is_some() {
        (CoverState::Planned, None)
    } else if past.is_some() {
        (CoverState::Lapsed, past)
    } else {
        (CoverState::None, None)
    };
    let grace_until = grace.filter(|_| state == CoverState::Grace).map(|(_, end)| end);
    CoverAnswer {
        covered: matches!(state, CoverState::Open | CoverState::Covered | CoverState::Grace),
        state,
        until,
        grace_until,
        from,
        codes,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use CoverState::{Covered, Grace, Lapsed, Open, Planned};

    use super::*;
    use crate::cover::{Origin, Windows};
    use crate::product::Channel;
    use crate::source::{Heard, MAX_COUNTS_ON_DAYS, SourceView};

    fn t(day: i64) -> Time {
        Time::EPOCH.plus_days(day)
    }

    fn cover(rule: CoverRule, code: &str, windows: &[(i64, i64)]) -> Cover {
        Cover {
            contract: "C-1".parse().unwrap(),
            plan: "plus".parse().unwrap(),
            rule,
            grace_days: 14,
            codes: vec![(code.parse().unwrap(), Channel::Stable)],
            windows: Windows::new(windows.iter().map(|(from, to)| (t(*from), t(*to))).collect()),
            origin: Origin::default(),
        }
    }

    #[test]
    fn cover_counts_on_while_its_source_is_silent() {
        let heard = Heard { source: "crm".parse().unwrap(), at: t(5), stale_after_ms: Some(1), silence: None };
        let mut cover = cover(CoverRule::Live, "A", &[(0, 10)]);
        cover.origin.source = Some(Box::new(SourceView { heard, judged_at: None }));
        let (end, say) = (5 + MAX_COUNTS_ON_DAYS, |day| cover_answer(std::slice::from_ref(&cover), t(day)));
        let answer = say(end - 1);
        assert_eq!((answer.state, answer.covered, answer.until), (Grace, true, Some(t(10))));
        assert_eq!((answer.grace_until, answer.codes.len()), (Some(t(end)), 1));
        let answer = say(end);
        assert_eq!((answer.state, answer.covered, answer.codes.len()), (Lapsed, false, 0));
    }

    #[test]
    fn what_is_said_of_cover() {
        let live = |windows: &[(i64, i64)]| cover(CoverRule::Live, "A", windows);
        let say = |covers: &[Cover], day: i64| {
            let answer = cover_answer(covers, t(day));
            let codes = answer.codes.iter().map(|code| code.as_str().to_owned()).collect::<Vec<_>>().join(" ");
            (answer.state, answer.covered, answer.until, answer.grace_until, answer.from, codes)
        };
        let a = || "A".to_owned();
        assert_eq!(say(&[], 5), (CoverState::None, false, None, None, None, String::new()));
        assert_eq!(say(&[live(&[(10, 20)])], 5), (Planned, false, None, None, Some(t(10)), String::new()));
        assert_eq!(say(&[live(&[(10, 20)])], 10), (Covered, true, Some(t(20)), None, None, a()));
        assert_eq!(say(&[live(&[(10, 20)])], 20), (Grace, true, Some(t(20)), Some(t(34)), None, a()));
        assert_eq!(say(&[live(&[(10, 20)])], 34), (Lapsed, false, Some(t(20)), None, None, String::new()));
        assert_eq!(say(&[live(&[(10, 20), (40, 50)])], 35).0, Planned);
        assert_eq!(say(&[cover(CoverRule::Open, "B", &[])], 35), (Open, true, None, None, None, "B".to_owned()));
        let both = [live(&[(10, 20)]), cover(CoverRule::TrainGa, "B", &[(15, 90)])];
        assert_eq!(say(&both, 60), (Covered, true, Some(t(90)), None, None, "B".to_owned()), "of what covers now");
    }

    #[test]
    fn a_code_reads_back_however_it_is_typed() {
        assert_eq!(code([0; 10]), "0000-0000-0000-0000");
        assert_eq!(code([255; 10]), "ZZZZ-ZZZZ-ZZZZ-ZZZZ");
        assert_eq!(read_code(" o1il-0000 0000-zzzz"), Some("011100000000ZZZZ".to_owned()));
        for wrong in ["", "0000-0000-0000-000", "0000-0000-0000-00000", "0000-0000-0000-000U", "0000-0000-0000-000é"] {
            assert_eq!(read_code(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn codes_differ_where_their_bytes_do(one: [u8; 10], other: [u8; 10]) {
            let (read, written) = (read_code(&code(one)).unwrap(), code(one));
            prop_assert_eq!(&read, &written.replace('-', ""));
            prop_assert_eq!(one == other, code(one) == code(other));
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,80}") {
            let _ = read_code(&text);
        }
    }
}
