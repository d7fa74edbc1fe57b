//! What the demo found: a table of devices, and the list of what had to hold.

use anyhow::Result;
use serde_json::{Value, json};

use super::programs::Transcript;

/// What became of one device.
#[derive(Clone, Debug)]
pub struct Row {
    pub device: String,
    pub from: String,
    pub to: String,
    /// What the device can decode.
    pub profile: String,
    /// `patch`, `zstd`, `raw`, or nothing when it was not updated.
    pub encoding: String,
    /// Bytes downloaded.
    pub bytes: u64,
    /// Length of the image it now runs.
    pub image_len: u64,
    pub outcome: String,
    pub reason: String,
}

impl Row {
    /// Percent of the image that did not have to be sent.
    fn saved_percent(&self) -> Option<f64> {
        #[expect(clippy::cast_precision_loss, reason = "for a table; images are far below 2^52 bytes")]
        let share = |part: u64, whole: u64| part as f64 / whole as f64;
        (!self.encoding.is_empty() && self.image_len > 0).then(|| 100.0 * (1.0 - share(self.bytes, self.image_len)))
    }

    fn cells(&self) -> [String; 9] {
        let updated = !self.encoding.is_empty();
        [
            self.device.clone(),
            self.from.clone(),
            self.to.clone(),
            self.profile.clone(),
            if updated { self.encoding.clone() } else { "-".into() },
            if updated { self.bytes.to_string() } else { "-".into() },
            self.saved_percent().map_or_else(|| "-".into(), |percent| format!("{percent:.1} %")),
            self.outcome.clone(),
            self.reason.clone(),
        ]
    }
}

/// Something that has to hold.
#[derive(Clone, Debug)]
struct Expectation {
    what: String,
    held: bool,
    found: String,
}

/// What was found at one device, for an expectation that has to hold for each.
#[derive(Clone, Debug)]
pub struct Finding {
    device: String,
    held: bool,
    found: String,
}

impl Finding {
    /// At this device it holds or not, because this was found.
    pub fn new(device: &str, held: bool, found: impl Into<String>) -> Self {
        Self { device: device.to_owned(), held, found: found.into() }
    }
}

/// Everything found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub rows: Vec<Row>,
    pub facts: Vec<(&'static str, Value)>,
    expectations: Vec<Expectation>,
}

impl Report {
    /// Notes whether something holds, and what was found.
    pub fn expect(&mut self, what: impl Into<String>, held: bool, found: impl Into<String>) {
        self.expectations.push(Expectation { what: what.into(), held, found: found.into() });
    }

    /// Notes whether something holds for every device, and for which it does not. For no device it does not hold either.
    pub fn expect_each(&mut self, what: &str, devices: &[Finding]) {
        let failing: Vec<String> = devices
            .iter()
            .filter(|finding| !finding.held)
            .map(|finding| format!("{}: {}", finding.device, finding.found))
            .collect();
        let found = match (devices, failing.is_empty()) {
            ([], _) => "no device to look at".to_owned(),
            (_, true) => format!("{} of {}", devices.len(), devices.len()),
            (_, false) => failing.join("; "),
        };
        self.expect(what, failing.is_empty() && !devices.is_empty(), found);
    }

    /// Whether there were expectations and all hold.
    pub fn holds(&self) -> bool {
        !self.expectations.is_empty() && self.expectations.iter().all(|expectation| expectation.held)
    }

    /// Prints table and expectations, and with `--json` everything on standard output.
    pub fn print(&self, transcript: Transcript, json: bool) -> Result<()> {
        if !self.rows.is_empty() {
            transcript.say("");
            transcript.say(&self.table());
        }
        if !self.expectations.is_empty() {
            transcript.say("\nExpectations");
        }
        for expectation in &self.expectations {
            let mark = if expectation.held { "holds" } else { "FAILS" };
            let found = if expectation.found.is_empty() { String::new() } else { format!(": {}", expectation.found) };
            transcript.say(&format!("  {mark}  {}{found}", expectation.what));
        }
        if json {
            println!("{}", serde_json::to_string_pretty(&self.to_json())?);
        }
        Ok(())
    }

