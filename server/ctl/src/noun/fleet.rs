//! Answers about a whole fleet, which come line by line: counted as they come, and never kept.

use std::collections::BTreeMap;
use std::io::{self, Write as _};

use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use sluice_catalog::device::DeviceState;
use sluice_catalog::text::{ProductName, Slug, Version};
use sluice_catalog::wire::entitlement::WhatIf;
use sluice_catalog::wire::fleet::{DeviceShift, FleetDevice, FleetLine, FleetSummary, ShiftSummary};

use crate::args::one_of;
use crate::cli::Session;
use crate::client::{Query, path};
use crate::failure::Failure;
use crate::noun::device::STATES;
use crate::output::{or_dash, printable, table, when};

/// Serials shown with each group.
const EXAMPLES: usize = 3;
/// Groups that are counted: a fleet of a million customers is no table. What is beyond is counted together.
const GROUPS_MAX: usize = 10_000;
/// Devices whose change is shown one by one; `--json` has all.
const SHIFTS_SHOWN: usize = 200;

/// Which devices.
#[derive(Args)]
pub struct Which {
    /// In this state only.
    #[arg(long, value_parser = one_of::<DeviceState>(STATES))]
    state: Option<DeviceState>,
    /// Of this customer only.
    #[arg(long)]
    customer: Option<Slug>,
    /// At sites of this name only.
    #[arg(long)]
    site: Option<Slug>,
    /// With this tag only.
    #[arg(long)]
    tag: Option<Slug>,
}

impl Which {
    /// What the server is asked with.
    pub fn query(&self) -> Vec<(&'static str, Option<String>)> {
        let text = |slug: &Option<Slug>| slug.as_ref().map(ToString::to_string);
        vec![
            ("state", self.state.map(|state| state.as_str().to_owned())),
            ("customer", text(&self.customer)),
            ("site", text(&self.site)),
            ("tag", text(&self.tag)),
        ]
    }
}

/// By what devices are counted, beside the reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum GroupBy {
    /// Every device by itself.
    None,
    /// The reason alone.
    Reason,
    /// The customer.
    Customer,
    /// The site, with its customer.
    Site,
    /// The hardware.
    HwId,
    /// The state.
    State,
    /// What it runs.
    Runs,
}

impl GroupBy {
    /// What a device is counted under.
    fn key(self, device: &FleetDevice) -> String {
        match self {
            Self::None | Self::Reason => String::new(),
            Self::Customer => or_dash(device.customer.as_ref()),
            Self::Site => match (&device.customer, &device.site) {
                (Some(customer), Some(site)) => format!("{customer}/{site}"),
                (_, site) => or_dash(site.as_ref()),
            },
            Self::HwId => device.hw_id.to_string(),
            Self::State => device.state.as_str().to_owned(),
            Self::Runs => or_dash(device.runs.as_ref()),
        }
    }

    const fn header(self) -> &'static str {
        match self {
            Self::None | Self::Reason => "",
            Self::Customer => "CUSTOMER",
            Self::Site => "SITE",
            Self::HwId => "HARDWARE",
            Self::State => "STATE",
            Self::Runs => "RUNS",
        }
    }
}

/// Devices with one reason, in one group.
#[derive(Default)]
struct Group {
    devices: u64,
    examples: Vec<String>,
}

/// Counts of groups and reasons.
#[derive(Default)]
struct Counts {
    groups: BTreeMap<(String, &'static str), Group>,
    beyond: u64,
}

impl Counts {
    fn add(&mut self, group_by: GroupBy, device: &FleetDevice) {
        let key = (group_by.key(device), device.reason.code());
        if self.groups.len() >= GROUPS_MAX && !self.groups.contains_key(&key) {
            self.beyond += 1;
            return;
        }
        let group = self.groups.entry(key).or_default();
        group.devices += 1;
        if group.examples.len() < EXAMPLES {
            group.examples.push(device.serial.to_string());
        }
    }

