//! `drill`: a loss or a theft, rehearsed in a copy of the repository in which everybody has a throwaway key. The copy goes
//! through the same code as the real thing: staging, signing, the server's checks, a device's checks.

mod rehearsal;
mod theft;

use crate::args::{DrillCommand, DrillHolderArgs, FolderArgs};
use crate::folder::Folder;
use crate::rotate::Change;
use crate::stage::Stage;
use crate::{edge, failure, output, release};
use jiff::Timestamp;
use rehearsal::Rehearsal;
use serde::Serialize;
use sluice_signer::OnlineRole;
use std::process::ExitCode;

/// What a rehearsal showed.
#[derive(Debug, Serialize)]
struct Report {
    /// Whether the repository survives every case.
    survives: bool,
    cases: Vec<Case>,
}

/// One thing that goes wrong.
#[derive(Debug, Serialize)]
struct Case {
    /// What happens.
    event: String,
    survives: bool,
    /// What was done about it, in order.
    steps: Vec<String>,
    /// Why it did not help.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

/// `drill`
pub fn run(command: &DrillCommand, now: Timestamp, json: bool) -> anyhow::Result<ExitCode> {
    let (cases, advice) = match command {
        DrillCommand::Holder(args) => (holder(args, now)?, "lower the threshold or add holders with `rotate`"),
        DrillCommand::Online(args) => (online(args, now)?, "correct what is named, and rehearse again"),
    };
    let report = Report { survives: cases.iter().all(|case| case.survives), cases };
    output::print(json, &report, || report.text(advice))?;
    Ok(if report.survives { ExitCode::SUCCESS } else { ExitCode::from(failure::INCOMPLETE) })
}

impl Report {
    fn text(&self, advice: &str) -> String {
        let mut lines = Vec::new();
        for case in &self.cases {
            lines.push(format!("{} {}", if case.survives { "survives" } else { "LOST    " }, case.event));
            lines.extend(case.steps.iter().map(|step| format!("  - {step}")));
            lines.extend(case.problem.iter().map(|problem| format!("  ! {problem}")));
        }
        lines.push(if self.survives {
            "OK: the repository survives; nothing of it was touched".to_owned()
        } else {
            format!("the repository would not survive; nothing of it was touched\nnext: {advice}")
        });
        lines.join("\n")
    }
}

impl Case {
    fn of(event: String, run: impl FnOnce(&mut Vec<String>) -> anyhow::Result<()>) -> Self {
        let mut steps = Vec::new();
        let problem = run(&mut steps).err().map(|error| format!("{error:#}"));
        Self { event, survives: problem.is_none(), steps, problem }
    }
}

/// Each holder of the role in turn loses the key.
fn holder(args: &DrillHolderArgs, now: Timestamp) -> anyhow::Result<Vec<Case>> {
    let stage = Stage::load(Folder::open(&args.repo)?)?;
    let (role, names) = rehearsal::holders(&stage, &args.role)?;
    let mut keyids: Vec<&String> = role.keyids.iter().collect();
    keyids.sort_by_key(|keyid| stage.holder(keyid));
    let cases = keyids.into_iter().map(|keyid| {
        let name = stage.holder(keyid);
        Case::of(format!("{name} loses the key of {}", args.role), |steps| {
            let left = names.iter().filter(|other| **other != name).count();
            let needed = usize::try_from(role.threshold).unwrap_or(usize::MAX);
            if left < needed {
                anyhow::bail!(
                    "{} of {left} who are left must sign: nobody can sign for {} ever again",
                    needed,
                    args.role
                );
            }
            let mut rehearsal = Rehearsal::of(&stage, now)?;
            let lost = rehearsal.throwaway(keyid)?;
            let replacement = rehearsal.new_key("the replacement")?;
            let change = Change::replace(&lost, "replacement", replacement);
            let command = match args.role.as_str() {
                "root" | "targets" | "director-root" => format!("root rotate --role {}", args.role),
                product => format!("delegate rotate --product {product}"),
            };
            steps.push(format!("sluice-sign {command} --remove {name} --add replacement.pub"));
            rehearsal.change_holders(&args.role, &change, now)?;
            rehearsal.sign(Some(&lost), steps)?;
            rehearsal.check(now)?;
            rehearsal.names_no_more(&args.role, &lost)?;
            steps.push(format!("server and devices take it; {name}'s key signs nothing any more"));
            Ok(())
        })
    });
    Ok(cases.collect())
}

/// Each of the server's keys, and then all of them, are stolen.
fn online(args: &FolderArgs, now: Timestamp) -> anyhow::Result<Vec<Case>> {
    let stage = Stage::load(Folder::open(&args.repo)?)?;
    let mut events: Vec<Vec<OnlineRole>> = OnlineRole::ALL.iter().map(|role| vec![*role]).collect();
    events.push(OnlineRole::ALL.to_vec());
    let cases = events.into_iter().map(|stolen| {
        let names: Vec<&str> = stolen.iter().map(|role| role.name()).collect();
        Case::of(format!("theft of the server's key: {}", names.join(", ")), |steps| {
            let mut rehearsal = Rehearsal::of(&stage, now)?;
            let before = rehearsal.online_signers()?;
            let mut device = theft::Device::of(&rehearsal, now)?;
            device.meets_the_thief(&rehearsal, &stolen, &before, now, steps)?;
            steps.push(format!("sluice-server keys rotate {}", names.join("; sluice-server keys rotate ")));
            steps.push("sluice-sign root rotate --online-keys online-keys.json".to_owned());
            rehearsal.rotate_online(&stolen, edge::in_days(now, crate::ceremony::ROOT_EXPIRES_DAYS)?, now)?;
            rehearsal.sign(None, steps)?;
            rehearsal.check(now)?;
            device.recovers(&rehearsal, &stolen, &before, now, steps)
        })
    });
    Ok(cases.collect())
}

/// Days that documents of a rehearsal live.
fn lifetime_days(role: &str) -> u32 {
    match role {
        "root" | "targets" => crate::ceremony::ROOT_EXPIRES_DAYS,
        role => release::expires_days(role),
    }
}
