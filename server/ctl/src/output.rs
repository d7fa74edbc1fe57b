//! Results on standard output: JSON for programs, aligned columns for people.
//!
//! Texts that others wrote (labels, failure details, titles) are shown without control characters, so that no device
//! and no colleague can move the cursor of the terminal they are read on.

use std::borrow::Cow;
use std::io::{self, Write};

use comfy_table::{Cell, ContentArrangement, Table, presets};
use serde::Serialize;
use sluice_catalog::Time;

use crate::failure::Failure;

/// Where results go, and in which form.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    /// JSON instead of text.
    pub json: bool,
}

impl Output {
    /// Prints a result: the value itself as JSON, or what `text` makes of it.
    pub fn result<T: Serialize>(self, value: &T, text: impl FnOnce(&T) -> String) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        if self.json {
            serde_json::to_writer_pretty(&mut out, value).map_err(io::Error::from)?;
            writeln!(out)?;
        } else {
            let text = text(value);
            writeln!(out, "{}", text.trim_end())?;
        }
        out.flush()?;
        Ok(())
    }

    /// Prints the last line of what was shown while it went on; a program has it already.
    pub fn last(self, text: &str) -> Result<(), Failure> {
        if !self.json {
            let mut out = io::stdout().lock();
            writeln!(out, "{text}")?;
            out.flush()?;
        }
        Ok(())
    }

    /// Says something beside the result, to people only.
    pub fn note(self, text: &str) {
        if !self.json {
            eprintln!("{text}");
        }
    }
}

/// Columns without borders: readable, and `awk` reads them too.
pub fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.iter().map(Cell::new));
    for row in rows {
        table.add_row(row.iter().map(|cell| if cell.is_empty() { Cow::Borrowed("-") } else { printable(cell) }));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.trim_fmt()
}

/// Names and values, one pair a line.
pub fn fields(pairs: &[(&str, String)]) -> String {
    let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for (name, value) in pairs {
        let value = if value.is_empty() { Cow::Borrowed("-") } else { printable(value) };
        let padding = " ".repeat(width - name.len() + 2);
        text.extend([name, &padding[..], &value, "\n"]);
    }
    text
}

/// The text with control characters replaced.
pub fn printable(text: &str) -> Cow<'_, str> {
    if text.chars().any(char::is_control) {
        text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect::<String>().into()
    } else {
        text.into()
    }
}

/// A log, line by line and set in from the text that it belongs to.
pub fn log_lines(log: &str) -> String {
    log.lines().fold(String::new(), |text, line| text + "    | " + &printable(&line.replace('\t', "    ")) + "\n")
}

/// A moment, or nothing; the end of an open interval reads `open`.
pub fn when(time: impl Into<Option<Time>>) -> String {
    match time.into() {
        Some(Time::FOREVER) => "open".to_owned(),
        Some(time) => time.to_string(),
        None => String::new(),
    }
}

/// An optional text.
pub fn or_dash(text: Option<impl ToString>) -> String {
    text.map(|text| text.to_string()).unwrap_or_default()
}

/// A set of texts on one line.
pub fn joined<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    texts.into_iter().collect::<Vec<_>>().join(" ")
}

/// What a repeatable creation did: the server answers 201 the first time and 200 when the same stands already.
pub fn made(created: bool, what: &str) -> String {
    if created { format!("{what} created") } else { format!("{what} is there already, unchanged") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(printable("fine"), "fine");
        assert_eq!(printable("a\u{1b}[2Jb\n"), "a\u{fffd}[2Jb\u{fffd}");
        assert!(!table(&["A"], [vec!["\u{7}".to_owned()]]).contains('\u{7}'));
    }

    #[test]
    fn a_log_keeps_its_lines_and_moves_no_terminal() {
        assert_eq!(log_lines("one\n\ttwo\u{1b}[2J\n"), "    | one\n    |     two\u{fffd}[2J\n");
        assert_eq!(log_lines(""), "");
    }

    #[test]
    fn an_interval_without_an_end_reads_open() {
        assert_eq!(when(Time::FOREVER), "open");
        assert_eq!(when(None), "");
    }

    #[test]
    fn columns_align_and_nothing_reads_as_a_dash() {
        let text = table(&["NAME", "TITLE"], [vec!["a".into(), String::new()], vec!["longer".into(), "x".into()]]);
        assert_eq!(text, "NAME    TITLE\na       -\nlonger  x");
    }
}
