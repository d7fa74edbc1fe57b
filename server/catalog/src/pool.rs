//! Pools: a contract covers so many devices of a family at a site, whichever they are. Who is in keeps its place; a place that becomes free
//! goes to whoever has stood at the site for the longest time. A place covers its device whole, and who leaves loses what it gave.

use serde::{Deserialize, Serialize};

use crate::text::{ContractNumber, Family, Slug};

/// Places of one pool: each change of a pool looks at all of them.
pub const MAX_PLACES: u32 = 100_000;
/// Pools of one contract.
pub const MAX_POOLS: usize = 1_000;

/// A pool as it is asked for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PoolSet {
    /// The family of products.
    pub family: Family,
    /// The customer's site.
    pub site: Slug,
    /// Places; none ends the pool.
    pub quantity: u32,
}

/// A pool as administrators see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PoolDetail {
    /// The family of products.
    pub family: Family,
    /// The customer's site.
    pub site: Slug,
    /// Places.
    pub quantity: u32,
    /// Places that are taken.
    pub used: u32,
}

/// A device's place in a pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PoolPlace {
    /// The family of products.
    pub family: Family,
    /// The site.
    pub site: Slug,
}

/// A pool that would have a device but has no place for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FullPool {
    /// The contract.
    pub contract: ContractNumber,
    /// What it is for.
    pub place: PoolPlace,
    /// Its places.
    pub quantity: u32,
}

/// What is wrong with pools as they are asked for, by index and field.
pub fn mistake(pools: &[PoolSet]) -> Option<(usize, &'static str, String)> {
    for (index, pool) in pools.iter().enumerate() {
        if pool.quantity > MAX_PLACES {
            return Some((index, "quantity", format!("{}: at most {MAX_PLACES}", pool.quantity)));
        }
        let before =
            pools.iter().take(index).find(|before| (&before.family, &before.site) == (&pool.family, &pool.site));
        if before.is_some_and(|before| before.quantity != pool.quantity) {
            let message = format!("{} at {} is given twice, with different quantities", pool.family, pool.site);
            return Some((index, "quantity", message));
        }
    }
    None
}

/// Who leaves a pool and who enters. `members` in the order in which they entered, with whether they may stay; `waiting` in the order in
/// which they may come in.
pub fn fill<M: Copy, W: Copy>(quantity: usize, members: &[(M, bool)], waiting: &[W]) -> (Vec<M>, Vec<W>) {
    let mut leave = Vec::new();
    let mut kept = 0;
    for (member, stays) in members {
        if *stays && kept < quantity {
            kept += 1;
        } else {
            leave.push(*member);
        }
    }
    (leave, waiting.iter().take(quantity - kept).copied().collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn those_inside_stay_and_the_longest_waiting_comes_in() {
        assert_eq!(fill(2, &[], &['a', 'b', 'c']), (vec![] as Vec<char>, vec!['a', 'b']));
        assert_eq!(fill(2, &[('a', true), ('b', true)], &['c']), (vec![], vec![]));
        assert_eq!(fill(2, &[('a', false), ('b', true)], &['c', 'd']), (vec!['a'], vec!['c']));
        assert_eq!(
            fill(1, &[('a', true), ('b', true)], &['c']),
            (vec!['b'], vec![]),
            "the last to come is the first to go"
        );
        assert_eq!(fill(0, &[('a', true)], &['c']), (vec!['a'], vec![]));
    }

    #[test]
    fn a_pool_that_says_two_things_is_a_mistake() {
        let pool = |site: &str, quantity| PoolSet {
            family: "cameras".parse().unwrap(),
            site: site.parse().unwrap(),
            quantity,
        };
        assert_eq!(mistake(&[pool("hall", 1), pool("attic", 2), pool("hall", 1)]), None);
        assert_eq!(mistake(&[pool("hall", 1), pool("hall", 2)]).map(|(index, ..)| index), Some(1));
        assert!(mistake(&[pool("hall", MAX_PLACES + 1)]).is_some());
    }

    proptest! {
        #[test]
        fn a_pool_is_never_overfull_and_no_place_stays_empty(
            quantity in 0usize..6, members in prop::collection::vec(any::<bool>(), 0..8), waiting in 0usize..8,
        ) {
            let members: Vec<(usize, bool)> = members.into_iter().enumerate().collect();
            let queue: Vec<usize> = (100..100 + waiting).collect();
            let (leave, enter) = fill(quantity, &members, &queue);
            let left = members.len() - leave.len() + enter.len();
            prop_assert!(left <= quantity);
            let staying = members.iter().filter(|(_, stays)| *stays).count();
            prop_assert_eq!(left, quantity.min(staying + waiting));
            for (member, stays) in &members {
                // Whoever may stay leaves only when those before it fill the pool.
                let before = members.iter().take(*member).filter(|(_, stays)| *stays).count();
                prop_assert_eq!(leave.contains(member), !stays || before >= quantity);
            }
            let settled: Vec<(usize, bool)> =
                members.iter().filter(|(m, _)| !leave.contains(m)).copied().chain(enter.iter().map(|w| (*w, true))).collect();
            prop_assert_eq!(fill(quantity, &settled, &queue[enter.len()..]), (vec![], vec![]), "again changes nothing");
        }
    }
}
