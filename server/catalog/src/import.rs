//! Contracts from a sales system, as rows: each says that a contract of a customer under a plan has a window, covers a serial, or both.
//! Reading them is pure and does not depend on their order, so that any order of rows leads to one state.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::Time;
use crate::contract::{WindowKind, window_mistake};
use crate::pool::{self, MAX_PLACES, PoolSet};
use crate::text::{ContractNumber, Family, ProductName, Serial, Slug, TextError};

/// Rows of one request.
pub const MAX_ROWS: usize = 5_000;
/// Bytes of one field of a row.
pub const MAX_FIELD: usize = 200;

/// A row as it stands in the file. Everything is text: what is wrong with it is told by line and field.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ImportRow {
    /// Where it stands in the file, for messages.
    pub line: u64,
    /// The contract's number.
    pub contract: String,
    /// The customer's name.
    pub customer: String,
    /// The plan's name.
    pub plan: String,
    /// First day covered (`2026-01-31`), or a moment (RFC 3339).
    #[serde(default)]
    pub from: Option<String>,
    /// First day, or moment, no longer covered.
    #[serde(default)]
    pub to: Option<String>,
    /// Last day covered, in place of `to`.
    #[serde(default)]
    pub last_day: Option<String>,
    /// Why the window covers: `paid` when absent.
    #[serde(default)]
    pub kind: Option<String>,
    /// The time zone in which days begin, by its IANA name; UTC when absent.
    #[serde(default)]
    pub zone: Option<String>,
    /// The product of the serial.
    #[serde(default)]
    pub product: Option<String>,
    /// The serial that is covered.
    #[serde(default)]
    pub serial: Option<String>,
    /// The family of a pool.
    #[serde(default)]
    pub family: Option<String>,
    /// The site of the pool.
    #[serde(default)]
    pub site: Option<String>,
    /// The places of the pool.
    #[serde(default)]
    pub quantity: Option<String>,
}

/// What is wrong with a row.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RowError {
    /// Its line.
    pub line: u64,
    /// The field.
    pub field: String,
    /// The rule and the value.
    pub message: String,
}

/// Names that rows may refer to.
#[derive(Clone, Debug, Default)]
pub struct KnownNames {
    /// Customers.
    pub customers: BTreeSet<String>,
    /// Plans.
    pub plans: BTreeSet<String>,
    /// Products.
    pub products: BTreeSet<String>,
    /// Contracts that are there, with customer and plan.
    pub contracts: BTreeMap<String, (String, String)>,
}

/// A contract as the rows want it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedContract {
    /// Whose it is.
    pub customer: Slug,
    /// The plan sold.
    pub plan: Slug,
    /// Windows, `[from, to)`, with why.
    pub windows: BTreeSet<(Time, Time, WindowKind)>,
    /// Serials.
    pub items: BTreeSet<(ProductName, Serial)>,
    /// Pools.
    pub pools: BTreeSet<PoolSet>,
    /// The zone in which its days are counted: that of the window that ends last, of rows that name one.
    pub zone: Option<String>,
}

/// What rows come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Contracts by number, from the rows that are right.
    pub contracts: BTreeMap<ContractNumber, WantedContract>,
    /// What is wrong, by line.
    pub errors: Vec<RowError>,
}

/// One row, read.
struct Read {
    line: u64,
    contract: ContractNumber,
    customer: Slug,
    plan: Slug,
    window: Option<(Time, Time, WindowKind)>,
    item: Option<(ProductName, Serial)>,
    pool: Option<PoolSet>,
    zone: Option<String>,
}

