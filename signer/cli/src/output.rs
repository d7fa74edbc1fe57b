//! Printing results: text for people, JSON for programs.

use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

/// Prints the report as JSON, or else the text.
pub fn print<R: Serialize>(json: bool, report: &R, text: impl FnOnce() -> String) -> anyhow::Result<()> {
    if json {
        println!("{}", serde_json::to_string_pretty(report)?);
    } else {
        println!("{}", text().trim_end());
    }
    Ok(())
}

/// A table without frames, easy to cut and grep.
pub fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled).set_header(header);
    table.add_rows(rows);
    table.lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>().join("\n")
}

/// The first 64 bits of a digest in groups: enough to compare by reading aloud.
pub fn short(digest: &[u8; 32]) -> String {
    let hex = hex::encode(digest);
    let groups: Vec<&str> = (0..4).filter_map(|group| hex.get(group * 4..group * 4 + 4)).collect();
    groups.join("-")
}

/// The first digits of a key id.
pub fn short_id(keyid: &str) -> &str {
    keyid.get(..8).unwrap_or(keyid)
}

/// A number with its noun: `1 image`, `2 images`.
pub fn count(number: usize, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

/// Text of somebody else without what a terminal would obey.
pub fn plain(text: &str) -> String {
    text.chars().flat_map(|one| if one.is_control() { one.escape_debug().collect() } else { vec![one] }).collect()
}

/// The first 64 bits of a key id in groups, for comparing: few enough to read aloud, too many to imitate.
pub fn long_id(keyid: &str) -> String {
    let groups: Vec<&str> = (0..4).filter_map(|group| keyid.get(group * 4..group * 4 + 4)).collect();
    groups.join("-")
}
