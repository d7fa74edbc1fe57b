//! Contracts from a file that a sales system wrote: CSV with a header, or JSON with one object on each line.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use sluice_catalog::import::{ImportRow, MAX_ROWS, RowError};
use sluice_catalog::text::{ContractNumber, Slug};
use sluice_catalog::wire::entitlement::{ImportAnswer, ImportRequest, MAX_OVERLAPS_SHOWN, OnError, WhatIf};

use crate::cli::Session;
use crate::client::path;
use crate::failure::Failure;
use crate::noun::fleet::Shifts;
use crate::output::{fields, table};

/// Rows of one request, unless said otherwise: enough that the round trip does not matter.
const BATCH: u16 = 4_000;
/// Mistakes that are shown; the rest is counted.
const MAX_SHOWN: usize = 100;
/// Bytes of one line of JSON, or one record of CSV.
const MAX_LINE: u64 = 64 << 10;

/// Take in contracts, windows and devices from a file. The same file again changes nothing.
#[derive(Args)]
#[expect(clippy::struct_excessive_bools, reason = "flags of a command")]
pub struct Import {
    /// `.csv` with a header (contract, customer, plan, from, to or last_day, kind, zone, product, serial, or family, site, quantity of a pool), or `.jsonl` with the same names.
    file: PathBuf,
    /// Say what would change and what is wrong, and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Tell which devices would gain or lose what, and change nothing. Of a large file each request is looked at by itself, as if it came
    /// first.
    #[arg(long, conflicts_with = "dry_run")]
    what_if: bool,
    /// So many devices may lose a version or a code by each request; without it rows that take cover from many are refused.
    #[arg(long, value_name = "DEVICES")]
    accept_loss: Option<u64>,
    /// Take in the rows that are right although others are wrong. Without it the whole file is looked at first, and nothing is taken
    /// in when any row is wrong.
    #[arg(long)]
    skip_bad: bool,
    /// Go on at this line, after a cut.
    #[arg(long, value_name = "LINE", default_value_t = 1)]
    from_line: u64,
    /// Go on behind what was taken in before this program was stopped: beside the file stands how far it came (`FILE.taken`).
    #[arg(long, conflicts_with = "from_line")]
    resume: bool,
    /// The system from which the file comes: it is heard of with it, and keeps the contracts that none keeps yet.
    #[arg(long, value_name = "NAME")]
    source: Option<Slug>,
    /// Rows of one request.
    #[arg(long, default_value_t = BATCH, value_parser = clap::value_parser!(u16).range(1..=i64::try_from(MAX_ROWS).unwrap_or(1)))]
    batch: u16,
}

impl Import {
    pub fn run(mut self, session: &Session) -> Result<(), Failure> {
        if self.resume {
            self.from_line = bookmark::read(&self.file)?;
        }
        let mut total = ImportAnswer::default();
        if self.what_if {
            return self.what_if(session);
        }
        if !self.skip_bad {
            self.pass(session, true, "checking", &mut total)?;
            if !total.errors.is_empty() {
                return self.refused(session, &total);
            }
        }
        if !self.dry_run {
            total = ImportAnswer::default();
            self.pass(session, false, "importing", &mut total)?;
            bookmark::remove(&self.file);
        } else if self.skip_bad {
            self.pass(session, true, "checking", &mut total)?;
        }
        Self::show(session, &total)
    }

    /// Asks of every batch of the file what it would do.
    fn what_if(&self, session: &Session) -> Result<(), Failure> {
        let (mut shifts, mut rows, mut requests) = (Shifts::default(), Vec::new(), 0_u64);
        let on_error = if self.skip_bad { OnError::Skip } else { OnError::Refuse };
        let mut ask = |rows: &mut Vec<ImportRow>| {
            requests += 1;
            let (rows, source) = (std::mem::take(rows), self.source.clone());
            let request = ImportRequest { rows, on_error, source, ..ImportRequest::default() };
            shifts.ask(session, &WhatIf::Import(request))
        };
        read(&self.file, self.from_line, &mut |row, _| {
            rows.push(row);
            if rows.len() >= usize::from(self.batch) { ask(&mut rows) } else { Ok(()) }
        })?;
        if !rows.is_empty() {
            ask(&mut rows)?;
        }
        if requests > 1 {
            session.out.note(&format!("The file goes in {requests} requests; each was looked at as if it came first."));
        }
        shifts.show(session)
    }

