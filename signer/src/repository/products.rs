//! The roles of one product, its own and those that sign in advance, seen together.

use super::{TrustedRepository, Wanted};
use crate::embargo;
use crate::targets::Delegation;
use std::collections::BTreeMap;

impl TrustedRepository {
    /// The product for which a role signs in advance: only the top targets document can say so.
    pub(super) fn embargo_of(&self, role: &str, parent: &str) -> Option<&str> {
        let top = if parent == "targets" { self.roles.get("targets")? } else { return None };
        top.metadata.delegation(role).and_then(embargo::product_of)
    }

    /// The order numbers of all versions of a component that the loaded roles of a product signed, its own and those that sign in
    /// advance: what `min_installed` is compared by.
    pub fn version_orders(&self, product: &str, component: &str) -> BTreeMap<String, u64> {
        let mut orders = BTreeMap::new();
        for (role, loaded) in &self.roles {
            if role != product && self.embargo_of(role, &loaded.parent) != Some(product) {
                continue;
            }
            let releases =
                loaded.metadata.targets.values().filter_map(|target| target.release(role, &self.limits).ok()?);
            for release in releases.filter(|release| release.component == component) {
                // Where two disagree, the one that asks for more counts.
                let order = orders.entry(release.version).or_insert(release.order);
                *order = release.order.max(*order);
            }
        }
        orders
    }

    /// A role of a product, its own or one that signs in advance, whose document must be loaded before
    /// [`version_orders`](Self::version_orders) knows all versions. The parent is `targets`.
    pub fn wanted_of_product(&self, product: &str) -> Option<(String, Wanted)> {
        let top = self.current_role("targets")?;
        let of_product = |one: &&Delegation| one.name == product || embargo::product_of(one) == Some(product);
        let roles = top.metadata.delegations.iter().filter(of_product);
        roles.map(|one| one.name.as_str()).find_map(|role| Some((role.to_owned(), self.wanted_role(role)?)))
    }
}
