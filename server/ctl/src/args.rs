//! Values as people type them, parsed once into the catalog's types.

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use serde::de::DeserializeOwned;
use sluice_catalog::Time;
use sluice_catalog::contract::WindowKind;
use sluice_catalog::pool::{MAX_PLACES, PoolSet};
use sluice_catalog::product::Channel;
use sluice_catalog::rollout::{Stage, Stages};
use sluice_catalog::text::{ProductName, Serial};
use sluice_catalog::wire::admin::{GrantCreate, ItemCreate, WindowCreate};

/// Most items a list command fetches.
pub const LIST_MAX: u32 = 1_000_000;

/// How much of a list to fetch. Pages are followed until the limit.
#[derive(Args, Clone, Debug)]
pub struct Paging {
    /// Fetch at most this many.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=i64::from(LIST_MAX)))]
    pub limit: u32,
    /// Go on after this cursor: `next` of an earlier `--json` answer.
    #[arg(long, value_name = "CURSOR")]
    pub after: Option<String>,
}

/// One of the names that an enum of the catalog has on the wire.
pub fn one_of<T>(names: &'static [&'static str]) -> impl TypedValueParser<Value = T>
where
    T: DeserializeOwned + Clone + Send + Sync + 'static,
{
    PossibleValuesParser::new(names).try_map(|name| serde_json::from_value::<T>(serde_json::Value::String(name)))
}

/// `CODE[@FAMILY][:CEILING]`. A code may itself hold colons: only a channel's name after the last one is a ceiling.
pub fn grant(text: &str) -> Result<GrantCreate, String> {
    let (rest, ceiling) = match text.rsplit_once(':').map(|(rest, last)| (rest, last.parse::<Channel>())) {
        Some((rest, Ok(ceiling))) => (rest, ceiling),
        _ => (text, Channel::Stable),
    };
    let (code, family) = match rest.split_once('@') {
        Some((code, family)) => (code, Some(family.parse().map_err(shown)?)),
        None => (rest, None),
    };
    Ok(GrantCreate { code: code.parse().map_err(shown)?, family, channel_ceiling: ceiling })
}

/// `FROM..TO[:KIND]`, where the moments are dates or RFC 3339.
pub fn window(text: &str) -> Result<WindowCreate, String> {
    // The colons of a time of day are followed by digits, a kind begins with a letter.
    let (span, kind) = match text.rsplit_once(':') {
        Some((span, kind)) if kind.starts_with(|c: char| c.is_ascii_lowercase()) => {
            let kind: WindowKind = serde_json::from_value(kind.into())
                .map_err(|_| format!("`{kind}`: one of paid, warranty, trial, backdated, courtesy"))?;
            (span, kind)
        }
        _ => (text, WindowKind::Paid),
    };
    let (from, to) = self::span(span)?;
    Ok(WindowCreate { from, to, kind })
}

fn span(text: &str) -> Result<(Time, Time), String> {
    let (from, to) = text.split_once("..").ok_or("write FROM..TO, such as 2026-01-01..2027-01-01")?;
    let (from, to): (Time, Time) = (from.parse().map_err(shown)?, to.parse().map_err(shown)?);
    if from >= to {
        return Err(format!("{from} is not before {to}"));
    }
    Ok((from, to))
}

/// `PRODUCT/SERIAL[@FROM..TO]`.
pub fn item(text: &str) -> Result<ItemCreate, String> {
    let (device, dates) = match text.split_once('@') {
        Some((device, dates)) => (device, Some(span(dates)?)),
        None => (text, None),
    };
    let (product, serial) = device.split_once('/').ok_or("write PRODUCT/SERIAL")?;
    Ok(ItemCreate {
        product: product.parse::<ProductName>().map_err(shown)?,
        serial: serial.parse::<Serial>().map_err(shown)?,
        from: dates.map(|(from, _)| from),
        to: dates.map(|(_, to)| to),
    })
}