    fn table(&self) -> String {
        let header =
            ["DEVICE", "FROM", "TO", "PROFILE", "ENCODING", "BYTES", "SAVED", "OUTCOME", "REASON"].map(str::to_owned);
        let lines: Vec<[String; 9]> = std::iter::once(header).chain(self.rows.iter().map(Row::cells)).collect();
        let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
        let widths: [usize; 9] = std::array::from_fn(width);
        let padded = |line: &[String; 9]| {
            let cells: Vec<String> = std::iter::zip(line, widths)
                .enumerate()
                // Numbers end where they end in every row.
                .map(|(column, (cell, width))| match column {
                    5 | 6 => format!("{cell:>width$}"),
                    _ => format!("{cell:width$}"),
                })
                .collect();
            cells.join("  ").trim_end().to_owned()
        };
        lines.iter().map(padded).collect::<Vec<_>>().join("\n")
    }

    fn to_json(&self) -> Value {
        let devices: Vec<Value> = self
            .rows
            .iter()
            .map(|row| {
                json!({
                    "device": row.device, "from": row.from, "to": row.to, "profile": row.profile,
                    "encoding": (!row.encoding.is_empty()).then_some(&row.encoding),
                    "bytes": row.bytes, "image_bytes": row.image_len, "saved_percent": row.saved_percent(),
                    "outcome": row.outcome, "reason": row.reason,
                })
            })
            .collect();
        let expectations: Vec<Value> = self
            .expectations
            .iter()
            .map(|expectation| {
                json!({ "what": expectation.what, "holds": expectation.held, "found": expectation.found })
            })
            .collect();
        let mut report = json!({ "ok": self.holds(), "devices": devices, "expectations": expectations });
        for (name, value) in &self.facts {
            report[*name] = value.clone();
        }
        report
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Row {
        Row {
            device: "C-1".into(),
            from: "1".into(),
            to: "2".into(),
            profile: "small".into(),
            encoding: "patch".into(),
            bytes: 250,
            image_len: 1000,
            outcome: "updated".into(),
            reason: "IN_STAGE".into(),
        }
    }

    #[test]
    fn nothing_expected_is_nothing_shown() {
        let mut report = Report::default();
        assert!(!report.holds(), "a story that checked nothing has shown nothing");
        report.expect("one", true, "");
        assert!(report.holds());
        report.expect("two", false, "found otherwise");
        assert!(!report.holds());
        assert_eq!(report.to_json()["ok"], false);
    }

    #[test]
    fn what_has_to_hold_for_each_names_those_it_does_not_hold_for() {
        let mut report = Report::default();
        report.expect_each("all", &[Finding::new("C-1", true, "x"), Finding::new("C-2", true, "y")]);
        assert!(report.holds());
        assert_eq!(report.to_json()["expectations"][0]["found"], "2 of 2");
        report.expect_each("not all", &[Finding::new("C-1", true, "x"), Finding::new("C-2", false, "why")]);
        assert!(!report.holds());
        assert_eq!(report.to_json()["expectations"][1]["found"], "C-2: why");
        let mut none = Report::default();
        none.expect_each("of nobody", &[]);
        assert!(!none.holds());
    }

    #[test]
    fn the_table_aligns_and_counts_what_was_saved() {
        let idle = Row { encoding: String::new(), bytes: 0, device: "C-10".into(), ..row() };
        let report = Report { rows: vec![row(), idle], ..Report::default() };
        assert_eq!(
            report.table(),
            "DEVICE  FROM  TO  PROFILE  ENCODING  BYTES   SAVED  OUTCOME  REASON\n\
             C-1     1     2   small    patch       250  75.0 %  updated  IN_STAGE\n\
             C-10    1     2   small    -             -       -  updated  IN_STAGE"
        );
    }
}
