//! Target paths, role names and the path patterns of delegations.

use crate::limits::{MAX_NAME_BYTES, MAX_PATH_BYTES};

/// Whether a target path is safe to become a URL and a file name: ASCII, relative, no empty, `.` or `..` segment, no
/// backslash, no control character.
pub fn is_target_path(path: &str) -> bool {
    path.len() <= MAX_PATH_BYTES
        && path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\')
        && path.split('/').all(|segment| !matches!(segment, "" | "." | ".."))
}

/// Whether a delegated role may have this name: printable ASCII without spaces, and not that of a top-level role. Where it
/// becomes a file name or a part of a URL it must be [`quoted`].
pub fn is_role_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= MAX_NAME_BYTES
        && name.bytes().all(|byte| byte.is_ascii_graphic())
        && !matches!(name.to_ascii_lowercase().as_str(), "root" | "snapshot" | "targets" | "timestamp" | "mirrors")
}

/// A role name or a segment of a path as it stands in URLs: everything but letters, digits, `-`, `.`, `_` and `~` as `%` and
/// two digits.
pub fn quoted(name: &str) -> String {
    use std::fmt::Write as _;
    let mut quoted = String::new();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            quoted.push(char::from(byte));
        } else {
            // Writing to a text does not fail.
            let _ = write!(quoted, "%{byte:02X}");
        }
    }
    quoted
}

/// Whether a delegated role's name is fit for our own repositories, where it stands in file names unquoted: letters, digits,
/// `-`, `_` and `.`, not beginning with a dot.
pub fn is_delegated_role_name(name: &str) -> bool {
    is_role_name(name)
        && !name.starts_with('.')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

/// Whether a path pattern matches a path. `*` stands for any run of characters inside one segment and `?` for one
/// character; neither crosses `/`.
pub fn matches(pattern: &str, path: &str) -> bool {
    let mut patterns = pattern.split('/');
    let mut segments = path.split('/');
    loop {
        match (patterns.next(), segments.next()) {
            (None, None) => return true,
            (Some(pattern), Some(segment)) if segment_matches(pattern.as_bytes(), segment.as_bytes()) => {}
            _ => return false,
        }
    }
}

/// Greedy matching that goes back to the last star only: at most pattern × text steps, whatever the pattern.
fn segment_matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at_pattern, mut at_text) = (0, 0);
    let mut last_star: Option<(usize, usize)> = None;
    while let Some(&byte) = text.get(at_text) {
        match pattern.get(at_pattern) {
            Some(b'*') => {
                last_star = Some((at_pattern, at_text));
                at_pattern += 1;
            }
            Some(&wanted) if wanted == b'?' || wanted == byte => {
                at_pattern += 1;
                at_text += 1;
            }
            _ => match last_star {
                Some((star, from)) => {
                    last_star = Some((star, from + 1));
                    at_pattern = star + 1;
                    at_text = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern.iter().skip(at_pattern).all(|&byte| byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stays_inside_its_segment() {
        assert!(matches("acme-cam/*/*", "acme-cam/2.4.1/main.bin"));
        assert!(!matches("acme-cam/*/*", "acme-cam/2.4.1/sub/main.bin"));
        assert!(!matches("acme-cam/*/*", "acme-cam/2.4.1"));
        assert!(!matches("acme-cam/*/*", "acme-phone/2.4.1/main.bin"));
        assert!(!matches("*", "a/b"));
        assert!(matches("*", "a"));
        assert!(matches("a*c*e/f?", "abcde/fg"));
        assert!(!matches("a*c*e/f?", "abcd/fg"));
        assert!(matches("**/x", "anything/x"));
    }

    #[test]
    fn a_hostile_pattern_costs_no_more_than_pattern_times_text() {
        let pattern = "*a".repeat(200);
        assert!(!matches(&pattern, &"a".repeat(199)));
        assert!(!matches(&pattern, &"b".repeat(500)));
    }

    #[test]
    fn paths_cannot_leave_their_folder() {
        for good in ["a", "acme-cam/2.4.1/main.bin", "a/..b/c."] {
            assert!(is_target_path(good), "{good}");
        }
        for bad in ["", "/a", "a/", "a//b", "../a", "a/../b", "a/.", "a\\b", "a b", "é", "a\0"] {
            assert!(!is_target_path(bad), "{bad:?}");
        }
        assert!(!is_target_path(&"a".repeat(MAX_PATH_BYTES + 1)));
    }

    #[test]
    fn any_other_role_name_is_quoted_where_it_becomes_a_file() {
        for name in ["?", "#", "/role", "../role", "a%b"] {
            assert!(is_role_name(name) && !is_delegated_role_name(name), "{name}");
            assert!(
                quoted(name).bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~%".contains(&byte)),
                "{name}"
            );
        }
        assert_eq!(quoted("../a b?%c~1"), "..%2Fa%20b%3F%25c~1");
        assert!(["", "Root", "a b", "é"].iter().all(|name| !is_role_name(name)));
    }

    #[test]
    fn a_delegated_role_cannot_take_a_reserved_or_hidden_name() {
        for good in ["acme-cam", "x1", "A_b.c"] {
            assert!(is_delegated_role_name(good), "{good}");
        }
        for bad in ["", ".hidden", "root", "Targets", "a/b", "a b", "snapshot", "timestamp", "é"] {
            assert!(!is_delegated_role_name(bad), "{bad:?}");
        }
    }
}