/// `FAMILY@SITE:QUANTITY`. A site may hold colons: the quantity stands behind the last one.
pub fn pool(text: &str) -> Result<PoolSet, String> {
    let rule = "write FAMILY@SITE:QUANTITY, such as cameras@hall:5";
    let (place, quantity) = text.rsplit_once(':').ok_or(rule)?;
    let (family, site) = place.split_once('@').ok_or(rule)?;
    let quantity = quantity.parse().ok().filter(|quantity| *quantity <= MAX_PLACES);
    Ok(PoolSet {
        family: family.parse().map_err(shown)?,
        site: site.parse().map_err(shown)?,
        quantity: quantity.ok_or_else(|| format!("{rule}; at most {MAX_PLACES} places"))?,
    })
}

/// `10,50,100`: percentages that never shrink.
pub fn stages(text: &str) -> Result<Stages, String> {
    let stage =
        |percent: &str| percent.trim().parse().map(Stage::of).map_err(|_| format!("`{percent}` is no percentage"));
    let stages = Stages(text.split(',').map(stage).collect::<Result<_, _>>()?);
    stages.check().map_err(shown)?;
    Ok(stages)
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that `map_err` wants")]
fn shown(error: impl ToString) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_names_a_code_and_perhaps_a_family_and_a_ceiling() {
        let read =
            |text: &str| grant(text).map(|g| (g.code.to_string(), g.family.map(|f| f.to_string()), g.channel_ceiling));
        assert_eq!(read("FW.CAM"), Ok(("FW.CAM".into(), None, Channel::Stable)));
        assert_eq!(read("FW.CAM@cam:beta"), Ok(("FW.CAM".into(), Some("cam".into()), Channel::Beta)));
        assert_eq!(read("FW:CAM"), Ok(("FW:CAM".into(), None, Channel::Stable)), "a code may hold a colon");
        assert_eq!(read("FW:CAM:preview"), Ok(("FW:CAM".into(), None, Channel::Preview)));
        assert!(read("").is_err());
        assert!(read("FW@Not A Family").is_err());
    }

    #[test]
    fn a_window_is_a_span_and_perhaps_a_kind() {
        let plain = window("2026-01-01..2027-01-01").unwrap();
        assert_eq!((plain.from.date().as_str(), plain.kind), ("2026-01-01", WindowKind::Paid));
        assert_eq!(window("2026-01-01..2027-01-01:trial").unwrap().kind, WindowKind::Trial);
        let timed = window("2026-01-01T10:00:00+01:00..2026-01-02T10:00:00+01:00").unwrap();
        assert_eq!((timed.from.to_string().as_str(), timed.kind), ("2026-01-01T09:00:00Z", WindowKind::Paid));
        assert!(window("2026-01-01").is_err());
        assert!(window("2027-01-01..2026-01-01").unwrap_err().contains("not before"));
        assert!(window("2026-01-01..2027-01-01:gift").unwrap_err().contains("courtesy"));
    }

    #[test]
    fn an_item_is_a_device_and_perhaps_a_span() {
        let plain = item("acme-cam/C:1+2").unwrap();
        assert_eq!((plain.product.as_str(), plain.serial.as_str(), plain.from), ("acme-cam", "C:1+2", None));
        assert_eq!(item("acme-cam/C1@2026-01-01..2026-02-01").unwrap().to.unwrap().date(), "2026-02-01");
        assert!(item("C1").is_err());
        assert!(item("acme-cam/").is_err());
    }

    #[test]
    fn a_pool_is_a_family_at_a_site_and_a_number() {
        let read = pool("cameras@hall:5").unwrap();
        assert_eq!((read.family.as_str(), read.site.as_str(), read.quantity), ("cameras", "hall", 5));
        assert_eq!(pool("cameras@hall:2:0").unwrap().site.as_str(), "hall:2");
        for wrong in
            ["cameras", "cameras@hall", "cameras:5", "cameras@hall:many", "cameras@hall:-1", "cameras@hall:100001"]
        {
            assert!(pool(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn stages_never_shrink() {
        assert_eq!(stages("10, 50,100").unwrap().percent(1), 50);
        assert!(stages("50,10").unwrap_err().contains("never shrinks"));
        assert!(stages("").is_err());
        assert!(stages("0").is_err());
        assert!(stages("101").is_err());
    }
}
