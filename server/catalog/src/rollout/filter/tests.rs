//! The language as a specification: what is read, how it is printed, what is refused and how.

use proptest::prelude::*;

use super::*;

fn printed(text: &str) -> String {
    text.parse::<Filter>().unwrap().to_string()
}

fn refused(text: &str) -> String {
    text.parse::<Filter>().unwrap_err().to_string()
}

#[test]
fn one_meaning_is_printed_in_one_way() {
    let whole = r#"hardware in ("r2", "r3") and version >= "1.2" and version < "2.0" and tag != "lab" and customer = "acme" and plan = "poly-plus" and last_seen < 30d"#;
    assert_eq!(
        printed(
            r#" hardware in("r2","r3")AND version>="1.2" and (version < "2.0" and not group = "lab") and customer="acme"
               and plan in ("poly-plus") and last_seen < 720h "#
        ),
        whole
    );
    assert_eq!(printed(whole), whole);
    assert_eq!(
        printed(r#"site = "a" or site = "b" and not (tag = "x" or tag = "y")"#),
        r#"site = "a" or site = "b" and not (tag = "x" or tag = "y")"#
    );
    assert_eq!(
        printed(r#"(site = "a" or site = "b") and not not tag = "x""#),
        r#"(site = "a" or site = "b") and tag = "x""#
    );
    assert_eq!(printed(r#"not version not in ("1", "2", "1")"#), r#"version in ("1", "2")"#);
    assert_eq!(printed(r#"not version < "2""#), r#"not version < "2""#, "of an unknown version both are false");
}

#[test]
fn a_refusal_says_where_and_what_was_expected() {
    assert_eq!(
        refused(r#"site = "a" and hardwre = "r2""#),
        "column 16: there is no field `hardwre`: product, hardware, version, customer, site, tag, group, plan, last_seen; did you mean `hardware`?"
    );
    assert!(refused(r#"hw_id = "r2""#).ends_with("did you mean `hardware`?"));
    assert!(!refused(r#"colour = "red""#).contains("did you mean"));
    assert_eq!(
        refused(r#"site < "a""#),
        "column 6: expected `=`, `!=`, `in` or `not in`: site has no order, found `<`"
    );
    assert_eq!(refused("version < 2.0"), "column 11: expected a value in quotation marks, found `2`");
    assert_eq!(
        refused("last_seen = 30d"),
        "column 11: expected `<`, `<=`, `>` or `>=`, such as last_seen < 30d, found `=`"
    );
    assert!(refused("last_seen < 30").starts_with("column 13: `30` is no length of time"));
    assert_eq!(refused(r#"site = "a" site = "b""#), "column 12: expected `and`, `or` or the end, found `site`");
    assert_eq!(refused(r#"(site = "a""#), "column 12: expected `and`, `or` or `)`, found the end");
    assert_eq!(refused(r#"site = "a"#), "column 8: this quotation mark is not closed");
    assert!(refused(r#"site = "a b""#).starts_with("column 8: name `a b`: 1 to 64 of"));
    assert_eq!(refused("site = \"a\" ö"), "column 12: `\\u{f6}` means nothing in a filter");
    assert!(refused("").starts_with("column 1: expected a field (product, "), "an empty filter is none");
    assert!(refused("site in ()").contains("expected a value in quotation marks, found `)`"));
}

#[test]
fn what_would_be_too_much_is_refused() {
    assert!(refused(&"x".repeat(MAX_FILTER_LEN + 1)).contains("at most 4000"));
    let terms = vec![r#"tag="a""#; MAX_TERMS + 1].join(" and ");
    assert!(refused(&terms).contains("at most 64 terms"));
    assert!(refused(&format!("{}tag = \"a\"", "not ".repeat(MAX_DEPTH + 1))).contains("16 deep at most"));
    assert!(refused(&format!("{}tag = \"a\"{}", "(".repeat(900), ")".repeat(900))).contains("16 deep at most"));
    let values: Vec<String> = (0..=MAX_VALUES).map(|number| format!("\"{number}\"")).collect();
    assert!(refused(&format!("tag in ({})", values.join(","))).contains("at most 500 values"));
    // Printed with its spaces it would be longer than what is read again.
    let tight: Vec<String> = (0..MAX_VALUES).map(|number| format!("\"x{number:03}\"")).collect();
    let text = format!("tag in({})", tight.join(","));
    assert!(text.len() <= MAX_FILTER_LEN && refused(&text).contains("at most 4000"), "{}", text.len());
}

fn slug() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9]([a-zA-Z0-9._:+-]{0,8}[a-zA-Z0-9])?"
}

fn term() -> impl Strategy<Value = String> {
    let field = prop::sample::select(vec!["hardware", "customer", "site", "tag", "group", "plan", "version"]);
    let sign = || prop::sample::select(vec!["<", "<=", ">", ">="]);
    prop_oneof![
        (field.clone(), any::<bool>(), slug())
            .prop_map(|(field, is, value)| format!("{field}{}\"{value}\"", if is { "=" } else { " != " })),
        (field, any::<bool>(), prop::collection::vec(slug(), 1..4)).prop_map(|(field, is, values)| {
            let values: Vec<String> = values.iter().map(|value| format!("\"{value}\"")).collect();
            format!("{field}{} in ({})", if is { "" } else { " NOT" }, values.join(" ,"))
        }),
        (sign(), slug()).prop_map(|(sign, value)| format!("version {sign} \"{value}\"")),
        (sign(), 0u32..100_000).prop_map(|(sign, seconds)| format!("last_seen{sign}{seconds}s")),
    ]
}

fn filter() -> impl Strategy<Value = String> {
    term().prop_recursive(4, 12, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(|inner| format!("not ({inner})")),
            prop::collection::vec(inner.clone(), 1..4).prop_map(|parts| format!("({})", parts.join(") and ("))),
            prop::collection::vec(inner, 1..4).prop_map(|parts| format!("({})", parts.join(" or "))),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_printed_reads_as_the_same(text in filter()) {
        if let Ok(read) = text.parse::<Filter>() {
            let print = read.to_string();
            let again: Filter = print.parse().unwrap();
            prop_assert_eq!(&again, &read);
            prop_assert_eq!(again.to_string(), print);
        }
    }

    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,200}", words in prop::collection::vec(prop::sample::select(vec![
        "not", "and", "or", "in", "(", ")", ",", "=", "!=", "<", "site", "version", "last_seen", "\"a\"", "30d", "\"",
    ]), 0..40)) {
        for text in [text, words.join(" "), words.concat()] {
            match text.parse::<Filter>() {
                Ok(filter) => prop_assert_eq!(filter.to_string().parse::<Filter>(), Ok(filter)),
                Err(error) => prop_assert!(error.column >= 1 && error.column <= text.chars().count() + 1),
            }
        }
    }
}
