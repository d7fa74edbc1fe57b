//! One row of figures: as a line for people, a line of CSV, an object of JSON. Whole numbers throughout.

use serde::Serialize;

use super::{child::Took, programs::Program};

/// What a step took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Figures {
    pub cpu_us: u64,
    pub wall_us: u64,
    pub rss_kib: u64,
}

impl From<Took> for Figures {
    fn from(took: Took) -> Self {
        let micros = |time: std::time::Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        Self { cpu_us: micros(took.cpu), wall_us: micros(took.wall), rss_kib: took.rss_kib }
    }
}

/// One program on one pair.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    pub pair: String,
    pub program: String,
    /// This engine, not a peer.
    pub ours: bool,
    pub old_bytes: u64,
    pub new_bytes: u64,
    pub patch_bytes: Option<u64>,
    /// Thousandths of the smallest peer of this run.
    pub of_best_peer_permille: Option<u64>,
    /// Thousandths of the smallest patch that is known of any peer.
    pub of_pinned_permille: Option<u64>,
    pub generate: Option<Figures>,
    pub apply: Option<Figures>,
    /// `ok`, or what went wrong.
    pub status: String,
}

impl Row {
    pub const CSV_HEADER: &'static str = "pair,program,ours,old_bytes,new_bytes,patch_bytes,of_best_peer,of_pinned,\
        generate_cpu_s,generate_wall_s,generate_rss_kib,apply_cpu_s,apply_wall_s,apply_rss_kib,status";

    pub fn new(pair: &str, program: &Program, old_bytes: u64, new_bytes: u64) -> Self {
        Self {
            pair: pair.to_owned(),
            program: program.name(),
            ours: program.is_ours(),
            old_bytes,
            new_bytes,
            patch_bytes: None,
            of_best_peer_permille: None,
            of_pinned_permille: None,
            generate: None,
            apply: None,
            status: "ok".to_owned(),
        }
    }

    pub fn is_ok(&self) -> bool {
        self.status == "ok"
    }

    /// Sets the ratios.
    pub fn compare(&mut self, best_peer: Option<u64>, pinned: Option<u64>) {
        let ratio = |of: Option<u64>| permille(self.patch_bytes?, of?);
        (self.of_best_peer_permille, self.of_pinned_permille) = (ratio(best_peer), ratio(pinned));
    }

    /// The first line for people.
    pub fn header() -> String {
        format!(
            "{:<16} {:<22} {:>11} {:>8} {:>8} {:>9} {:>9} {:>8} {:>9} {:>9} {:>8}",
            "pair",
            "program",
            "bytes",
            "of best",
            "of known",
            "make CPU",
            "wall s",
            "MiB",
            "apply CPU",
            "wall s",
            "MiB"
        )
    }

    /// A line for people.
    pub fn line(&self) -> String {
        let number = |number: Option<u64>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
        let ratio = |permille: Option<u64>| permille.map_or_else(|| "-".to_owned(), thousandths);
        let step = |step: Option<Figures>| match step {
            Some(step) => [
                seconds(step.cpu_us),
                seconds(step.wall_us),
                format!("{}.{}", step.rss_kib >> 10, ((step.rss_kib & 1023) * 10) >> 10),
            ],
            None => ["-"; 3].map(str::to_owned),
        };
        let [make_cpu, make_wall, make_rss] = step(self.generate);
        let [apply_cpu, apply_wall, apply_rss] = step(self.apply);
        let status = if self.is_ok() { String::new() } else { format!("  {}", self.status) };
        format!(
            "{:<16} {:<22} {:>11} {:>8} {:>8} {make_cpu:>9} {make_wall:>9} {make_rss:>8} {apply_cpu:>9} {apply_wall:>9} \
             {apply_rss:>8}{status}",
            self.pair,
            self.program,
            number(self.patch_bytes),
            ratio(self.of_best_peer_permille),
            ratio(self.of_pinned_permille),
        )
    }

    pub fn csv(&self) -> String {
        let number = |number: Option<u64>| number.map_or_else(String::new, |number| number.to_string());
        let ratio = |permille: Option<u64>| permille.map_or_else(String::new, thousandths);
        let step = |step: Option<Figures>| match step {
            Some(step) => [seconds(step.cpu_us), seconds(step.wall_us), step.rss_kib.to_string()],
            None => Default::default(),
        };
        let fields = [
            quoted(&self.pair),
            quoted(&self.program),
            self.ours.to_string(),
            self.old_bytes.to_string(),
            self.new_bytes.to_string(),
            number(self.patch_bytes),
            ratio(self.of_best_peer_permille),
            ratio(self.of_pinned_permille),
        ];
        let steps = [step(self.generate), step(self.apply)].concat();
        [&fields[..], &steps, &[quoted(&self.status)]].concat().join(",")
    }
}

fn permille(part: u64, of: u64) -> Option<u64> {
    let rounded = (u128::from(part) * 1_000 + u128::from(of) / 2).checked_div(u128::from(of))?;
    u64::try_from(rounded).ok()
}

fn thousandths(permille: u64) -> String {
    format!("{}.{:03}", permille / 1_000, permille % 1_000)
}

fn seconds(micros: u64) -> String {
    thousandths((micros + 500) / 1_000)
}

/// A field of CSV, quoted where it has to be.
fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::programs::Peer;

    fn row() -> Row {
        let mut row = Row::new("boot-uboot", &Program::Peer(Peer::Zstd), 1_000, 2_000);
        row.patch_bytes = Some(250);
        row.generate = Some(Figures { cpu_us: 1_234_567, wall_us: 400, rss_kib: 1_536 });
        row.compare(Some(300), Some(100));
        row
    }

    #[test]
    fn ratios_are_rounded() {
        assert_eq!((permille(250, 300), permille(1, 3), permille(5, 0)), (Some(833), Some(333), None));
        let row = row();
        assert_eq!((row.of_best_peer_permille, row.of_pinned_permille), (Some(833), Some(2_500)));
    }

    #[test]
    fn a_line_has_the_figures_that_there_are() {
        let line = row().line();
        let cells: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(cells[4..], ["250", "0.833", "2.500", "1.235", "0.000", "1.5", "-", "-", "-"]);
    }

    #[test]
    fn csv_has_a_field_for_each_name() {
        let mut row = row();
        row.status = "failed: \"so\", it said".to_owned();
        let csv = row.csv();
        assert!(
            csv.starts_with("boot-uboot,zstd -19 --patch-from,false,1000,2000,250,0.833,2.500,1.235,0.000,1536,,,,\"")
        );
        assert!(csv.ends_with("\"failed: \"\"so\"\", it said\""));
        row.status = "ok".to_owned();
        assert_eq!(row.csv().split(',').count(), Row::CSV_HEADER.split(',').count());
    }
}
