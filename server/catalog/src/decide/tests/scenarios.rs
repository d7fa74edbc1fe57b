//! The rules as a support agent reads them: each case is a sentence, dates, and the reason that comes out. The same cases stand in
//! `docs/entitlement.md`.

use super::*;
use crate::policy::{Policy, PolicyKind, PolicyScope};
use crate::release::Embargo;

/// One case. What is not said: train 2.0 and version 2.0.0 came out on 2026-03-01, the version requires `CAM`, the device runs
/// 1.0.0 of train 1.0, a rollout brings the version to everyone, and the question is asked on 2026-06-01.
struct Case {
    name: &'static str,
    covers: Vec<Cover>,
    /// Their windows as they were entered.
    windows: Vec<String>,
    ga: &'static str,
    published: &'static str,
    kind: ReleaseKind,
    requires: &'static [&'static str],
    asked: &'static str,
    change: Vec<(String, Change)>,
}

/// What else is so.
type Change = fn(&mut DeviceView, &mut ReleaseView);

fn date(text: &str) -> Time {
    text.parse().unwrap()
}

fn case(name: &'static str) -> Case {
    Case {
        name,
        covers: Vec::new(),
        windows: Vec::new(),
        ga: "2026-03-01",
        published: "2026-03-01",
        kind: ReleaseKind::Feature,
        requires: &["CAM"],
        asked: "2026-06-01",
        change: Vec::new(),
    }
}

impl Case {
    /// A contract by this rule, 14 days of grace, that grants `CAM` in stable.
    fn contract(mut self, rule: &str, windows: &[(&str, &str)]) -> Self {
        let number = format!("C-{}", self.covers.len() + 1);
        self.windows.push(windows.iter().map(|(from, to)| format!(" {from} to {to}")).collect::<Vec<_>>().join(" and"));
        self.covers.push(Cover {
            contract: number.parse().unwrap(),
            plan: "plus".parse().unwrap(),
            rule: rule.parse().unwrap(),
            grace_days: 14,
            codes: vec![("CAM".parse().unwrap(), Channel::Stable)],
            windows: Windows::new(windows.iter().map(|(from, to)| (date(from), date(to))).collect()),
            origin: Origin::default(),
        });
        self
    }

    fn granting(mut self, code: &str) -> Self {
        self.covers.last_mut().unwrap().codes = vec![(code.parse().unwrap(), Channel::Stable)];
        self
    }

    fn grace(mut self, days: i32) -> Self {
        self.covers.last_mut().unwrap().grace_days = days;
        self
    }

    fn ga(mut self, ga: &'static str) -> Self {
        self.ga = ga;
        if date(self.published) < date(ga) {
            self.published = ga;
        }
        self
    }

    fn published(mut self, published: &'static str) -> Self {
        self.published = published;
        self
    }

    fn asked(mut self, asked: &'static str) -> Self {
        self.asked = asked;
        self
    }

    fn security(mut self) -> Self {
        self.kind = ReleaseKind::Security;
        self
    }

