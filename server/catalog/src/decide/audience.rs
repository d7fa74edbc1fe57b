//! Whether an audience holds a device: the lists of its selector and its filter, and which of them does not hold.

use std::fmt::Write as _;

use super::{DeviceView, ProductView};
use crate::cover::Standing;
use crate::rollout::filter::{Field, Node};
use crate::rollout::{Filter, Selector};
use crate::{TextSet, Time};

/// Whether the audience holds the device.
pub fn audience_has(selector: &Selector, device: &DeviceView, product: &ProductView, now: Time) -> bool {
    lists_have(selector, device)
        && selector.filter.as_ref().is_none_or(|filter| Ask::now(device, product, now).filter(filter) == Some(true))
}

/// Whether the lists of an audience hold the device.
pub(super) fn lists_have(selector: &Selector, device: &DeviceView) -> bool {
    missing_list(selector, device).is_none()
}

/// Whether the audience holds the device now or held it before its update: what an update changes (the version, and that it was heard
/// of) decides nothing. Whoever left an audience by succeeding must still be led back.
pub(super) fn may_have_had(selector: &Selector, device: &DeviceView, product: &ProductView) -> bool {
    let ask = Ask { device, product, now: None };
    lists_have(selector, device) && selector.filter.as_ref().is_none_or(|filter| ask.filter(filter) != Some(false))
}

/// The first list that does not hold the device: its name and its texts.
fn missing_list<'a>(selector: &'a Selector, device: &DeviceView) -> Option<(&'static str, &'a TextSet)> {
    let d = &device.device;
    // Most audiences are lists of nothing: what has no list is asked nothing.
    let lacks = |set: &TextSet, text: Option<&str>| !set.is_empty() && !text.is_some_and(|text| set.contains(text));
    if lacks(&selector.serials, Some(d.serial.as_str())) {
        Some(("serial", &selector.serials))
    } else if lacks(&selector.customers, device.customer.as_ref().map(AsRef::as_ref)) {
        Some(("customer", &selector.customers))
    } else if lacks(&selector.sites, d.site.as_ref().map(AsRef::as_ref)) {
        Some(("site", &selector.sites))
    } else if lacks(&selector.hw_ids, Some(d.hw_id.as_str())) {
        Some(("hardware", &selector.hw_ids))
    } else if !selector.tags.is_empty() && !selector.tags.iter().any(|tag| d.tags.contains(tag)) {
        Some(("tag", &selector.tags))
    } else {
        None
    }
}

/// What the audience asks for that the device has not, and what it has instead; nothing when it holds the device.
pub(super) fn misses(
    selector: &Selector,
    device: &DeviceView,
    product: &ProductView,
    now: Time,
) -> Option<(String, String)> {
    /// Texts of a list that are told.
    const TOLD: usize = 5;
    let ask = Ask::now(device, product, now);
    if let Some((name, set)) = missing_list(selector, device) {
        let mut asks = format!("{name} in ({}", set.iter().take(TOLD).collect::<Vec<_>>().join(", "));
        if set.0.len() > TOLD {
            let _ = write!(asks, " and {} more", set.0.len() - TOLD);
        }
        let field = match name {
            "customer" => Some(Field::Customer),
            "site" => Some(Field::Site),
            "hardware" => Some(Field::Hardware),
            "tag" => Some(Field::Tag),
            _ => None,
        };
        let has = field.map_or_else(|| device.device.serial.to_string(), |field| ask.told(field));
        return Some((asks + ")", has));
    }
    let filter = selector.filter.as_ref()?;
    let term = ask.failing(filter.node())?;
    let inner = match term {
        Node::Not(inner) => inner.as_ref(),
        other => other,
    };
    let has = match inner {
        Node::Is(field, _) => ask.told(*field),
        Node::Runs(_) | Node::Version(..) => ask.told_version(),
        Node::LastSeen(..) => device.last_seen.map_or_else(|| "never".to_owned(), |at| at.min(now).to_string()),
        Node::All(_) | Node::Any(_) | Node::Not(_) => String::new(),
    };
    Some((term.to_string(), has))
}

/// The moments at which a term about last contact comes to hold, or ceases to.
pub(super) fn ages(selector: &Selector, device: &DeviceView) -> Vec<Time> {
    let (Some(filter), Some(seen)) = (&selector.filter, device.last_seen) else { return Vec::new() };
    let terms = filter.terms().into_iter();
    terms
        .filter_map(|term| match term {
            // Of `<=` and `>` a moment later.
            Node::LastSeen(_, period) => Some([seen.plus(*period), seen.plus(*period).plus_ms(1)]),
            _ => None,
        })
        .flatten()
        .collect()
}

/// A question about one device.
struct Ask<'a> {
    device: &'a DeviceView,
    product: &'a ProductView,
    /// The moment; none when what an update changes is not known, because it was before.
    now: Option<Time>,
}

impl<'a> Ask<'a> {
    const fn now(device: &'a DeviceView, product: &'a ProductView, now: Time) -> Self {
        Self { device, product, now: Some(now) }
    }

