//! Audiences in the database: a condition that chooses devices for one, and names in it that nobody has.

use sea_query::Value;
use sluice_catalog::Time;
use sluice_catalog::decide::ProductView;
use sluice_catalog::id::ProductId;
use sluice_catalog::rollout::Selector;
use sluice_catalog::rollout::filter::{Compare, Field, Node};
use sluice_catalog::text::Version;
use sluice_catalog::time::DAY_MS;

use super::sql::list;
use super::{Bind, Result, Sql, Store};

/// The order of what a device runs, as filters compare it: of each image that of the newest release that has it, else that of the version
/// that it claims; of several images the least.
const ORDER: &str = "(SELECT MIN(COALESCE(
    (SELECT MAX(r.ord) FROM artifact a JOIN release r ON r.id = a.release_id
     WHERE a.sha256 = i.sha256 AND a.component = i.component AND r.product_id = d.product_id),
    (SELECT r.ord FROM release r WHERE r.product_id = d.product_id AND r.version = i.version)))
    FROM installed i WHERE i.device_id = d.id)";

/// A value of a condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Param {
    Text(String),
    Number(i64),
}

impl Bind for Param {
    fn bind(self) -> Value {
        match self {
            Self::Text(text) => text.bind(),
            Self::Number(number) => number.bind(),
        }
    }

    fn null() -> Value {
        String::null()
    }
}

/// A condition on a device `d` with its customer `c`: false of those that an audience surely does not hold. Plans and times of last contact
/// are left open, as contracts and polls decide them, unless it is about controls.
pub(super) struct Condition {
    /// What follows `AND`.
    pub text: String,
    /// Its values, in the order of their places.
    pub values: Vec<Param>,
    next: usize,
    /// The moment at which controls are looked at; what is left open is answered as it was of the treated.
    controls_at: Option<Time>,
}

impl Condition {
    /// With places from `first` on.
    pub fn new(selector: &Selector, product: &ProductView, first: usize) -> Self {
        Self::written(selector, product, first, None)
    }

    /// Of devices that are to tell what would have become of the treated: the same plans, and the terms about the last contact as they
    /// were answered for the treated, that is at a poll. By the present moment they would choose silent devices out of those that
    /// are to tell how many fall silent.
    pub fn of_controls(selector: &Selector, product: &ProductView, first: usize, now: Time) -> Self {
        Self::written(selector, product, first, Some(now))
    }

    fn written(selector: &Selector, product: &ProductView, first: usize, controls_at: Option<Time>) -> Self {
        let mut condition = Self { text: String::new(), values: Vec::new(), next: first, controls_at };
        let mut parts = Vec::new();
        let lists = [
            ("d.serial", &selector.serials),
            ("c.name", &selector.customers),
            ("d.site", &selector.sites),
            ("d.hw_id", &selector.hw_ids),
        ];
        for (column, set) in lists.into_iter().filter(|(_, set)| !set.is_empty()) {
            parts.push(condition.among(column, set.iter().map(str::to_owned)));
        }
        if !selector.tags.is_empty() {
            parts.push(condition.tags(selector.tags.iter()));
        }
        if let Some(filter) = &selector.filter {
            parts.push(format!("COALESCE({}, TRUE)", condition.node(filter.node(), product)));
        }
        condition.text = if parts.is_empty() { "TRUE".to_owned() } else { parts.join(" AND ") };
        condition
    }

    fn place(&mut self, value: Param) -> String {
        self.values.push(value);
        self.next += 1;
        format!("${}", self.next - 1)
    }

    fn among(&mut self, column: &str, texts: impl Iterator<Item = String>) -> String {
        let places: Vec<String> = texts.map(|text| self.place(Param::Text(text))).collect();
        format!("COALESCE({column} IN ({}), FALSE)", places.join(", "))
    }

