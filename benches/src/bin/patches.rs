//! Patches of real firmware pairs beside those of other programs: bytes, and seconds to make and to apply.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Parser;
use comfy_table::{CellAlignment, Table, presets};
use indicatif::ProgressBar;
use sluice_benches::pairs::{Measured, grouped, measure, seconds};
use sluice_fixtures::corpus::{Corpus, default_dir};

/// Largest image that is read into memory: the corpus ends at 671 MB.
const IMAGE_FILE_MAX: u64 = 1 << 30;

/// Measures patches of firmware pairs from the corpus that `sluice-fixtures fetch` makes.
///
/// Each step runs several times and the best counts. Processor seconds (CPU) are of one thread, so that they hold on a
/// machine that does other things too.
///
/// Exit codes: 0 measured; 1 something failed or a patch did not make the new image; 2 wrong usage.
#[derive(Debug, Parser)]
#[command(name = "patches", version, max_term_width = 120)]
struct Cli {
    /// Names of pairs, such as mcu-technichub.
    #[arg(required = true)]
    pairs: Vec<String>,
    /// Folder with NAME.old and NAME.new; the cache of `sluice-fixtures fetch` unless given.
    #[arg(long, value_name = "DIR")]
    corpus: Option<PathBuf>,
    /// How often each step runs.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    repeat: u32,
    /// Print the figures as JSON.
    #[arg(long)]
    json: bool,
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    let dir = cli.corpus.clone().map_or_else(default_dir, Ok)?;
    let mut corpus = Corpus::open(&dir)?;
    // Hidden by itself where standard error is no terminal.
    let bar = ProgressBar::new_spinner();
    bar.enable_steady_tick(Duration::from_millis(200));
    let mut measured = Vec::new();
    for name in &cli.pairs {
        let Some(pair) = corpus.cached(name)? else {
            bail!("{name} is not in {} with the right digests; run: sluice-fixtures fetch {name}", dir.display());
        };
        let (old, new) = (read(&pair.old)?, read(&pair.new)?);
        measured.push(measure(name, &old, &new, cli.repeat, &|step| bar.set_message(step.to_owned()))?);
    }
    bar.finish_and_clear();
    if cli.json {
        println!("{}", serde_json::to_string_pretty(&measured)?);
    } else {
        println!("{}", table(&measured));
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let len = fs::metadata(path).with_context(|| path.display().to_string())?.len();
    if len > IMAGE_FILE_MAX {
        bail!("{}: {len} bytes are over the limit of {IMAGE_FILE_MAX}", path.display());
    }
    fs::read(path).with_context(|| path.display().to_string())
}

fn table(measured: &[Measured]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN);
    table.set_header([
        "pair",
        "patch",
        "bytes",
        "of the best peer",
        "generate CPU s",
        "wall s, 1 thread",
        "wall s, 2 threads",
        "apply CPU s",
    ]);
    let ratio = |of_peer: Option<f64>| of_peer.map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.3}"));
    for pair in measured {
        if let (Some(program), Some(bytes)) = (pair.peer, pair.peer_bytes) {
            let peer = format!("best peer: {program}");
            table.add_row([pair.pair.as_str(), &peer, &grouped(bytes), "1.000", "", "", "", ""]);
        }
        for ours in &pair.ours {
            table.add_row([
                pair.pair.clone(),
                format!("sluice {}", ours.profile),
                grouped(ours.bytes),
                ratio(ours.of_peer),
                seconds(ours.generate_cpu_s),
                seconds(ours.generate_one_s),
                seconds(ours.generate_two_s),
                seconds(ours.apply_cpu_s),
            ]);
        }
        table.add_row([
            pair.pair.clone(),
            "crate bsdiff, zstd -19".to_owned(),
            grouped(pair.bsdiff.bytes),
            ratio(pair.bsdiff.of_peer),
            seconds(pair.bsdiff.generate_cpu_s),
            String::new(),
            String::new(),
            seconds(pair.bsdiff.apply_cpu_s),
        ]);
    }
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;
    use sluice_benches::pairs::{Ours, Rival};

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
        assert!(Cli::try_parse_from(["patches"]).is_err());
        assert!(Cli::try_parse_from(["patches", "boot-uboot", "--repeat", "0"]).is_err());
    }

    #[test]
    fn a_pair_has_a_line_for_the_peer_for_each_of_ours_and_for_bsdiff() {
        let ours = Ours {
            profile: "default",
            bytes: 9_500,
            of_peer: Some(0.936),
            apply_ram: 1 << 20,
            generate_cpu_s: 0.05,
            generate_one_s: 0.051,
            generate_two_s: 0.03,
            apply_cpu_s: 0.002,
        };
        let measured = Measured {
            pair: "mcu-technichub".into(),
            old_bytes: 1,
            new_bytes: 2,
            peer: Some("HDiffPatch"),
            peer_bytes: Some(10_152),
            ours: vec![ours],
            bsdiff: Rival { bytes: 11_000, of_peer: None, generate_cpu_s: 12.34, apply_cpu_s: 1.5 },
        };
        let text = table(&[measured]).to_string();
        let lines: Vec<Vec<&str>> = text
            .lines()
            .skip(2)
            .map(|line| line.split('|').map(str::trim).filter(|cell| !cell.is_empty()).collect())
            .collect();
        assert_eq!(lines[0], ["mcu-technichub", "best peer: HDiffPatch", "10,152", "1.000"]);
        assert_eq!(
            lines[1],
            ["mcu-technichub", "sluice default", "9,500", "0.936", "0.0500", "0.0510", "0.0300", "0.0020"]
        );
        assert_eq!(lines[2], ["mcu-technichub", "crate bsdiff, zstd -19", "11,000", "–", "12.3", "1.50"]);
    }
}
