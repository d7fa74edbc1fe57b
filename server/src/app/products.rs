//! Products, and what was published of them.

use serde_json::json;
use sluice_catalog::Time;
use sluice_catalog::decide::{ProductView, ReleaseView};
use sluice_catalog::id::ProductId;
use sluice_catalog::principal::Permission;
use sluice_catalog::product::{Product, Train};
use sluice_catalog::text::{ProductName, TrainName, Version};
use sluice_catalog::wire::admin::{ProductCreate, ReleaseDetail};

use super::{Actor, App, Made, title};
use crate::error::{Error, Result};

/// Role names that TUF keeps for itself.
const RESERVED: [&str; 6] = ["root", "targets", "snapshot", "timestamp", "director", "entitlement"];

impl App {
    /// Products after a name.
    pub async fn product_list(&self, actor: &Actor, after: &str, limit: u32) -> Result<Vec<Product>> {
        actor.need(Permission::Read)?;
        Ok(self.store.product_list(after, limit).await?)
    }

    /// A product.
    pub async fn product_get(&self, actor: &Actor, name: &ProductName) -> Result<Product> {
        actor.need(Permission::Read)?;
        self.store.product_by_name(name).await?.ok_or_else(|| Error::not_found("product", name))
    }

    /// Enters a product, so that releases of it can be published.
    pub async fn product_create(&self, actor: &Actor, request: &ProductCreate) -> Result<Made<Product>> {
        actor.need(Permission::Products)?;
        if RESERVED.contains(&request.name.as_str()) {
            return Err(Error::invalid("name", format!("`{}` is a role of TUF itself; choose another", request.name)));
        }
        let now = self.now();
        let product = Product {
            id: ProductId::new(now, self.dice.id()),
            name: request.name.clone(),
            title: title(request.title.as_deref(), request.name.as_str())?,
            family: match &request.family {
                Some(family) => family.clone(),
                None => request.name.as_str().parse().map_err(|error| Error::invalid("family", error))?,
            },
            pid: request.pid.clone(),
            visibility: request.visibility,
            created_at: now,
        };
        let mut tx = self.store.begin().await?;
        if let Some(there) = tx.product_by_name(&product.name).await? {
            if (Product { id: there.id, created_at: there.created_at, ..product }) == there {
                return Ok(Made::Same(there));
            }
            return Err(Error::conflict(format!("there is another product `{}`", there.name)));
        }
        tx.product_add(&product).await?;
        tx.generation_raise("releases").await?;
        let subject = format!("product:{}", product.name);
        let detail = json!({"visibility": product.visibility, "family": product.family, "pid": product.pid});
        tx.audit_add(now, actor.name(), "product.create", &subject, &detail).await?;
        tx.commit().await?;
        self.refresh().await?;
        Ok(Made::New(product))
    }

    /// A product's releases, newest first, after an order.
    pub fn release_list(
        &self,
        actor: &Actor,
        product: &ProductName,
        after: Option<i64>,
        limit: u32,
    ) -> Result<Vec<ReleaseDetail>> {
        actor.need(Permission::Read)?;
        let product = self.product_view(product)?;
        Ok(product
            .releases()
            .iter()
            .filter(|release| after.is_none_or(|after| release.release.order < after))
            .take(limit as usize)
            .map(|release| detail(&product, release))
            .collect())
    }

    /// A release.
    pub fn release_get(&self, actor: &Actor, product: &ProductName, version: &Version) -> Result<ReleaseDetail> {
        actor.need(Permission::Read)?;
        let product = self.product_view(product)?;
        let release = find(&product, version)?;
        Ok(detail(&product, release))
    }

    /// Withdraws a release: no new offers of it, on any surface. What runs keeps running.
    pub async fn release_withdraw(
        &self,
        actor: &Actor,
        product: &ProductName,
        version: &Version,
    ) -> Result<ReleaseDetail> {
        actor.need(Permission::Publish)?;
        let now = self.now();
        let id = find(&*self.product_view(product)?, version)?.release.id;
        let mut tx = self.store.begin().await?;
        if tx.release_withdraw(id, now).await? {
            tx.generation_raise("releases").await?;
            let subject = format!("release:{product}/{version}");
            tx.audit_add(now, actor.name(), "release.withdraw", &subject, &json!({})).await?;
            tx.commit().await?;
            self.refresh().await?;
        }
        let product = self.product_view(product)?;
        Ok(detail(&product, find(&product, version)?))
    }

    /// A product's trains after a name.
    pub async fn train_list(
        &self,
        actor: &Actor,
        product: &ProductName,
        after: &str,
        limit: u32,
    ) -> Result<Vec<Train>> {
        actor.need(Permission::Read)?;
        let product = self.product_view(product)?.product.id;
        Ok(self.store.train_list(product, after, limit).await?)
    }

    /// Says from when on a train gets no further fixes. The same again changes nothing.
    pub async fn train_support_end(
        &self,
        actor: &Actor,
        product: &ProductName,
        name: &TrainName,
        support_end: Option<Time>,
    ) -> Result<Train> {
        actor.need(Permission::Products)?;
        let id = self.product_view(product)?.product.id;
        let mut tx = self.store.begin().await?;
        let not_found = || Error::not_found("train", format!("{product} {name}"));
        let train = tx.train_by_name(id, name).await?.ok_or_else(not_found)?;
        if support_end.is_some_and(|end| end <= train.ga_at) {
            return Err(Error::invalid(
                "support_end",
                format!("after {}, when the train came out", train.ga_at.date()),
            ));
        }
        if tx.train_support_end(id, name, support_end).await? {
            tx.generation_raise("releases").await?;
            let detail = json!({"from": train.support_end, "to": support_end});
            let subject = format!("train:{product}/{name}");
            tx.audit_add(self.now(), actor.name(), "train.support_end", &subject, &detail).await?;
            tx.commit().await?;
            self.refresh().await?;
        }
        Ok(Train { support_end, ..train })
    }

    /// A product as the decision sees it.
    pub(super) fn product_view(&self, name: &ProductName) -> Result<std::sync::Arc<ProductView>> {
        self.live.products().by_name(name.as_str()).cloned().ok_or_else(|| Error::not_found("product", name))
    }
}

fn find<'a>(product: &'a ProductView, version: &Version) -> Result<&'a ReleaseView> {
    product
        .releases()
        .iter()
        .find(|release| release.release.version == *version)
        .ok_or_else(|| Error::not_found("version", format!("{} {version}", product.product.name)))
}

fn detail(product: &ProductView, release: &ReleaseView) -> ReleaseDetail {
    ReleaseDetail {
        product: product.product.name.clone(),
        release: release.release.clone(),
        train_ga: release.train_ga,
        support_end: release.support_end,
        artifacts: release.artifacts.clone(),
    }
}
