//! Customers.

use sluice_catalog::Time;
use sluice_catalog::customer::{Customer, Partner};
use sluice_catalog::id::{CustomerId, ProductId};
use sluice_catalog::text::Slug;

use super::{On, Result, Sql, Store, Tx};

/// What is read of a customer.
pub(super) const COLUMNS: &str = "id, name, title, created_at, \
                                  (SELECT p.name FROM customer p WHERE p.id = customer.parent_id) AS parent";
/// The same, with the parent only where its things may be read, too.
const COLUMNS_REACHED: &str = "id, name, title, created_at, (SELECT p.name FROM customer p \
                               WHERE p.id = customer.parent_id AND p.id IN (SELECT id FROM reached)) AS parent";
const PARTNERS: &str = "SELECT c.name AS customer, p.name AS partner, r.from_at, r.to_at FROM customer_partner r \
                        JOIN customer c ON c.id = r.customer_id JOIN customer p ON p.id = r.partner_id";

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
            "{REACHED} SELECT {COLUMNS_REACHED} FROM customer WHERE id IN (SELECT id FROM reached) AND name > $3 ORDER BY name LIMIT $4"
        ))
        .bind(own)
        .bind(now)
        .bind(after)
        .bind(i64::from(limit))
        .all(self)
        .await
    }

    /// A customer by name, if a customer's people may read of it at a moment.
    pub async fn customer_reached(&self, own: CustomerId, now: Time, name: &Slug) -> Result<Option<Customer>> {
        Sql::built(format!(
            "{REACHED} SELECT {COLUMNS_REACHED} FROM customer WHERE id IN (SELECT id FROM reached) AND name = $3"
        ))
        .bind(own)
        .bind(now)
        .bind(name)
        .optional(self)
        .await
    }

    /// Who acts for a customer, in the order of names.
    pub async fn partners_of(&self, customer: CustomerId) -> Result<Vec<Partner>> {
        partners_of(self, customer).await
    }

    /// For whom a customer acts, in the order of names, at most `limit`.
    pub async fn partner_for(&self, partner: CustomerId, limit: u32) -> Result<Vec<Partner>> {
        Sql::built(format!("{PARTNERS} WHERE r.partner_id = $1 ORDER BY c.name LIMIT $2"))
            .bind(partner)
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

    /// The customers above one, itself first, nearest next; at most `limit`.
    pub async fn customer_line(&mut self, id: CustomerId, limit: usize) -> Result<Vec<CustomerId>> {
        let mut line = vec![id];
        while let Some(last) = line.last().filter(|_| line.len() < limit) {
            let above: Option<(Option<CustomerId>,)> =
                Sql::new("SELECT parent_id FROM customer WHERE id = $1").bind(*last).optional(&mut *self).await?;
            match above {
                Some((Some(parent),)) => line.push(parent),
                _ => break,
            }
        }
        Ok(line)
    }

    /// How many levels a customer and those beneath it are, counted up to `limit`.
    pub async fn customer_height(&mut self, id: CustomerId, limit: i64) -> Result<i64> {
        let (height,): (i64,) = Sql::new(
            "WITH RECURSIVE beneath (id, depth) AS (
                 SELECT id, CAST(1 AS BIGINT) FROM customer WHERE id = $1
                 UNION ALL SELECT c.id, b.depth + 1 FROM customer c JOIN beneath b ON c.parent_id = b.id WHERE b.depth < $2
             ) SELECT CAST(MAX(depth) AS BIGINT) FROM beneath",
        )
        .bind(id)
        .bind(limit)
        .one(self)
        .await?;
        Ok(height)
    }

    /// Puts a customer beneath another, or on its own.
    pub async fn customer_parent_set(&mut self, id: CustomerId, parent: Option<CustomerId>) -> Result<()> {
        Sql::new("UPDATE customer SET parent_id = $1 WHERE id = $2").bind(parent).bind(id).execute(self).await.map(drop)
    }

    /// Who acts for a customer, in the order of names.
    pub async fn partners_of(&mut self, customer: CustomerId) -> Result<Vec<Partner>> {
        partners_of(self, customer).await
    }

    /// Lets a customer act for another in an interval, in place of what was said before.
    pub async fn partner_set(
        &mut self,
        (customer, partner): (CustomerId, CustomerId),
        (from, until): (Time, Time),
        now: Time,
    ) -> Result<()> {
        Sql::new(
            "INSERT INTO customer_partner (customer_id, partner_id, from_at, to_at, recorded_at) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (customer_id, partner_id) DO UPDATE
             SET from_at = excluded.from_at, to_at = excluded.to_at, recorded_at = excluded.recorded_at",
        )
        .bind(customer)
        .bind(partner)
        .bind(from)
        .bind(until)
        .bind(now)
        .execute(self)
        .await
        .map(drop)
    }

    /// Ends that a customer acts for another; false when it does not.
    pub async fn partner_remove(&mut self, customer: CustomerId, partner: CustomerId) -> Result<bool> {
        let rows = Sql::new("DELETE FROM customer_partner WHERE customer_id = $1 AND partner_id = $2")
            .bind(customer)
            .bind(partner)
            .execute(self)
            .await?;
        Ok(rows > 0)
    }

    /// Enters a customer.
    pub async fn customer_add(&mut self, customer: &Customer) -> Result<()> {
        Sql::new(
            "INSERT INTO customer (id, name, title, created_at, parent_id)
             VALUES ($1, $2, $3, $4, (SELECT p.id FROM customer p WHERE p.name = $5))",
        )
        .bind(customer.id)
        .bind(&customer.name)
        .bind(&customer.title)
        .bind(customer.created_at)
        .bind(customer.parent.as_ref())
        .execute(self)
        .await
        .map(|_| ())
    }
}

async fn by_name<'a>(on: impl Into<On<'a>>, name: &Slug) -> Result<Option<Customer>> {
    Sql::built(format!("SELECT {COLUMNS} FROM customer WHERE name = $1")).bind(name).optional(on).await
}

async fn partners_of<'a>(on: impl Into<On<'a>>, customer: CustomerId) -> Result<Vec<Partner>> {
    Sql::built(format!("{PARTNERS} WHERE r.customer_id = $1 ORDER BY p.name")).bind(customer).all(on).await
}