    fn requires(mut self, codes: &'static [&'static str]) -> Self {
        self.requires = codes;
        self
    }

    fn with(mut self, what: &str, change: Change) -> Self {
        self.change.push((what.to_owned(), change));
        self
    }

    fn ask(&self) -> Why {
        let mut new =
            release(Make { order: 2, train: ("2.0", 0), kind: self.kind, requires: self.requires, ..FEATURE });
        new.release.version = "2.0.0".parse().unwrap();
        new.release.published_at = date(self.published);
        new.train_ga = date(self.ga);
        let mut asked = device(1, self.covers.clone());
        for (_, change) in &self.change {
            change(&mut asked, &mut new);
        }
        let product = product(vec![release(FEATURE), new], vec![rollout_of(2, 100)]);
        why(&asked, &product, Some(&"2.0.0".parse().unwrap()), date(self.asked))
    }

    /// What the case says of itself, in the order of the table's columns.
    fn row(&self, reason: &str) -> String {
        let cover = |(cover, windows): (&Cover, &String)| {
            let codes = cover.code_set().iter().collect::<Vec<_>>().join(" ");
            let codes = if codes == "CAM" { String::new() } else { format!(", grants {codes}") };
            let grace = if cover.grace_days == 14 { String::new() } else { format!(", grace {}", cover.grace_days) };
            format!("{}{windows}{codes}{grace}", cover.rule)
        };
        let covers = self.covers.iter().zip(&self.windows).map(cover).collect::<Vec<_>>().join("; ");
        let mut also: Vec<String> = self.change.iter().map(|(what, _)| what.clone()).collect();
        if self.kind == ReleaseKind::Security {
            also.insert(0, "security fix".to_owned());
        }
        if self.requires != ["CAM"] {
            also.push(format!(
                "requires {}",
                if self.requires.is_empty() { "nothing".to_owned() } else { self.requires.join(" ") }
            ));
        }
        let also = also.join(", ");
        format!(
            "| {} | {} | {} | {} | {} | {} | `{reason}` |",
            self.name,
            covers.trim(),
            self.ga,
            self.published,
            self.asked,
            also
        )
    }
}

fn policy(scope: PolicyScope, kind: PolicyKind, until: Time) -> Policy {
    Policy {
        id: crate::id::FactId(uuid(1)),
        scope,
        kind,
        owner: "it".parse().unwrap(),
        reason: "exams".to_owned(),
        from_at: day(0),
        to_at: until,
        recorded_at: day(0),
    }
}

const YEAR: &[(&str, &str)] = &[("2026-01-01", "2027-01-01")];
const GAP: &[(&str, &str)] = &[("2025-01-01", "2026-01-01"), ("2026-04-01", "2027-04-01")];

