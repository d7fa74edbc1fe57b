//! Customers.

use sluice_catalog::customer::Customer;
use sluice_catalog::id::CustomerId;
use sluice_catalog::text::Slug;

use super::{On, Result, Sql, Store, Tx};

/// A customer by name.
pub(super) const COLUMNS: &str = "id, name, title, created_at";

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
