//! Contracts as files that say them whole, for systems that keep them elsewhere.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use serde::Serialize;
use serde_json::Value;
use sluice_catalog::text::ContractNumber;
use sluice_catalog::wire::admin::ContractDetail;
use sluice_catalog::wire::contracts::ContractPut;
use sluice_catalog::wire::entitlement::WhatIf;

use crate::cli::Session;
use crate::client::path;
use crate::failure::Failure;
use crate::noun::fleet::Shifts;
use crate::output::{printable, table};

/// Largest file, bytes: 10,000 devices of one contract take 1 MB.
const FILE_MAX: u64 = 64 << 20;

/// Make contracts what files say: what differs is changed, and what is not named does not hold any more. The same again changes nothing;
/// a revision older than the newest that was told is refused.
#[derive(Args)]
pub struct Apply {
    /// JSON: one contract or several, in an array or one after the other; `-` reads standard input.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Say which devices would gain or lose versions and codes, and change nothing.
    #[arg(long)]
    what_if: bool,
    /// Of each contract, let so many devices lose a version or a code by it. Without it, a contract that takes cover from many is refused.
    #[arg(long, value_name = "DEVICES", conflicts_with = "what_if")]
    accept_loss: Option<u64>,
}

/// What became of one contract.
#[derive(Serialize)]
struct Outcome {
    number: ContractNumber,
    /// `entered`, `applied` or `refused`.
    became: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

impl Apply {
    pub fn run(self, session: &Session) -> Result<(), Failure> {
        // All files are read first: a mistake in the last one is told before the first changes anything.
        let mut contracts = Vec::new();
        for file in &self.files {
            contracts.extend(read(file)?);
        }
        if self.what_if {
            return what_if(session, contracts);
        }
        let mut outcomes = Vec::with_capacity(contracts.len());
        for (number, mut contract) in contracts {
            contract.accept_loss = self.accept_loss.or(contract.accept_loss);
            let put = session.client.put::<ContractDetail>(&path(&["contracts", number.as_str()]), &contract);
            outcomes.push(match put {
                Ok(answer) => {
                    Outcome { number, became: if answer.created { "entered" } else { "applied" }, problem: None }
                }
                // What this server says of one contract says nothing of the next; when it is away, nothing goes on.
                Err(Failure::Problem(problem)) if !problem.kind.is_retryable() && problem.status != 401 => {
                    Outcome { number, became: "refused", problem: Some(problem.detail) }
                }
                Err(failure) => {
                    session.out.note(&format!("Stopped at contract {number}; apply the files once more."));
                    return Err(failure);
                }
            });
        }
        let refused = outcomes.iter().filter(|outcome| outcome.problem.is_some()).count();
        session.out.result(&outcomes, |outcomes| {
            table(
                &["CONTRACT", "OUTCOME", "WHY"],
                outcomes.iter().map(|outcome| {
                    let why = outcome.problem.as_deref().unwrap_or_default();
                    vec![outcome.number.to_string(), outcome.became.to_owned(), printable(why).into_owned()]
                }),
            )
        })?;
        if refused > 0 {
            return Err(Failure::Refused(format!("{refused} of {} contracts were refused", outcomes.len())));
        }
        Ok(())
    }
}

/// Asks of every contract what it would do.
fn what_if(session: &Session, contracts: Vec<(ContractNumber, ContractPut)>) -> Result<(), Failure> {
    let mut shifts = Shifts::default();
    let several = contracts.len();
    for (number, contract) in contracts {
        shifts.ask(session, &WhatIf::Put { number, contract })?;
    }
    if several > 1 {
        session.out.note(&format!("There are {several} contracts; each was looked at as if it came first."));
    }
    shifts.show(session)
}

fn read(file: &Path) -> Result<Vec<(ContractNumber, ContractPut)>, Failure> {
    let shown = || file.display().to_string();
    let mut text = String::new();
    if file == Path::new("-") {
        std::io::stdin().take(FILE_MAX + 1).read_to_string(&mut text).with_context(shown)?;
    } else {
        fs::File::open(file).with_context(shown)?.take(FILE_MAX + 1).read_to_string(&mut text).with_context(shown)?;
    }
    if text.len() as u64 > FILE_MAX {
        return Err(Failure::Usage(format!("{}: longer than {FILE_MAX} bytes; split it", file.display())));
    }
    let wrong = |what: String| Failure::Usage(format!("{}: {what}", file.display()));
    let mut contracts = Vec::new();
    for value in serde_json::Deserializer::from_str(&text).into_iter::<Value>() {
        let several = match value.map_err(|error| wrong(error.to_string()))? {
            Value::Array(several) => several,
            one => vec![one],
        };
        for mut one in several {
            let nth = contracts.len() + 1;
            let number = one.as_object_mut().and_then(|object| object.remove("number"));
            let Some(Value::String(number)) = number else {
                return Err(wrong(format!("contract {nth} has no `number`")));
            };
            let number: ContractNumber = number.parse().map_err(|error| wrong(format!("contract {nth}: {error}")))?;
            let contract = serde_json::from_value(one).map_err(|error| wrong(format!("contract {number}: {error}")))?;
            contracts.push((number, contract));
        }
    }
    if contracts.is_empty() {
        return Err(wrong("there is no contract in it".to_owned()));
    }
    Ok(contracts)
}