    /// Whether the filter holds; nothing when it cannot be known.
    fn filter(&self, filter: &Filter) -> Option<bool> {
        self.node(filter.node())
    }

    /// Yes, no, or unknown, by the rules of Kleene: what is unknown decides only where nothing else does.
    fn node(&self, node: &Node) -> Option<bool> {
        match node {
            Node::All(parts) => self.join(parts, false),
            Node::Any(parts) => self.join(parts, true),
            Node::Not(part) => self.node(part).map(|holds| !holds),
            Node::Is(field, names) => self.now.map_or_else(
                || (*field != Field::Plan).then(|| self.is(*field, names, Time::EPOCH)),
                |now| Some(self.is(*field, names, now)),
            ),
            Node::Runs(versions) => self.now.map(|_| self.runs(versions)),
            Node::Version(compare, version) => self.now.map(|_| {
                let asked = self.product.release_of_version(version).map(|release| release.release.order);
                asked.zip(self.order()).is_some_and(|(asked, runs)| compare.holds(&runs, &asked))
            }),
            Node::LastSeen(compare, period) => self.now.map(|now| {
                let age = self.device.last_seen.map_or(i64::MAX, |seen| (now.as_ms() - seen.as_ms()).max(0));
                compare.holds(&age, &period.as_ms())
            }),
        }
    }

    /// The first part that answers so decides.
    fn join(&self, parts: &[Node], decides: bool) -> Option<bool> {
        let mut unknown = false;
        for part in parts {
            match self.node(part) {
                Some(holds) if holds == decides => return Some(decides),
                Some(_) => {}
                None => unknown = true,
            }
        }
        (!unknown).then_some(!decides)
    }

    fn is(&self, field: Field, names: &[String], now: Time) -> bool {
        let among = |text: &str| names.iter().any(|name| name == text);
        let d = &self.device.device;
        match field {
            Field::Product => among(self.product.product.name.as_str()),
            Field::Hardware => among(d.hw_id.as_str()),
            Field::Customer => self.device.customer.as_ref().is_some_and(|customer| among(customer.as_str())),
            Field::Site => d.site.as_ref().is_some_and(|site| among(site.as_str())),
            Field::Tag => names.iter().any(|name| d.tags.contains(name)),
            Field::Plan => self
                .device
                .covers
                .iter()
                .any(|cover| among(cover.plan.as_str()) && cover.standing_at(now, now) != Standing::Outside),
        }
    }

    fn runs(&self, versions: &[crate::text::Version]) -> bool {
        let Some(runs) = self.order() else { return false };
        versions.iter().any(|version| {
            self.product.release_of_version(version).is_some_and(|release| release.release.order == runs)
        })
    }

    /// The order of what it runs: of several images that of the oldest. None when nothing that it runs is a release.
    fn order(&self) -> Option<i64> {
        let orders = self.device.installed.iter().map(|one| self.device.running_order(self.product, &one.component));
        orders.filter(|order| *order > 0).min()
    }

    /// The narrowest part that makes the filter not hold.
    fn failing<'n>(&self, node: &'n Node) -> Option<&'n Node> {
        if self.node(node) != Some(false) {
            return None;
        }
        match node {
            Node::All(parts) => parts.iter().find_map(|part| self.failing(part)),
            _ => Some(node),
        }
    }

    /// What the device has in a field, in words.
    fn told(&self, field: Field) -> String {
        let d = &self.device.device;
        let none = || "none".to_owned();
        match field {
            Field::Product => self.product.product.name.to_string(),
            Field::Hardware => d.hw_id.to_string(),
            Field::Customer => self.device.customer.as_ref().map_or_else(none, ToString::to_string),
            Field::Site => d.site.as_ref().map_or_else(none, ToString::to_string),
            Field::Tag if d.tags.is_empty() => none(),
            Field::Tag => d.tags.iter().collect::<Vec<_>>().join(", "),
            Field::Plan => {
                let standing = |cover: &&crate::cover::Cover| {
                    self.now.is_some_and(|now| cover.standing_at(now, now) != Standing::Outside)
                };
                let plans: Vec<&str> =
                    self.device.covers.iter().filter(standing).map(|cover| cover.plan.as_str()).collect();
                if plans.is_empty() { none() } else { plans.join(", ") }
            }
        }
    }

    fn told_version(&self) -> String {
        let oldest = self
            .order()
            .and_then(|order| self.product.releases().iter().find(|release| release.release.order == order));
        oldest.map_or_else(|| "none that is a release".to_owned(), |release| release.release.version.to_string())
    }
}

/// The version that a device runs, as filters compare it: the oldest release of all its images. None when nothing that it runs is one.
pub fn runs<'a>(device: &DeviceView, product: &'a ProductView) -> Option<&'a crate::text::Version> {
    let order = Ask { device, product, now: None }.order()?;
    product.releases().iter().find(|release| release.release.order == order).map(|release| &release.release.version)
}