#[rustfmt::skip]
fn cases() -> Vec<(Case, &'static str)> {
    vec![
        // The default rule.
        (case("the train came out the day before cover began").contract("train-ga", YEAR).ga("2025-12-31"), "TRAIN_GA_NOT_COVERED"),
        (case("the train came out on the first day of cover").contract("train-ga", YEAR).ga("2026-01-01"), "OFFERED"),
        (case("the train came out on the last day of cover").contract("train-ga", YEAR).ga("2026-12-31").asked("2027-06-01"), "OFFERED"),
        (case("the train came out on the day cover ended: the first of grace").contract("train-ga", YEAR).ga("2027-01-01").asked("2027-06-01"), "OFFERED"),
        (case("the train came out on the last day of grace").contract("train-ga", YEAR).ga("2027-01-14").asked("2027-06-01"), "OFFERED"),
        (case("the train came out the day after grace").contract("train-ga", YEAR).ga("2027-01-15").asked("2027-06-01"), "TRAIN_GA_NOT_COVERED"),
        (case("a fix of a train that is owned, published years after cover ended").contract("train-ga", YEAR).ga("2026-03-01").published("2029-03-01").asked("2029-06-01"), "OFFERED"),
        (case("a train in the gap between two windows").contract("train-ga", GAP).ga("2026-02-01"), "TRAIN_GA_NOT_COVERED"),
        (case("a train in the grace before the gap stays owned after the renewal").contract("train-ga", GAP).ga("2026-01-10"), "OFFERED"),
        (case("a backdated window closes the gap").contract("train-ga", &[("2025-01-01", "2026-01-01"), ("2026-01-01", "2026-04-01"), ("2026-04-01", "2027-04-01")]).ga("2026-02-01"), "OFFERED"),
        (case("no grace in the plan").contract("train-ga", YEAR).grace(0).ga("2027-01-01").asked("2027-06-01"), "TRAIN_GA_NOT_COVERED"),
        (case("cover begins on a leap day").contract("train-ga", &[("2028-02-29", "2029-02-28")]).ga("2028-02-29").asked("2028-06-01"), "OFFERED"),
        (case("cover that begins later does not reach back").contract("train-ga", &[("2026-09-01", "2027-09-01")]), "TRAIN_GA_NOT_COVERED"),
        // Covered now.
        (case("live: the day before cover begins").contract("live", YEAR).asked("2025-12-31").ga("2025-06-01").published("2025-06-01"), "NOT_LIVE"),
        (case("live: the first day of cover").contract("live", YEAR).asked("2026-01-01").ga("2025-06-01").published("2025-06-01"), "OFFERED"),
        (case("live: the last day of cover").contract("live", YEAR).asked("2026-12-31"), "OFFERED"),
        (case("live: the day cover ended, the first of grace").contract("live", YEAR).asked("2027-01-01"), "OFFERED"),
        (case("live: the last day of grace").contract("live", YEAR).asked("2027-01-14"), "OFFERED"),
        (case("live: the day after grace").contract("live", YEAR).asked("2027-01-15"), "NOT_LIVE"),
        (case("live: in a gap, after the grace before it").contract("live", GAP).asked("2026-03-15"), "NOT_LIVE"),
        (case("live: an old train is as good as a new one").contract("live", YEAR).ga("2020-01-01").published("2020-01-01"), "OFFERED"),
        // Published while covered.
        (case("release-date: published the day before cover began").contract("release-date", YEAR).ga("2025-06-01").published("2025-12-31"), "RELEASE_DATE_NOT_COVERED"),
        (case("release-date: published on the first day of cover").contract("release-date", YEAR).ga("2025-06-01").published("2026-01-01"), "OFFERED"),
        (case("release-date: published on the last day of cover").contract("release-date", YEAR).published("2026-12-31").asked("2027-06-01"), "OFFERED"),
        (case("release-date: published on the last day of grace").contract("release-date", YEAR).published("2027-01-14").asked("2027-06-01"), "OFFERED"),
        (case("release-date: published the day after grace").contract("release-date", YEAR).published("2027-01-15").asked("2027-06-01"), "RELEASE_DATE_NOT_COVERED"),
        (case("release-date: a fix of an owned train is not owned").contract("release-date", YEAR).ga("2026-03-01").published("2028-03-01").asked("2028-06-01"), "RELEASE_DATE_NOT_COVERED"),
        // Earned by months.
        (case("fallback-12: covered now").contract("fallback-12", YEAR).ga("2026-05-01"), "OFFERED"),
        (case("fallback-12: a train of the first day, after the year").contract("fallback-12", YEAR).ga("2026-01-01").asked("2028-01-01"), "OFFERED"),
        (case("fallback-12: a train of the second day, after the year").contract("fallback-12", YEAR).ga("2026-01-02").asked("2028-01-01"), "FALLBACK_NOT_EARNED"),
        (case("fallback-12: an older train, after the year").contract("fallback-12", YEAR).ga("2020-01-01").published("2020-01-01").asked("2028-01-01"), "OFFERED"),
        (case("fallback-12: eleven months and a gap earn nothing").contract("fallback-12", &[("2025-01-01", "2025-12-01"), ("2026-01-01", "2026-11-01")]).ga("2025-01-01").published("2025-01-01").asked("2028-01-01"), "FALLBACK_NOT_EARNED"),
        (case("fallback-12: two windows that touch are one").contract("fallback-12", &[("2025-01-01", "2025-12-01"), ("2025-12-01", "2026-01-01")]).ga("2025-01-01").published("2025-01-01").asked("2028-01-01"), "OFFERED"),
        (case("fallback-12: the last day of grace").contract("fallback-12", YEAR).ga("2026-06-01").asked("2027-01-14"), "OFFERED"),
        (case("fallback-12: the day after grace").contract("fallback-12", YEAR).ga("2026-06-01").asked("2027-01-15"), "FALLBACK_NOT_EARNED"),
        (case("fallback-12: from one leap day to the 28th of the next February").contract("fallback-12", &[("2024-02-29", "2025-02-28")]).ga("2024-01-01").published("2024-01-01").asked("2027-01-01"), "OFFERED"),
        // No dates.
        (case("open: without any window").contract("open", &[]), "OFFERED"),
        (case("open: does not grant what the plan does not grant").contract("open", &[]).granting("OTHER"), "CODE_NOT_GRANTED"),
        // Codes.
        (case("nobody's device, a free version").requires(&[]), "OFFERED"),
        (case("nobody's device, a version that requires a code"), "NO_CONTRACT"),
        (case("the plan grants another code").contract("train-ga", YEAR).granting("OTHER"), "CODE_NOT_GRANTED"),
        (case("two codes, the plan grants one").contract("train-ga", YEAR).requires(&["CAM", "AI"]), "CODE_NOT_GRANTED"),
        (case("two codes from two contracts").contract("train-ga", YEAR).contract("live", YEAR).granting("AI").requires(&["CAM", "AI"]), "OFFERED"),
        (case("two codes from two contracts, one of them lapsed").contract("train-ga", YEAR).contract("live", &[("2025-01-01", "2026-01-01")]).granting("AI").requires(&["CAM", "AI"]), "NOT_LIVE"),
        (case("two contracts, the better counts").contract("train-ga", &[("2020-01-01", "2021-01-01")]).contract("live", YEAR), "OFFERED"),
        (case("two contracts, the nearer one gives the reason").contract("train-ga", YEAR).granting("OTHER").contract("live", &[("2020-01-01", "2021-01-01")]), "NOT_LIVE"),
        (case("the plan grants stable, the version is a preview").contract("train-ga", YEAR).with("device and version on preview", |d, r| {
            d.device.channel = Channel::Preview; r.release.channel = Channel::Preview;
        }), "CHANNEL_CEILING"),
        (case("the device does not follow the channel").contract("train-ga", YEAR).with("version on beta", |_, r| r.release.channel = Channel::Beta), "CHANNEL_NOT_FOLLOWED"),
        (case("the only image requires an add-on's code").contract("train-ga", YEAR).with("image requires AI", |_, r| r.artifacts[0].requires = ["AI"].into_iter().collect()), "CODE_NOT_GRANTED"),
        (case("the image's own code is granted").contract("train-ga", YEAR).contract("open", &[]).granting("AI").with("image requires AI", |_, r| r.artifacts[0].requires = ["AI"].into_iter().collect()), "OFFERED"),
        // Security.
        (case("a security fix on the confirmed train, no contract").security().with("device confirmed train 2.0", |d, _| d.device.confirmed_train = Some("2.0".parse().unwrap())), "OFFERED"),
        (case("a security fix on a train that was covered once").security().contract("live", &[("2026-02-01", "2026-04-01")]).asked("2030-01-01"), "OFFERED"),
        (case("a security fix on a train the device never ran").security(), "NO_CONTRACT"),
        (case("a security fix of a component the device has needs no code").security().with("confirmed train 2.0, image requires AI", |d, r| {
            d.device.confirmed_train = Some("2.0".parse().unwrap()); r.artifacts[0].requires = ["AI"].into_iter().collect();
        }), "OFFERED"),
        (case("a security fix for a replaced device").security().with("replaced, confirmed train 2.0", |d, _| {
            d.device.state = DeviceState::Replaced; d.device.confirmed_train = Some("2.0".parse().unwrap());
        }), "OFFERED"),
        (case("a covered feature for a replaced device").contract("train-ga", YEAR).with("replaced", |d, _| d.device.state = DeviceState::Replaced), "DEVICE_REPLACED"),
        (case("a security fix for a blocked device").security().with("blocked, confirmed train 2.0", |d, _| {
            d.device.state = DeviceState::Blocked; d.device.confirmed_train = Some("2.0".parse().unwrap());
        }), "DEVICE_BLOCKED"),
        // Identity.
        (case("a device that waits to be accepted").contract("train-ga", YEAR).with("pending", |d, _| d.device.state = DeviceState::Pending), "DEVICE_PENDING"),
        (case("a retired device").contract("train-ga", YEAR).with("retired", |d, _| d.device.state = DeviceState::Retired), "DEVICE_RETIRED"),
        (case("a device whose replacement is on its way").contract("train-ga", YEAR).with("rma_pending", |d, _| d.device.state = DeviceState::RmaPending), "OFFERED"),
        (case("a swapped device on the last day of the overlap").contract("train-ga", YEAR).asked("2026-06-30").with("rma_pending, fenced on 2026-07-01", |d, _| {
            d.device.state = DeviceState::RmaPending; d.device.fence_at = Some(date("2026-07-01"));
        }), "OFFERED"),
        (case("a swapped device the day after the overlap").contract("train-ga", YEAR).asked("2026-07-01").with("rma_pending, fenced on 2026-07-01", |d, _| {
            d.device.state = DeviceState::RmaPending; d.device.fence_at = Some(date("2026-07-01"));
        }), "DEVICE_REPLACED"),
        // Release.
        (case("asked about a moment before publication").contract("train-ga", YEAR).asked("2026-02-28"), "NOT_PUBLISHED"),
        (case("a withdrawn version").contract("train-ga", YEAR).with("withdrawn on 2026-05-01", |_, r| r.release.withdrawn_at = Some(date("2026-05-01"))), "WITHDRAWN"),
        (case("asked about a moment before the withdrawal").contract("train-ga", YEAR).asked("2026-04-30").with("withdrawn on 2026-05-01", |_, r| r.release.withdrawn_at = Some(date("2026-05-01"))), "OFFERED"),
        (case("under embargo, the day before it ends").contract("train-ga", YEAR).asked("2026-06-30").with("embargo until 2026-07-01", |_, r| r.embargo = Some(Embargo { codes: TextSet::default(), until: date("2026-07-01") })), "EMBARGOED"),
        (case("the day the embargo ends").contract("train-ga", YEAR).asked("2026-07-01").with("embargo until 2026-07-01", |_, r| r.embargo = Some(Embargo { codes: TextSet::default(), until: date("2026-07-01") })), "OFFERED"),
        (case("let in early by a code").contract("train-ga", YEAR).contract("live", YEAR).granting("EARLY").with("embargo for EARLY until 2026-07-01", |_, r| r.embargo = Some(Embargo { codes: ["EARLY"].into_iter().collect(), until: date("2026-07-01") })), "OFFERED"),
        (case("the code that lets in early has lapsed").contract("train-ga", YEAR).contract("live", &[("2025-01-01", "2026-01-01")]).granting("EARLY").with("embargo for EARLY until 2026-07-01", |_, r| r.embargo = Some(Embargo { codes: ["EARLY"].into_iter().collect(), until: date("2026-07-01") })), "EMBARGOED"),
        (case("a security fix under embargo").security().with("confirmed train 2.0, embargo until 2026-07-01", |d, r| {
            d.device.confirmed_train = Some("2.0".parse().unwrap());
            r.embargo = Some(Embargo { codes: TextSet::default(), until: date("2026-07-01") });
        }), "EMBARGOED"),
        (case("the device stands in a blocked country").contract("train-ga", YEAR).with("in NL, blocked in NL", |d, r| {
            d.country = Some("NL".to_owned()); r.blocked_countries = ["NL"].into_iter().collect();
        }), "COUNTRY_BLOCKED"),
        (case("the device stands in another country").contract("train-ga", YEAR).with("in BE, blocked in NL", |d, r| {
            d.country = Some("BE".to_owned()); r.blocked_countries = ["NL"].into_iter().collect();
        }), "OFFERED"),
        (case("nobody knows where the device stands").contract("train-ga", YEAR).with("blocked in NL", |_, r| r.blocked_countries = ["NL"].into_iter().collect()), "OFFERED"),
        // What the owner wants.
        (case("the customer holds new versions back").contract("train-ga", YEAR).with("hold for the customer", |d, _| d.policies = vec![policy(PolicyScope::Customer, PolicyKind::Hold { security: false }, Time::FOREVER)]), "HELD_BY_POLICY"),
        (case("the day before a hold ends").contract("train-ga", YEAR).asked("2026-06-30").with("hold until 2026-07-01", |d, _| d.policies = vec![policy(PolicyScope::Customer, PolicyKind::Hold { security: false }, date("2026-07-01"))]), "HELD_BY_POLICY"),
        (case("the day a hold ends").contract("train-ga", YEAR).asked("2026-07-01").with("hold until 2026-07-01", |d, _| d.policies = vec![policy(PolicyScope::Customer, PolicyKind::Hold { security: false }, date("2026-07-01"))]), "OFFERED"),
        (case("a hold lets security fixes through").security().contract("train-ga", YEAR).with("hold", |d, _| d.policies = vec![policy(PolicyScope::Customer, PolicyKind::Hold { security: false }, Time::FOREVER)]), "OFFERED"),
        (case("a hold that holds security fixes as well").security().contract("train-ga", YEAR).with("hold with security", |d, _| d.policies = vec![policy(PolicyScope::Customer, PolicyKind::Hold { security: true }, Time::FOREVER)]), "HELD_BY_POLICY"),
        (case("a device follows although its site holds").contract("train-ga", YEAR).with("hold for the site, follow for the device", |d, _| d.policies = vec![
            policy(PolicyScope::Device, PolicyKind::Follow, Time::FOREVER), policy(PolicyScope::Site, PolicyKind::Hold { security: false }, Time::FOREVER),
        ]), "OFFERED"),
        (case("pinned to this version").contract("train-ga", YEAR).with("pin to 2.0.0", |d, _| d.policies = vec![policy(PolicyScope::Group, PolicyKind::Pin { version: "2.0.0".parse().unwrap() }, Time::FOREVER)]), "OFFERED"),
        (case("pinned to another version").contract("train-ga", YEAR).with("pin to v1", |d, _| d.policies = vec![policy(PolicyScope::Group, PolicyKind::Pin { version: "v1".parse().unwrap() }, Time::FOREVER)]), "PINNED_BY_POLICY"),
        (case("a pin gives no access that cover does not give").with("pin to 2.0.0", |d, _| d.policies = vec![policy(PolicyScope::Device, PolicyKind::Pin { version: "2.0.0".parse().unwrap() }, Time::FOREVER)]), "NO_CONTRACT"),
    ]
}

#[test]
fn every_case_has_its_reason() {
    let mut wrong = Vec::new();
    for (case, expected) in cases() {
        let found = case.ask().reason.code();
        if found != expected {
            wrong.push(format!("{}: expected {expected}, found {found}", case.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn names_are_unique_and_there_are_sixty_at_least() {
    let cases = cases();
    let names: std::collections::BTreeSet<&str> = cases.iter().map(|(case, _)| case.name).collect();
    assert_eq!(names.len(), cases.len());
    assert!(cases.len() >= 60, "{}", cases.len());
}

#[test]
fn the_documentation_has_the_same_cases() {
    let rows: Vec<String> = cases().iter().map(|(case, reason)| case.row(reason)).collect();
    let page = include_str!("../../../../../docs/entitlement.md");
    let found: Vec<&str> = page.lines().filter(|line| line.starts_with("| ") && line.ends_with("` |")).collect();
    let found: Vec<&str> = found.into_iter().skip_while(|line| *line != rows[0]).take(rows.len()).collect();
    let odd = rows.iter().zip(found.iter().chain(std::iter::repeat(&""))).find(|(row, found)| row != found);
    assert!(odd.is_none() && found.len() == rows.len(), "{odd:#?}; the table is:\n{}", rows.join("\n"));
}