/// Reads rows. A row with a mistake counts for nothing; of rows that contradict each other all are mistakes.
pub fn read(rows: &[ImportRow], known: &KnownNames) -> Wanted {
    let mut errors = Vec::new();
    let mut good: BTreeMap<ContractNumber, Vec<Read>> = BTreeMap::new();
    for row in rows {
        match read_row(row, known) {
            Ok(read) => good.entry(read.contract.clone()).or_default().push(read),
            Err((field, message)) => errors.push(RowError { line: row.line, field: field.to_owned(), message }),
        }
    }
    let mut contracts = BTreeMap::new();
    for (number, rows) in good {
        let parties: BTreeSet<(&Slug, &Slug)> = rows.iter().map(|row| (&row.customer, &row.plan)).collect();
        let mut parties = parties.into_iter();
        let (Some((customer, plan)), None) = (parties.next(), parties.next()) else {
            errors.extend(rows.iter().map(|row| RowError {
                line: row.line,
                field: "contract".to_owned(),
                message: format!("rows give contract {number} to several customers or plans; give it one"),
            }));
            continue;
        };
        let there = known.contracts.get(number.as_str());
        if let Some((theirs, _)) = there.filter(|(theirs, _)| *theirs != *customer.as_str()) {
            errors.extend(rows.iter().map(|row| RowError {
                line: row.line,
                field: "customer".to_owned(),
                message: format!("contract {number} is of customer {theirs} already"),
            }));
            continue;
        }
        let wanted = WantedContract {
            customer: customer.clone(),
            plan: plan.clone(),
            windows: rows.iter().filter_map(|row| row.window).collect(),
            items: rows.iter().filter_map(|row| row.item.clone()).collect(),
            pools: rows.iter().filter_map(|row| row.pool.clone()).collect(),
            zone: rows
                .iter()
                .filter_map(|row| Some((row.window.map(|(_, to, _)| to), row.zone.as_ref()?)))
                .max()
                .map(|(_, zone)| zone.clone()),
        };
        let pools: Vec<PoolSet> = wanted.pools.iter().cloned().collect();
        if let Some((index, _, message)) = pool::mistake(&pools) {
            let about = pools.get(index).map(|pool| (&pool.family, &pool.site));
            let of_pool = |row: &&Read| row.pool.as_ref().map(|pool| (&pool.family, &pool.site)) == about;
            let mistake =
                |row: &Read| RowError { line: row.line, field: "quantity".to_owned(), message: message.clone() };
            errors.extend(rows.iter().filter(of_pool).map(mistake));
            continue;
        }
        contracts.insert(number, wanted);
    }
    errors.sort();
    Wanted { contracts, errors }
}