    /// Sends every batch of the file once.
    fn pass(
        &self,
        session: &Session,
        dry_run: bool,
        what: &'static str,
        total: &mut ImportAnswer,
    ) -> Result<(), Failure> {
        let length = std::fs::metadata(&self.file).with_context(|| self.file.display().to_string())?.len();
        let bar = if session.out.json { ProgressBar::hidden() } else { ProgressBar::new(length) };
        let style = ProgressStyle::with_template("{prefix} {bar:30} {bytes}/{total_bytes} {msg} {eta}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_prefix(what);
        let on_error = if self.skip_bad { OnError::Skip } else { OnError::Refuse };
        let mut first = self.from_line;
        // Contradictions between rows that go in different requests.
        let mut parties: HashMap<String, (String, String, u64)> = HashMap::new();
        let mut contradictions = Vec::new();
        let mut rows = Vec::new();
        let mut send = |rows: &mut Vec<ImportRow>, first: &mut u64, next: u64| -> Result<(), Failure> {
            let request = ImportRequest {
                rows: std::mem::take(rows),
                on_error,
                dry_run,
                accept_loss: self.accept_loss,
                source: self.source.clone(),
            };
            let answer = session.client.post::<ImportAnswer>(&path(&["contract-imports"]), &request);
            let answer = answer.inspect_err(|_| {
                if !dry_run {
                    session
                        .out
                        .note(&format!("Everything before line {first} is taken in; go on with --from-line {first}."));
                }
            })?;
            add(total, answer.value);
            *first = next;
            if !dry_run && next < u64::MAX {
                bookmark::write(&self.file, next)?;
            }
            Ok(())
        };
        read(&self.file, self.from_line, &mut |row, at| {
            let line = row.line;
            let of =
                parties.entry(row.contract.clone()).or_insert_with(|| (row.customer.clone(), row.plan.clone(), line));
            if (&of.0, &of.1) != (&row.customer, &row.plan) {
                contradictions.push(RowError {
                    line,
                    field: "contract".to_owned(),
                    message: format!("line {} gives contract {} to another customer or plan", of.2, row.contract),
                });
                return Ok(());
            }
            rows.push(row);
            bar.set_position(at);
            bar.set_message(format!("line {line}"));
            if rows.len() >= usize::from(self.batch) { send(&mut rows, &mut first, line + 1) } else { Ok(()) }
        })?;
        if !rows.is_empty() {
            send(&mut rows, &mut first, u64::MAX)?;
        }
        bar.finish_and_clear();
        total.errors.extend(contradictions);
        total.errors.sort();
        total.errors.dedup();
        Ok(())
    }

    fn refused(&self, session: &Session, total: &ImportAnswer) -> Result<(), Failure> {
        Self::show(session, total)?;
        Err(Failure::Usage(format!(
            "{} of {} are wrong and nothing was taken in; correct them, or take in the others with --skip-bad",
            total.errors.len(),
            self.file.display()
        )))
    }

    fn show(session: &Session, total: &ImportAnswer) -> Result<(), Failure> {
        session.out.result(total, |total| {
            let would = if total.applied { "" } else { " (not taken in)" };
            let mut text = fields(&[
                ("contracts entered", format!("{}{would}", total.contracts)),
                ("plans changed", total.plans_changed.to_string()),
                ("windows recorded", total.windows.to_string()),
                ("devices recorded", total.items.to_string()),
                ("pools set", total.pools.to_string()),
                ("zones set", total.zones.to_string()),
                ("rows refused", total.errors.len().to_string()),
                ("serials under several contracts", total.overlaps.to_string()),
            ]);
            if !total.overlapping.is_empty() {
                text.push('\n');
                text.push_str(&table(
                    &["PRODUCT", "SERIAL", "CONTRACTS"],
                    total.overlapping.iter().map(|one| {
                        let numbers: Vec<&str> = one.contracts.iter().map(ContractNumber::as_str).collect();
                        vec![one.product.to_string(), one.serial.to_string(), numbers.join(", ")]
                    }),
                ));
            }
            if !total.errors.is_empty() {
                text.push('\n');
                let shown = total.errors.iter().take(MAX_SHOWN);
                text.push_str(&table(
                    &["LINE", "FIELD", "WHAT IS WRONG"],
                    shown.map(|RowError { line, field, message }| {
                        vec![line.to_string(), field.clone(), message.clone()]
                    }),
                ));
                if total.errors.len() > MAX_SHOWN {
                    let more = total.errors.len() - MAX_SHOWN;
                    text.extend(["\n… and ", &more.to_string(), " more; --json has all"]);
                }
            }
            text
        })
    }
}

fn add(total: &mut ImportAnswer, answer: ImportAnswer) {
    total.applied |= answer.applied;
    total.contracts += answer.contracts;
    total.plans_changed += answer.plans_changed;
    total.windows += answer.windows;
    total.items += answer.items;
    total.pools += answer.pools;
    total.zones += answer.zones;
    total.overlaps += answer.overlaps;
    total.overlapping.extend(answer.overlapping);
    total.overlapping.truncate(MAX_OVERLAPS_SHOWN);
    total.errors.extend(answer.errors);
}

/// How far an import came, beside its file: after a kill it goes on there.
mod bookmark {
    use std::fs;
    use std::path::{Path, PathBuf};

