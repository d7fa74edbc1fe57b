//! Customers.

use sluice_catalog::Time;
use sluice_catalog::customer::Customer;
use sluice_catalog::id::{CustomerId, ProductId};
use sluice_catalog::text::Slug;

use super::{On, Result, Sql, Store, Tx};

/// A customer by name.
pub(super) const COLUMNS: &str = "id, name, title, created_at";

/// Whom the people of customer `$1` may read of at `$2`: it and those that it acts for, and all beneath them. The depth is bounded
/// although the tree is, so that no row written by hand makes a query that never ends.
const REACHED: &str = "WITH RECURSIVE root (id) AS (
         SELECT id FROM customer WHERE id = $1
         UNION SELECT customer_id FROM customer_partner WHERE partner_id = $1 AND from_at <= $2 AND to_at > $2
     ), reached (id, depth) AS (
         SELECT id, 0 FROM root
         UNION ALL SELECT c.id, r.depth + 1 FROM customer c JOIN reached r ON c.parent_id = r.id WHERE r.depth < 16
     )";

impl Store {
    /// Customers after a name, in the order of names.
    pub async fn customer_list(&self, after: &str, limit: u32) -> Result<Vec<Customer>> {
        Sql::built(format!("SELECT {COLUMNS} FROM customer WHERE name > $1 ORDER BY name LIMIT $2"))
            .bind(after)
            .bind(i64::from(limit))
            .all(self)
            .await
    }

    /// A customer's name.
    pub async fn customer_name(&self, id: CustomerId) -> Result<Option<Slug>> {
        let row: Option<(Slug,)> = Sql::new("SELECT name FROM customer WHERE id = $1").bind(id).optional(self).await?;
        Ok(row.map(|(name,)| name))
    }

    /// Whether a customer's people may read another's things at a moment: it stands beneath them, or beneath one that they act for.
    pub async fn customer_reaches(&self, own: CustomerId, asked: CustomerId, now: Time) -> Result<bool> {
        let row: Option<(CustomerId,)> = Sql::built(format!("{REACHED} SELECT id FROM reached WHERE id = $3 LIMIT 1"))
            .bind(own)
            .bind(now)
            .bind(asked)
            .optional(self)
            .await?;
        Ok(row.is_some())
    }

    /// Whether a customer acts for another at a moment.
    pub async fn customer_acts_for(&self, partner: CustomerId, customer: CustomerId, now: Time) -> Result<bool> {
        let row: Option<(CustomerId,)> = Sql::new(
            "SELECT customer_id FROM customer_partner
             WHERE partner_id = $1 AND customer_id = $2 AND from_at <= $3 AND to_at > $3",
        )
        .bind(partner)
        .bind(customer)
        .bind(now)
        .optional(self)
        .await?;
        Ok(row.is_some())
    }

    /// The customers that a customer's people may read of at a moment, after a name, in the order of names.
    pub async fn customer_list_reached(
        &self,
        own: CustomerId,
        now: Time,
        after: &str,
        limit: u32,
    ) -> Result<Vec<Customer>> {
        Sql::built(format!(
            "{REACHED} SELECT {COLUMNS} FROM customer WHERE id IN (SELECT id FROM reached) AND name > $3 ORDER BY name LIMIT $4"
        ))
        .bind(own)
        .bind(now)
        .bind(after)
        .bind(i64::from(limit))
        .all(self)
        .await
    }

    /// Whether a device of a product that is in service is a customer's, or one's of whom its people may read.
    pub async fn customer_has_product(&self, own: CustomerId, product: ProductId, now: Time) -> Result<bool> {
        let row: Option<(CustomerId,)> = Sql::built(format!(
            "{REACHED} SELECT customer_id FROM device WHERE product_id = $3 AND state IN ('active', 'rma_pending', 'replaced')
                 AND customer_id IN (SELECT id FROM reached) LIMIT 1"
        ))
        .bind(own)
        .bind(now)
        .bind(product)
        .optional(self)
        .await?;
        Ok(row.is_some())
    }

    /// A customer by name.
    pub async fn customer_by_name(&self, name: &Slug) -> Result<Option<Customer>> {
        by_name(self, name).await
    }
}

impl Tx {
    /// A customer by name.
    pub async fn customer_by_name(&mut self, name: &Slug) -> Result<Option<Customer>> {
        by_name(self, name).await
    }

    /// Enters a customer.
    pub async fn customer_add(&mut self, customer: &Customer) -> Result<()> {
        Sql::new("INSERT INTO customer (id, name, title, created_at) VALUES ($1, $2, $3, $4)")
            .bind(customer.id)
            .bind(&customer.name)
            .bind(&customer.title)
            .bind(customer.created_at)
            .execute(self)
            .await
            .map(|_| ())
    }
}

async fn by_name<'a>(on: impl Into<On<'a>>, name: &Slug) -> Result<Option<Customer>> {
    Sql::built(format!("SELECT {COLUMNS} FROM customer WHERE name = $1")).bind(name).optional(on).await
}