    /// Groups in their order, and in each the most frequent reason first.
    fn text(self, group_by: GroupBy, summary: &FleetSummary) -> String {
        let mut rows: Vec<_> = self.groups.into_iter().collect();
        rows.sort_by(|((one, _), a), ((other, _), b)| one.cmp(other).then(b.devices.cmp(&a.devices)));
        let of_all = |devices: u64| {
            let tenths = devices.saturating_mul(1000) / summary.devices.max(1);
            format!("{}.{} %", tenths / 10, tenths % 10)
        };
        let header = [group_by.header(), "REASON", "DEVICES", "SHARE", "EXAMPLES"];
        let from = usize::from(group_by == GroupBy::Reason);
        let rows = rows.into_iter().map(|((key, reason), group)| {
            let more = if group.devices > EXAMPLES as u64 { ", …" } else { "" };
            let row = vec![
                key,
                reason.to_owned(),
                group.devices.to_string(),
                of_all(group.devices),
                format!("{}{more}", group.examples.join(", ")),
            ];
            row.into_iter().skip(from).collect()
        });
        let mut text = table(&header[from..], rows);
        if self.beyond > 0 {
            text.extend(["\n… and ", &self.beyond.to_string(), " devices in further groups; --json has all"]);
        }
        let of = summary.version.as_ref().map(|version| format!(" {version}")).unwrap_or_default();
        let (devices, pass) = (summary.devices, summary.pass);
        let at = when(summary.at);
        text + &format!("\n\n{pass} of {devices} devices of {} are offered{of} at {at}.", summary.product)
    }
}

/// Tells why each device gets, or not gets, a version.
pub fn why(session: &Session, product: &ProductName, query: Query, group_by: GroupBy) -> Result<(), Failure> {
    let (mut counts, mut end) = (Counts::default(), None);
    if group_by == GroupBy::None && !session.out.json {
        println!("SERIAL  PASS  REASON  VERSION  MAY HAVE  CHANGES AT");
    }
    let path = path(&["products", product.as_str(), "why"]);
    each_line(session, |line| session.client.lines(&path, query, line), &mut |line| {
        match line {
            FleetLine::Device(device) if group_by == GroupBy::None => {
                let version = |version: Option<&Version>| version.map_or("-", Version::as_str).to_owned();
                writeln!(
                    io::stdout(),
                    "{}  {}  {}  {}  {}  {}",
                    device.serial,
                    if device.pass { "yes" } else { "no" },
                    device.reason,
                    version(device.version.as_ref()),
                    version(device.newest_entitled.as_ref()),
                    device.changes_at.map_or_else(|| "-".to_owned(), |at| at.to_string()),
                )?;
            }
            FleetLine::Device(device) => counts.add(group_by, &device),
            FleetLine::Summary(summary) => end = Some(summary),
            _ => {}
        }
        Ok(())
    })?;
    let summary = end.ok_or_else(cut)?;
    if group_by != GroupBy::None && !session.out.json {
        println!("{}", counts.text(group_by, &summary));
    }
    Ok(())
}

/// Tells how the access of devices changes as time goes by.
pub fn forecast(session: &Session, path: &str, query: Query) -> Result<(), Failure> {
    let mut shifts = Shifts::default();
    each_line(session, |line| session.client.lines(path, query, line), &mut |line| {
        shifts.take(line);
        Ok(())
    })?;
    shifts.show(session)
}

/// Tells what a change would do, which is not made.
pub fn what_if(session: &Session, change: &WhatIf) -> Result<(), Failure> {
    let mut shifts = Shifts::default();
    shifts.ask(session, change)?;
    shifts.show(session)
}

/// How access changes, of the answers to one question or several.
#[derive(Default)]
pub struct Shifts {
    shown: Vec<DeviceShift>,
    summary: ShiftSummary,
    ended: bool,
}

impl Shifts {
    /// Asks what a change would do, which is not made.
    pub fn ask(&mut self, session: &Session, change: &WhatIf) -> Result<(), Failure> {
        self.ended = false;
        let path = path(&["what-if"]);
        each_line(session, |line| session.client.post_lines(&path, change, line), &mut |line| {
            self.take(line);
            Ok(())
        })
    }

    fn take(&mut self, line: FleetLine) {
        match line {
            FleetLine::Shift(shift) if self.shown.len() < SHIFTS_SHOWN => self.shown.push(shift),
            FleetLine::Shifts(summary) => {
                self.summary.add(&summary);
                self.ended = true;
            }
            _ => {}
        }
    }

