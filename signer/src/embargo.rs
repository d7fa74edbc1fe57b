//! Embargo roles: releases of a product that are signed, and given to servers, before they are announced. Such a role has an opaque
//! name and stands in the top targets document for good, so the document never tells that something is coming; when its
//! document may be shown is signed in it.

use crate::path::is_delegated_role_name;
use crate::targets::{Delegation, Paths, TargetsMetadata};
use jiff::{SignedDuration, Timestamp};

/// How the names of embargo roles begin.
pub const ROLE_PREFIX: &str = "embargo-";
/// Hexadecimal digits after it.
const ROLE_DIGITS: usize = 16;
/// Longest time from signing to the moment: whoever holds keys today need not be who holds them then.
pub const MAX_EMBARGO: SignedDuration = SignedDuration::from_hours(24 * 180);

/// A name that says nothing.
pub fn role_name(random: [u8; ROLE_DIGITS / 2]) -> String {
    format!("{ROLE_PREFIX}{}", hex::encode(random))
}

/// Whether a role has the name of an embargo role.
pub fn is_role_name(name: &str) -> bool {
    name.strip_prefix(ROLE_PREFIX).is_some_and(|digits| {
        digits.len() == ROLE_DIGITS && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    })
}

/// The product for which a role may sign in advance. The delegation alone says so: the name of an embargo role, the images of one
/// product and nothing else, and the search goes on behind it.
pub fn product_of(delegation: &Delegation) -> Option<&str> {
    let Paths::Patterns(patterns) = &delegation.paths else { return None };
    let mut patterns = patterns.iter();
    let (Some(pattern), None) = (patterns.next(), patterns.next()) else { return None };
    let product = pattern.strip_suffix("/*/*")?;
    let fits = is_role_name(&delegation.name)
        && !delegation.terminating
        && is_delegated_role_name(product)
        && !is_role_name(product);
    fits.then_some(product)
}

/// The product whose images a role may sign: its own role by name, an embargo role by its delegation.
pub fn signs_for(delegation: &Delegation) -> &str {
    product_of(delegation).unwrap_or(&delegation.name)
}

/// Whether nobody may be shown this document yet.
pub fn is_secret(document: &TargetsMetadata, now: Timestamp) -> bool {
    document.not_before.is_some_and(|moment| now < moment)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::root::RoleKeys;
    use std::collections::BTreeSet;

    fn delegation(name: &str, paths: &[&str], terminating: bool) -> Delegation {
        Delegation {
            name: name.to_owned(),
            keys: RoleKeys::new([], 2),
            paths: Paths::Patterns(paths.iter().map(|path| (*path).to_owned()).collect()),
            terminating,
        }
    }

    #[test]
    fn a_name_says_nothing() {
        let name = role_name([0, 1, 2, 3, 0xfc, 0xfd, 0xfe, 0xff]);
        assert_eq!(name, "embargo-00010203fcfdfeff");
        assert!(is_role_name(&name) && is_delegated_role_name(&name));
        for other in
            ["embargo-", "embargo-00010203fcfdfef", "embargo-00010203fcfdfefff", "embargo-00010203FCFDFEFF", "acme-cam"]
        {
            assert!(!is_role_name(other), "{other}");
        }
    }

    #[test]
    fn the_delegation_says_for_which_product_and_nothing_else_does() {
        let name = role_name([7; 8]);
        let good = delegation(&name, &["acme-cam/*/*"], false);
        assert_eq!((product_of(&good), signs_for(&good)), (Some("acme-cam"), "acme-cam"));
        for bad in [
            delegation(&name, &["acme-cam/*/*"], true),
            delegation(&name, &["acme-cam/*/*", "acme-phone/*/*"], false),
            delegation(&name, &[], false),
            delegation(&name, &["*/*/*"], false),
            delegation(&name, &["acme-ca?/*/*"], false),
            delegation(&name, &["acme-cam/*"], false),
            delegation(&name, &["acme-cam/2.4.1/*"], false),
            delegation(&name, &["advisories/acme-cam/*"], false),
            delegation(&name, &[&format!("{name}/*/*")], false),
            delegation("acme-phone", &["acme-cam/*/*"], false),
        ] {
            assert_eq!(product_of(&bad), None, "{bad:?}");
            assert_eq!(signs_for(&bad), bad.name);
        }
        let prefixes = Paths::HashPrefixes(BTreeSet::from(["0".to_owned()]));
        assert_eq!(product_of(&Delegation { paths: prefixes, ..good }), None);
    }

    #[test]
    fn a_document_is_secret_until_its_moment() {
        let moment: Timestamp = "2026-12-01T09:00:00Z".parse().unwrap();
        let second = SignedDuration::from_secs(1);
        let mut document = TargetsMetadata::new(2, moment + MAX_EMBARGO, None);
        assert!(!is_secret(&document, moment - second));
        document.not_before = Some(moment);
        assert!(is_secret(&document, moment - second));
        assert!(!is_secret(&document, moment));
    }
}