    fn tags<'a>(&mut self, tags: impl IntoIterator<Item = &'a str>) -> String {
        // The set is a JSON array; no name holds a quotation mark, so a quoted one is found whole or not at all.
        let tagged = |tag: &str| format!("\"{tag}\"");
        let any: Vec<String> = tags
            .into_iter()
            .map(|tag| format!("REPLACE(d.tags, {}, '') <> d.tags", self.place(Param::Text(tagged(tag)))))
            .collect();
        // A thousand of them in one chain are deeper than SQLite takes an expression to be (1000).
        let groups: Vec<String> = any.chunks(TAGS_IN_GROUP).map(|group| format!("({})", group.join(" OR "))).collect();
        format!("({})", groups.join(" OR "))
    }

    /// True, false or, where it is open, NULL: three-valued as the database is.
    fn node(&mut self, node: &Node, product: &ProductView) -> String {
        let order_of = |version: &Version| product.release_of_version(version).map(|release| release.release.order);
        match node {
            Node::All(parts) | Node::Any(parts) => {
                let word = if matches!(node, Node::All(_)) { " AND " } else { " OR " };
                let parts: Vec<String> = parts.iter().map(|part| self.node(part, product)).collect();
                format!("({})", parts.join(word))
            }
            Node::Not(part) => format!("(NOT {})", self.node(part, product)),
            Node::Is(Field::Plan, names) => match self.controls_at {
                Some(now) => self.planned(names, product, now),
                None => "CAST(NULL AS BOOLEAN)".to_owned(),
            },
            Node::LastSeen(compare, period) => match self.controls_at {
                // Who polls was heard of at that moment.
                Some(_) if compare.holds(&0, &period.as_ms()) => "TRUE".to_owned(),
                Some(_) => "FALSE".to_owned(),
                None => "CAST(NULL AS BOOLEAN)".to_owned(),
            },
            Node::Is(Field::Product, names) => {
                let holds = names.iter().any(|name| name == product.product.name.as_str());
                if holds { "TRUE" } else { "FALSE" }.to_owned()
            }
            Node::Is(Field::Hardware, names) => self.among("d.hw_id", names.iter().cloned()),
            Node::Is(Field::Customer, names) => self.among("c.name", names.iter().cloned()),
            Node::Is(Field::Site, names) => self.among("d.site", names.iter().cloned()),
            Node::Is(Field::Tag, names) => self.tags(names.iter().map(String::as_str)),
            Node::Runs(versions) => {
                let orders: Vec<i64> = versions.iter().filter_map(order_of).collect();
                if orders.is_empty() {
                    return "FALSE".to_owned();
                }
                let places: Vec<String> = orders.into_iter().map(|order| self.place(Param::Number(order))).collect();
                format!("COALESCE({ORDER} IN ({}), FALSE)", places.join(", "))
            }
            Node::Version(compare, version) => {
                let Some(order) = order_of(version) else { return "FALSE".to_owned() };
                let sign = match compare {
                    Compare::Less => "<",
                    Compare::AtMost => "<=",
                    Compare::More => ">",
                    Compare::AtLeast => ">=",
                };
                let place = self.place(Param::Number(order));
                format!("COALESCE({ORDER} {sign} {place}, FALSE)")
            }
        }
    }

    /// Whether a contract under one of the plans covers the device, days of grace included: `Cover::standing_at`, but for contracts of a
    /// source that has fallen silent, which count on.
    fn planned(&mut self, names: &[String], product: &ProductView, now: Time) -> String {
        let covered = self.place(Param::Text(product.product.name.to_string()));
        let now = self.place(Param::Number(now.as_ms()));
        let plans = self.among("p.name", names.iter().cloned());
        // As far as the item's own dates go, and its end has the grace, too.
        format!(
            "EXISTS (SELECT 1 FROM covered_item i JOIN contract k ON k.id = i.contract_id JOIN plan p ON p.id = k.plan_id
                     WHERE i.product = {covered} AND i.serial = d.serial AND i.superseded_at IS NULL AND k.state = 'active' AND {plans}
                       AND (p.rule = 'open' OR (
                         i.from_at <= {now} AND i.to_at > {now} - CAST(p.grace_days AS BIGINT) * {DAY_MS}
                         AND EXISTS (SELECT 1 FROM coverage_window w
                                     WHERE w.contract_id = k.id AND w.superseded_at IS NULL AND w.from_at <= {now}
                                       AND w.to_at > {now} - CAST(p.grace_days AS BIGINT) * {DAY_MS}
                                       AND w.from_at < i.to_at AND i.from_at < w.to_at))))"
        )
    }
}

/// Conditions that stand in one bracket.
const TAGS_IN_GROUP: usize = 50;

/// Tags of one audience that are looked for: each that no device has costs a look at all of them.
const MAX_TAGS_ASKED: usize = 20;

/// Names by what they name.
#[derive(Clone, Debug, Default)]
pub struct Named {
    /// Customers.
    pub customers: Vec<String>,
    /// Sites.
    pub sites: Vec<String>,
    /// Tags.
    pub tags: Vec<String>,
    /// Plans.
    pub plans: Vec<String>,
}

impl Store {
    /// Those of the names that are of nothing: no such customer or plan, no site or device of the product with it.
    pub async fn unnamed(&self, product: ProductId, asked: Named) -> Result<Named> {
        let Named { customers, sites, tags, plans } = asked;
        let mut unknown = Named {
            customers: self.without("SELECT name FROM customer WHERE name IN", customers).await?,
            plans: self.without("SELECT name FROM plan WHERE name IN", plans).await?,
            ..Named::default()
        };
        let left = self.without("SELECT name FROM site WHERE superseded_at IS NULL AND name IN", sites).await?;
        unknown.sites = self.without("SELECT DISTINCT site FROM device WHERE site IN", left).await?;
        for tag in tags.into_iter().take(MAX_TAGS_ASKED) {
            // The set is a JSON array; no name holds a quotation mark, so a quoted one is found whole or not at all.
            let found: Option<(i64,)> = Sql::new(
                "SELECT CAST(1 AS BIGINT) FROM device WHERE product_id = $1 AND REPLACE(tags, $2, '') <> tags LIMIT 1",
            )
            .bind(product)
            .bind(format!("\"{tag}\""))
            .optional(self)
            .await?;
            if found.is_none() {
                unknown.tags.push(tag);
            }
        }
        Ok(unknown)
    }

    async fn without(&self, found_by: &'static str, mut names: Vec<String>) -> Result<Vec<String>> {
        if names.is_empty() {
            return Ok(names);
        }
        let sql = Sql::built(format!("{found_by} ({})", list(1, names.len())));
        let found: Vec<(String,)> = sql.bind_all(names.iter()).all(self).await?;
        names.retain(|name| !found.iter().any(|(found,)| found == name));
        Ok(names)
    }
}