    /// Shows what was told.
    pub fn show(&self, session: &Session) -> Result<(), Failure> {
        if !self.ended {
            return Err(cut());
        }
        if !session.out.json {
            writeln!(io::stdout(), "{}", shifts_text(&self.shown, &self.summary))?;
        }
        Ok(())
    }
}

/// How access changes: the counts, and the devices that are shown.
fn shifts_text(shown: &[DeviceShift], summary: &ShiftSummary) -> String {
    let version = |version: &Option<Version>| or_dash(version.as_ref());
    let mut text = String::new();
    if !summary.moves.is_empty() {
        text = table(
            &["PRODUCT", "NEWEST BEFORE", "AFTER", "DEVICES"],
            summary.moves.iter().map(|one| {
                vec![one.product.to_string(), version(&one.before), version(&one.after), one.devices.to_string()]
            }),
        );
        text.push_str("\n\n");
    }
    if !shown.is_empty() {
        text.push_str(&table(
            &["SERIAL", "CUSTOMER", "NEWEST BEFORE", "AFTER", "CODES LOST", "CODES GAINED"],
            shown.iter().map(|one| {
                vec![
                    one.serial.to_string(),
                    or_dash(one.customer.as_ref()),
                    version(&one.before),
                    version(&one.after),
                    one.codes_lost.join(" "),
                    one.codes_gained.join(" "),
                ]
            }),
        ));
        text.push('\n');
        let more = (summary.losses + summary.gains).saturating_sub(shown.len() as u64);
        if more > 0 {
            text.extend(["… and ", &more.to_string(), " more; --json has all\n"]);
        }
        text.push('\n');
    }
    let ShiftSummary { devices, covered, losses, losses_ahead, gains, .. } = summary;
    let ahead = match losses_ahead {
        0 => String::new(),
        ahead => format!(", {ahead} within 60 days"),
    };
    let counts = format!("{losses} of {covered} covered devices lose{ahead}, {gains} gain; {devices} were looked at.");
    text.push_str(&counts);
    if summary.cut {
        text.push_str(" The time allowed was over before all were looked at: these are the counts of a part.");
    }
    text
}

/// Reads every line; shows on standard error how far it is, and with `--json` hands each on as it is.
fn each_line(
    session: &Session,
    ask: impl FnOnce(&mut dyn FnMut(&str) -> Result<(), Failure>) -> Result<(), Failure>,
    take: &mut dyn FnMut(FleetLine) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let bar = ProgressBar::new_spinner();
    let style = ProgressStyle::with_template("{spinner} {pos} lines {per_sec} {elapsed}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
    let mut problem = None;
    let read = ask(&mut |text| {
        bar.inc(1);
        // A kind of line that a later server has is no reason to stop.
        let Ok(line) = serde_json::from_str::<FleetLine>(text) else { return Ok(()) };
        if let FleetLine::Problem(told) = line {
            problem = Some(told);
            return Ok(());
        }
        if session.out.json {
            writeln!(io::stdout(), "{}", printable(text))?;
        }
        take(line)
    });
    bar.finish_and_clear();
    read?;
    problem.map_or(Ok(()), |problem| Err(Failure::Problem(problem)))
}

fn cut() -> Failure {
    Failure::Refused("the answer ends without a summary: it was cut, and what came before is a part".into())
}

#[cfg(test)]
mod tests {
    use sluice_catalog::{Reason, Time};

    use super::*;

    fn device(serial: &str, customer: Option<&str>, reason: Reason) -> FleetDevice {
        FleetDevice {
            serial: serial.parse().unwrap(),
            customer: customer.map(|name| name.parse().unwrap()),
            site: None,
            hw_id: "cam-r3".parse().unwrap(),
            state: DeviceState::Active,
            runs: Some("1.0.0".parse().unwrap()),
            pass: reason == Reason::Offered,
            reason,
            version: None,
            newest_entitled: None,
            changes_at: None,
        }
    }

    fn text(group_by: GroupBy) -> String {
        let fleet = [
            device("S-1", Some("acme"), Reason::NoContract),
            device("S-2", Some("acme"), Reason::Offered),
            device("S-3", None, Reason::NoContract),
            device("S-4", Some("globex"), Reason::NoContract),
            device("S-5", Some("globex"), Reason::NoContract),
        ];
        let mut counts = Counts::default();
        for device in &fleet {
            counts.add(group_by, device);
        }
        let summary = FleetSummary {
            product: "acme-cam".parse().unwrap(),
            version: Some("2.0.0".parse().unwrap()),
            at: Time::EPOCH,
            devices: 5,
            pass: 1,
            reasons: BTreeMap::new(),
        };
        counts.text(group_by, &summary)
    }

    #[test]
    fn devices_are_counted_by_reason_and_by_what_is_asked() {
        assert_eq!(
            text(GroupBy::Reason),
            "REASON       DEVICES  SHARE   EXAMPLES\n\
             NO_CONTRACT  4        80.0 %  S-1, S-3, S-4, …\n\
             OFFERED      1        20.0 %  S-2\n\n\
             1 of 5 devices of acme-cam are offered 2.0.0 at 1970-01-01T00:00:00Z."
        );
        assert_eq!(
            text(GroupBy::Customer),
            "CUSTOMER  REASON       DEVICES  SHARE   EXAMPLES\n\
             -         NO_CONTRACT  1        20.0 %  S-3\n\
             acme      NO_CONTRACT  1        20.0 %  S-1\n\
             acme      OFFERED      1        20.0 %  S-2\n\
             globex    NO_CONTRACT  2        40.0 %  S-4, S-5\n\n\
             1 of 5 devices of acme-cam are offered 2.0.0 at 1970-01-01T00:00:00Z."
        );
    }
}
