//! Logs that come with failures: the end of what a device's check printed, or of the errors that led there. They are text of others, and
//! are made harmless where they are made, where they are kept and nowhere else.

/// Longest log of an attempt, bytes: the end of a long one says most. Bounds what a failing fleet makes the server keep.
pub const MAX_LOG_LEN: usize = 4096;

/// What can be kept and shown of a log: its last `limit` bytes, cut at a character. Lines end in LF; other control characters but the
/// tab go, with the colours and cursor moves that `ESC [` begins, and so do the marks that let text read backwards.
pub fn clean_log(text: &str, limit: usize) -> String {
    let mut clean = String::with_capacity(text.len().min(limit));
    let mut rest = text.chars().peekable();
    while let Some(character) = rest.next() {
        match character {
            '\r' if rest.peek() == Some(&'\n') => {}
            '\r' => clean.push('\n'),
            '\n' | '\t' => clean.push(character),
            // `ESC [`, parameters and a final byte: colours and cursor moves, which printed bare would only litter the text.
            '\u{1b}' if rest.peek() == Some(&'[') => {
                rest.next();
                while rest.next_if(|next| matches!(next, ' '..='?')).is_some() {}
                rest.next_if(|next| matches!(next, '@'..='~'));
            }
            _ if character.is_control() || is_directional(character) => {}
            _ => clean.push(character),
        }
    }
    tail(&clean, limit).to_owned()
}

/// Marks, embeddings, overrides and isolates of the bidirectional algorithm.
const fn is_directional(character: char) -> bool {
    matches!(character, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The last `limit` bytes at most, cut at a character.
fn tail(text: &str, limit: usize) -> &str {
    let mut from = text.len().saturating_sub(limit);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    text.get(from..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_and_tabs_stay_and_what_moves_a_terminal_goes() {
        let cases = [
            ("one\ttwo\nthree", "one\ttwo\nthree"),
            ("a\r\nb\rc", "a\nb\nc"),
            ("nul\0 bell\u{7} del\u{7f} csi\u{9b}", "nul bell del csi"),
            ("\u{1b}[1;31mred\u{1b}[0m \u{1b}]0;title\u{7}", "red ]0;title"),
            ("\u{1b}", ""),
            ("cut short \u{1b}[1;", "cut short "),
            ("exe.\u{202e}gpj", "exe.gpj"),
            ("é 漢 🦀", "é 漢 🦀"),
        ];
        for (text, clean) in cases {
            assert_eq!(clean_log(text, MAX_LOG_LEN), clean, "{text:?}");
        }
    }

    #[test]
    fn the_end_of_a_long_one_is_kept() {
        assert_eq!(clean_log("one two", 3), "two");
        assert_eq!(clean_log("aé", 1), "", "never half a character");
        assert_eq!(clean_log("aé", 2), "é");
    }

    proptest! {
        #[test]
        fn any_text_is_bounded_harmless_and_clean_already(text in "(?s).{0,200}|[\\x00-\\x20\\x1b\\[0-9m\u{80}-\u{a0}]{0,200}", limit in 0_usize..100) {
            let clean = clean_log(&text, limit);
            prop_assert!(clean.len() <= limit);
            prop_assert!(clean.chars().all(|c| matches!(c, '\n' | '\t') || !(c.is_control() || is_directional(c))));
            prop_assert_eq!(clean_log(&clean, limit), clean);
        }

        #[test]
        fn plain_text_stays_as_it_is(text in "[a-zA-Z0-9 .:é漢\n\t]{0,100}") {
            prop_assert_eq!(clean_log(&text, MAX_LOG_LEN), text);
        }
    }
}
