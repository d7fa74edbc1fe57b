//! Names that an audience may hold: which of them nobody has.

use sluice_catalog::id::ProductId;

use super::sql::list;
use super::{Result, Sql, Store};

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
