//! Products and trains.

use sluice_catalog::Time;
use sluice_catalog::id::ProductId;
use sluice_catalog::product::{Product, Train};
use sluice_catalog::text::{ProductName, TrainName};

use super::{On, Result, Sql, Store, Tx};

const COLUMNS: &str = "id, name, title, family, pid, visibility, created_at";

async fn by_name<'a>(on: impl Into<On<'a>>, name: &ProductName) -> Result<Option<Product>> {
    Sql::built(format!("SELECT {COLUMNS} FROM product WHERE name = $1")).bind(name).optional(on).await
}

impl Store {
    /// Every product. Limited: an installation has hundreds of product lines, not millions.
    pub async fn product_all(&self) -> Result<Vec<Product>> {
        Sql::built(format!("SELECT {COLUMNS} FROM product ORDER BY name LIMIT 100000")).all(self).await
    }

    /// Products after a name, in the order of names.
    pub async fn product_list(&self, after: &str, limit: u32) -> Result<Vec<Product>> {
        Sql::built(format!("SELECT {COLUMNS} FROM product WHERE name > $1 ORDER BY name LIMIT $2"))
            .bind(after)
            .bind(i64::from(limit))
            .all(self)
            .await
    }

    /// A product by name.
    pub async fn product_by_name(&self, name: &ProductName) -> Result<Option<Product>> {
        by_name(self, name).await
    }

    /// Every train.
    pub async fn train_all(&self) -> Result<Vec<Train>> {
        Sql::new("SELECT product_id, name, ga_at, support_end FROM train").all(self).await
    }

    /// A product's trains after a name, in the order of names.
    pub async fn train_list(&self, product: ProductId, after: &str, limit: u32) -> Result<Vec<Train>> {
        Sql::new(
            "SELECT product_id, name, ga_at, support_end FROM train WHERE product_id = $1 AND name > $2 ORDER BY name LIMIT $3",
        )
        .bind(product)
        .bind(after)
        .bind(i64::from(limit))
        .all(self)
        .await
    }
}

impl Tx {
    /// A product by name.
    pub async fn product_by_name(&mut self, name: &ProductName) -> Result<Option<Product>> {
        by_name(self, name).await
    }

    /// Enters a product.
    pub async fn product_add(&mut self, product: &Product) -> Result<()> {
        Sql::new(
            "INSERT INTO product (id, name, title, family, pid, visibility, created_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(product.id)
        .bind(&product.name)
        .bind(&product.title)
        .bind(&product.family)
        .bind(product.pid.as_ref())
        .bind(product.visibility)
        .bind(product.created_at)
        .execute(self)
        .await
        .map(|_| ())
    }

    /// A train of a product.
    pub async fn train_by_name(&mut self, product: ProductId, name: &TrainName) -> Result<Option<Train>> {
        Sql::new("SELECT product_id, name, ga_at, support_end FROM train WHERE product_id = $1 AND name = $2")
            .bind(product)
            .bind(name)
            .optional(self)
            .await
    }

    /// Enters a train.
    pub async fn train_add(&mut self, train: &Train) -> Result<()> {
        Sql::new("INSERT INTO train (product_id, name, ga_at, support_end) VALUES ($1, $2, $3, $4)")
            .bind(train.product_id)
            .bind(&train.name)
            .bind(train.ga_at)
            .bind(train.support_end)
            .execute(self)
            .await
            .map(|_| ())
    }

    /// Says from when on a train gets no further fixes; whether that was another moment before.
    pub async fn train_support_end(&mut self, product: ProductId, name: &TrainName, at: Option<Time>) -> Result<bool> {
        let changed = Sql::new(
            "UPDATE train SET support_end = $1
             WHERE product_id = $2 AND name = $3 AND COALESCE(support_end, -1) <> COALESCE($1, -1)",
        )
        .bind(at)
        .bind(product)
        .bind(name)
        .execute(self)
        .await?;
        Ok(changed > 0)
    }
}