    use anyhow::Context;

    use crate::failure::Failure;

    fn path(file: &Path) -> PathBuf {
        let mut path = file.as_os_str().to_owned();
        path.push(".taken");
        path.into()
    }

    fn length(file: &Path) -> Result<u64, Failure> {
        Ok(fs::metadata(file).with_context(|| file.display().to_string())?.len())
    }

    /// The line to go on at, of a file that is the same as then. The beginning, when nothing was taken in.
    pub fn read(file: &Path) -> Result<u64, Failure> {
        let path = path(file);
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(1),
            text => text.with_context(|| path.display().to_string())?,
        };
        let mut numbers = text.split_whitespace().map(str::parse::<u64>);
        match (numbers.next(), numbers.next()) {
            (Some(Ok(line)), Some(Ok(then))) if then == length(file)? => Ok(line),
            _ => Err(Failure::Usage(format!(
                "{} is of another {}: import the file from its beginning, without --resume",
                path.display(),
                file.display()
            ))),
        }
    }

    /// Keeps the line; in place of the one before, in one step.
    pub fn write(file: &Path, line: u64) -> Result<(), Failure> {
        let path = path(file);
        let partial = path.with_extension("partial");
        let shown = || path.display().to_string();
        fs::write(&partial, format!("{line} {}\n", length(file)?)).with_context(shown)?;
        fs::rename(&partial, &path).with_context(shown)?;
        Ok(())
    }

    /// The file is taken in.
    pub fn remove(file: &Path) {
        // What is left over does no harm: the same rows again change nothing.
        let _ = fs::remove_file(path(file));
    }
}

/// Reads rows one by one from a line on; says with each how far in the file it stands.
fn read(
    path: &Path,
    from_line: u64,
    row: &mut impl FnMut(ImportRow, u64) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let file = File::open(path).with_context(|| path.display().to_string())?;
    let named =
        |line: u64, error: &dyn std::fmt::Display| Failure::Usage(format!("{} line {line}: {error}", path.display()));
    if path.extension().is_some_and(|extension| extension == "csv") {
        let mut reader =
            csv::ReaderBuilder::new().trim(csv::Trim::All).flexible(false).from_reader(BufReader::new(file));
        let mut record = csv::StringRecord::new();
        let headers = reader.headers().map_err(|error| named(1, &error))?.clone();
        while reader.read_record(&mut record).map_err(|error| named(reader.position().line(), &error))? {
            let at = record.position().map_or((0, 0), |position| (position.line(), position.byte()));
            if at.0 < from_line {
                continue;
            }
            let mut read: Columns = record.deserialize(Some(&headers)).map_err(|error| named(at.0, &error))?;
            row(read.row(at.0), at.1)?;
        }
        return Ok(());
    }
    let mut reader = BufReader::new(file);
    let (mut line, mut at) = (0, 0);
    loop {
        let mut text = String::new();
        line += 1;
        let length = reader.by_ref().take(MAX_LINE).read_line(&mut text).map_err(|error| named(line, &error))?;
        if length == 0 {
            return Ok(());
        }
        if !text.ends_with('\n') && length as u64 == MAX_LINE {
            return Err(named(line, &format!("longer than {MAX_LINE} bytes")));
        }
        at += length as u64;
        if line < from_line || text.trim().is_empty() {
            continue;
        }
        let mut read: Columns = serde_json::from_str(&text).map_err(|error| named(line, &error))?;
        row(read.row(line), at)?;
    }
}

/// A row as the file has it.
#[derive(Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Columns {
    contract: String,
    customer: String,
    plan: String,
    from: Option<String>,
    to: Option<String>,
    last_day: Option<String>,
    kind: Option<String>,
    zone: Option<String>,
    product: Option<String>,
    serial: Option<String>,
    family: Option<String>,
    site: Option<String>,
    quantity: Option<String>,
}

impl Columns {
    fn row(&mut self, line: u64) -> ImportRow {
        let Self { contract, customer, plan, from, to, last_day, kind, zone, product, serial, family, site, quantity } =
            std::mem::take(self);
        ImportRow {
            line,
            contract,
            customer,
            plan,
            from,
            to,
            last_day,
            kind,
            zone,
            product,
            serial,
            family,
            site,
            quantity,
        }
    }
}