type Mistake = (&'static str, String);

fn read_row(row: &ImportRow, known: &KnownNames) -> Result<Read, Mistake> {
    let fields = [
        ("contract", Some(&row.contract)),
        ("customer", Some(&row.customer)),
        ("plan", Some(&row.plan)),
        ("from", row.from.as_ref()),
        ("to", row.to.as_ref()),
        ("last_day", row.last_day.as_ref()),
        ("kind", row.kind.as_ref()),
        ("zone", row.zone.as_ref()),
        ("product", row.product.as_ref()),
        ("serial", row.serial.as_ref()),
        ("family", row.family.as_ref()),
        ("site", row.site.as_ref()),
        ("quantity", row.quantity.as_ref()),
    ];
    for (field, text) in fields {
        if let Some(text) = text.filter(|text| text.len() > MAX_FIELD) {
            return Err((field, format!("{} bytes, at most {MAX_FIELD}", text.len())));
        }
    }
    let contract = text("contract", &row.contract)?;
    let customer: Slug = text("customer", &row.customer)?;
    if !known.customers.contains(customer.as_str()) {
        return Err(("customer", format!("there is no customer {customer}; enter it first")));
    }
    let plan: Slug = text("plan", &row.plan)?;
    if !known.plans.contains(plan.as_str()) {
        return Err(("plan", format!("there is no plan {plan}; enter it first")));
    }
    let window = window(row)?;
    let item = match (given(row.product.as_ref()), given(row.serial.as_ref())) {
        (None, None) => None,
        (Some(product), Some(serial)) => {
            let product: ProductName = text("product", product)?;
            if !known.products.contains(product.as_str()) {
                return Err(("product", format!("there is no product {product}")));
            }
            Some((product, text("serial", serial)?))
        }
        (Some(_), None) => return Err(("serial", "is missing; a product alone covers nothing".to_owned())),
        (None, Some(_)) => {
            return Err(("product", "is missing; a serial is unique within its product only".to_owned()));
        }
    };
    let pool = pool_of(row)?;
    let zone = given(row.zone.as_ref()).map(str::to_owned);
    if window.is_none() && item.is_none() && pool.is_none() && zone.is_none() {
        return Err((
            "from",
            "the row has neither a window (from, to) nor a device (product, serial) nor a pool (family, site, quantity) nor a zone"
                .to_owned(),
        ));
    }
    Ok(Read { line: row.line, contract, customer, plan, window, item, pool, zone })
}

fn pool_of(row: &ImportRow) -> Result<Option<PoolSet>, Mistake> {
    let missing = |field: &'static str| (field, "is missing; a pool has a family, a site and a quantity".to_owned());
    let (family, site, quantity) = (given(row.family.as_ref()), given(row.site.as_ref()), given(row.quantity.as_ref()));
    if family.is_none() && site.is_none() && quantity.is_none() {
        return Ok(None);
    }
    let family: Family = text("family", family.ok_or_else(|| missing("family"))?)?;
    let site: Slug = text("site", site.ok_or_else(|| missing("site"))?)?;
    let quantity = quantity.ok_or_else(|| missing("quantity"))?;
    let quantity = quantity
        .parse()
        .ok()
        .filter(|quantity| *quantity <= MAX_PLACES)
        .ok_or_else(|| ("quantity", format!("`{quantity}`: a number up to {MAX_PLACES}")))?;
    Ok(Some(PoolSet { family, site, quantity }))
}

/// A field that says something.
fn given(field: Option<&String>) -> Option<&str> {
    field.map(|text| text.trim()).filter(|text| !text.is_empty())
}

fn text<T: std::str::FromStr<Err = TextError>>(field: &'static str, value: &str) -> Result<T, Mistake> {
    value.trim().parse().map_err(|error: TextError| (field, error.to_string()))
}

fn window(row: &ImportRow) -> Result<Option<(Time, Time, WindowKind)>, Mistake> {
    let kind = match given(row.kind.as_ref()) {
        None => WindowKind::Paid,
        Some(name) => serde_json::from_value(name.into())
            .map_err(|_| ("kind", format!("`{name}`: one of paid, warranty, trial, backdated, courtesy")))?,
    };
    let (from, to, last) = (given(row.from.as_ref()), given(row.to.as_ref()), given(row.last_day.as_ref()));
    let zone = match given(row.zone.as_ref()) {
        None => jiff::tz::TimeZone::UTC,
        Some(name) => jiff::tz::TimeZone::get(name)
            .map_err(|_| ("zone", format!("`{name}`: an IANA name, such as Europe/Amsterdam")))?,
    };
    let (from, to) = match (from, to, last) {
        (None, None, None) => return Ok(None),
        (None, ..) => return Err(("from", "is missing; a window needs its first day".to_owned())),
        (_, None, None) => return Err(("to", "is missing; give to or last_day".to_owned())),
        (_, Some(_), Some(_)) => return Err(("to", "give to or last_day, not both".to_owned())),
        (Some(from), Some(to), None) => (moment("from", from, &zone, 0)?, moment("to", to, &zone, 0)?),
        (Some(from), None, Some(last)) => (moment("from", from, &zone, 0)?, moment("last_day", last, &zone, 1)?),
    };
    if let Some(mistake) = window_mistake(from, to) {
        return Err(mistake);
    }
    Ok(Some((from, to, kind)))
}

/// A day's beginning in a zone, or a moment that names its own offset. `days` later for an inclusive end.
fn moment(field: &'static str, text: &str, zone: &jiff::tz::TimeZone, days: i64) -> Result<Time, Mistake> {
    let odd = || (field, format!("`{text}` is no day such as 2026-01-31 and no moment such as 2026-01-31T12:00:00Z"));
    if text.len() == 10 {
        let day: jiff::civil::Date = text.parse().map_err(|_| odd())?;
        let day = day.checked_add(jiff::Span::new().days(days)).map_err(|_| odd())?;
        let start = day.to_zoned(zone.clone()).map_err(|_| odd())?;
        return Ok(Time::from_ms(start.timestamp().as_millisecond()));
    }
    if days != 0 {
        return Err((field, format!("`{text}` is no day such as 2026-01-31")));
    }
    text.parse().map_err(|_| odd())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_contract_counts_its_days_in_the_zone_of_its_last_window() {
        let zoned = |zone: &str, to: &str| ImportRow { zone: some(zone), to: some(to), ..row() };
        let zone = |rows: &[ImportRow]| {
            let wanted = read(rows, &known());
            wanted.contracts.values().next().and_then(|contract| contract.zone.clone())
        };
        let (early, late) = (zoned("Asia/Tokyo", "2027-01-01"), zoned("Europe/Amsterdam", "2028-01-01"));
        assert_eq!(zone(&[late.clone(), early.clone(), row()]), some("Europe/Amsterdam"));
        assert_eq!(zone(&[row(), early, late]), some("Europe/Amsterdam"), "in any order");
        let alone =
            ImportRow { from: None, to: None, product: None, serial: None, ..zoned("Asia/Tokyo", "2027-01-01") };
        assert_eq!(zone(&[alone]), some("Asia/Tokyo"), "a row may say nothing else");
        assert_eq!(zone(&[zoned("Mars/Olympus", "2027-01-01")]), None, "a row that is refused says nothing");
    }

    fn known() -> KnownNames {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        KnownNames {
            customers: set(&["globex", "initech"]),
            plans: set(&["plus", "basic"]),
            products: set(&["acme-cam"]),
            contracts: [("OLD".to_owned(), ("globex".to_owned(), "plus".to_owned()))].into(),
        }
    }

    fn row() -> ImportRow {
        ImportRow {
            line: 2,
            contract: "C-1".to_owned(),
            customer: "globex".to_owned(),
            plan: "plus".to_owned(),
            from: Some("2026-01-01".to_owned()),
            to: Some("2027-01-01".to_owned()),
            product: Some("acme-cam".to_owned()),
            serial: Some("SN-1".to_owned()),
            ..ImportRow::default()
        }
    }

    fn error(change: impl FnOnce(&mut ImportRow)) -> (String, String) {
        let mut row = row();
        change(&mut row);
        let wanted = read(&[row], &known());
        assert!(wanted.contracts.is_empty());
        let error = wanted.errors.into_iter().next().expect("an error");
        assert_eq!(error.line, 2);
        (error.field, error.message)
    }

    #[expect(clippy::unnecessary_wraps, reason = "fields that may be absent, as they read in the table below")]
    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn a_mistake_names_its_line_field_and_rule() {
        for (found, field, rule) in [
            (error(|row| row.contract = "C 1".to_owned()), "contract", "1 to 64 of"),
            (error(|row| row.customer = "umbrella".to_owned()), "customer", "no customer umbrella"),
            (error(|row| row.plan = "gold".to_owned()), "plan", "no plan gold"),
            (error(|row| row.product = some("acme-bar")), "product", "no product acme-bar"),
            (error(|row| row.serial = some("../x")), "serial", "first and last"),
            (error(|row| row.serial = None), "serial", "covers nothing"),
            (error(|row| row.product = some(" ")), "product", "unique within its product"),
            (error(|row| row.from = some("2026-02-30")), "from", "is no day"),
            (error(|row| row.from = None), "from", "its first day"),
            (error(|row| row.to = None), "to", "to or last_day"),
            (error(|row| row.last_day = some("2026-12-31")), "to", "not both"),
            (error(|row| row.to = some("2025-12-31")), "to", "ends (2025-12-31T00:00:00Z) before it starts"),
            (error(|row| row.to = some("2126-01-01")), "to", "longer than 40 years"),
            (error(|row| (row.from, row.to) = (some("0206-01-01"), some("1981-01-01"))), "from", "before 1980-01-01"),
            (error(|row| (row.from, row.to) = (some("2126-01-01"), some("2162-01-01"))), "to", "after 2150-01-01"),
            (error(|row| row.kind = some("gift")), "kind", "one of paid"),
            (error(|row| row.zone = some("Mars/Olympus")), "zone", "IANA name"),
            (error(|row| row.serial = some(&"x".repeat(201))), "serial", "at most 200"),
            (error(|row| row.site = some("hall")), "family", "is missing"),
            (error(|row| (row.family, row.site) = (some("cameras"), some("hall"))), "quantity", "is missing"),
            (
                error(|row| (row.family, row.site, row.quantity) = (some("cameras"), some("hall"), some("-1"))),
                "quantity",
                "a number up to",
            ),
        ] {
            assert_eq!(found.0, field, "{}", found.1);
            assert!(found.1.contains(rule), "{}", found.1);
        }
    }

    #[test]
    fn days_begin_in_the_contracts_zone_and_leap_days_are_days() {
        let ask = |from: &str, last: &str, zone: &str| {
            let row = ImportRow { from: some(from), to: None, last_day: some(last), zone: some(zone), ..row() };
            let wanted = read(&[row], &known());
            assert_eq!(wanted.errors, []);
            let (from, to, _) = *wanted.contracts.values().next().unwrap().windows.first().unwrap();
            (from.to_string(), to.to_string())
        };
        let told = |from: &str, to: &str| (from.to_owned(), to.to_owned());
        assert_eq!(ask("2028-02-29", "2028-02-29", "UTC"), told("2028-02-29T00:00:00Z", "2028-03-01T00:00:00Z"));
        assert_eq!(
            ask("2026-03-29", "2026-10-24", "Europe/Amsterdam"),
            told("2026-03-28T23:00:00Z", "2026-10-24T22:00:00Z"),
            "winter and summer time"
        );
        assert_eq!(ask("2026-01-01", "2026-12-31", "Asia/Tokyo"), told("2025-12-31T15:00:00Z", "2026-12-31T15:00:00Z"));
    }

    #[test]
    fn rows_that_contradict_each_other_are_all_mistakes() {
        let other = ImportRow { line: 3, plan: "basic".to_owned(), ..row() };
        let alone = ImportRow { line: 4, contract: "C-2".to_owned(), ..row() };
        let wanted = read(&[row(), other, alone], &known());
        assert_eq!(wanted.errors.iter().map(|error| error.line).collect::<Vec<_>>(), [2, 3]);
        assert_eq!(wanted.contracts.len(), 1);
        let stolen = ImportRow { contract: "OLD".to_owned(), customer: "initech".to_owned(), ..row() };
        assert_eq!(read(&[stolen], &known()).errors[0].message, "contract OLD is of customer globex already");
    }

    fn any_row() -> impl Strategy<Value = ImportRow> {
        let pick = |options: &'static [&'static str]| prop::sample::select(options);
        let maybe =
            |options: &'static [&'static str]| prop::option::of(prop::sample::select(options).prop_map(str::to_owned));
        let dates: &[&str] =
            &["2026-01-01", "2026-06-30", "2027-01-01", "2026-02-30", "soon", "2026-03-01T00:00:00+02:00"];
        (
            (
                any::<u16>(),
                pick(&["C-1", "C-2", "OLD", "C 3"]),
                pick(&["globex", "initech", "nobody"]),
                pick(&["plus", "basic"]),
            ),
            (
                maybe(dates),
                maybe(dates),
                maybe(dates),
                maybe(&["paid", "trial", "gift"]),
                maybe(&["Europe/Amsterdam", "x"]),
            ),
            (maybe(&["acme-cam", "acme-bar"]), maybe(&["SN-1", "SN-2", "S N"]), maybe(&["1", "2", "many"])),
        )
            .prop_map(
                |((line, contract, customer, plan), (from, to, last_day, kind, zone), (product, serial, quantity))| {
                    ImportRow {
                        line: u64::from(line),
                        contract: contract.to_owned(),
                        customer: customer.to_owned(),
                        plan: plan.to_owned(),
                        from,
                        to,
                        last_day,
                        kind,
                        zone,
                        product,
                        serial,
                        family: quantity.as_ref().map(|_| "cameras".to_owned()),
                        site: quantity.as_ref().map(|_| "hall".to_owned()),
                        quantity,
                    }
                },
            )
    }

    proptest! {
        #[test]
        fn any_order_of_rows_comes_to_the_same(rows in prop::collection::vec(any_row(), 0..12), seed in any::<u64>()) {
            let mut turned = rows.clone();
            // A shuffle that the seed fixes.
            let mut state = seed;
            for at in (1..turned.len()).rev() {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                turned.swap(at, usize::try_from(state >> 33).unwrap() % (at + 1));
            }
            prop_assert_eq!(read(&rows, &known()), read(&turned, &known()));
        }

        #[test]
        fn any_texts_end_with_a_contract_or_an_error(texts in prop::collection::vec("\\PC{0,24}", 13)) {
            let row = ImportRow {
                line: 1,
                contract: texts[0].clone(),
                customer: texts[1].clone(),
                plan: texts[2].clone(),
                from: Some(texts[3].clone()),
                to: Some(texts[4].clone()),
                last_day: Some(texts[5].clone()),
                kind: Some(texts[6].clone()),
                zone: Some(texts[7].clone()),
                product: Some(texts[8].clone()),
                serial: Some(texts[9].clone()),
                family: Some(texts[10].clone()),
                site: Some(texts[11].clone()),
                quantity: Some(texts[12].clone()),
            };
            let wanted = read(&[row], &known());
            prop_assert_eq!(wanted.errors.len() + wanted.contracts.len(), 1);
        }
    }
}
