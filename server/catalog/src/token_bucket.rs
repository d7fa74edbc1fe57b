//! Token buckets in bounded memory: how often somebody may ask. Pure; the time is handed in.

use std::collections::{BTreeMap, BTreeSet};

use crate::Time;

/// How often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Questions at once, at least 1.
    pub burst: u32,
    /// Milliseconds after which there is one more, at least 1.
    pub every_ms: u32,
}

impl Rate {
    /// So many a minute, and as many at once.
    pub const fn per_minute(count: u32) -> Self {
        let count = if count == 0 { 1 } else { count };
        Self { burst: count, every_ms: if count > 60_000 { 1 } else { 60_000 / count } }
    }
}

/// A bucket for each key. A bucket is one number: when it will be full again. So one that is full need not be kept.
#[derive(Debug)]
pub struct Buckets<K> {
    rate: Rate,
    capacity: usize,
    full_at: BTreeMap<K, i64>,
    by_time: BTreeSet<(i64, K)>,
}

impl<K: Ord + Clone> Buckets<K> {
    /// Buckets of this rate for at most so many keys.
    pub fn new(rate: Rate, capacity: usize) -> Self {
        Self { rate, capacity: capacity.max(1), full_at: BTreeMap::new(), by_time: BTreeSet::new() }
    }

    /// Takes one; or says after how many milliseconds there will be one.
    pub fn take(&mut self, key: &K, now: Time) -> Result<(), i64> {
        let now = now.as_ms();
        let every = i64::from(self.rate.every_ms.max(1));
        let depth = every.saturating_mul(i64::from(self.rate.burst.max(1)));
        let before = self.full_at.get(key).copied();
        // Of a clock that was set back the bucket is at most empty.
        let full_at = before.unwrap_or(now).clamp(now, now.saturating_add(depth));
        let after = full_at.saturating_add(every);
        let over = after.saturating_sub(now).saturating_sub(depth);
        if over > 0 {
            return Err(over);
        }
        if let Some(before) = before {
            self.by_time.remove(&(before, key.clone()));
        }
        self.full_at.insert(key.clone(), after);
        self.by_time.insert((after, key.clone()));
        self.forget(now);
        Ok(())
    }

    /// Forgets buckets that are full; and beyond the capacity those that are nearest to it.
    fn forget(&mut self, now: i64) {
        while let Some((full_at, key)) = self.by_time.first().cloned() {
            if full_at > now && self.full_at.len() <= self.capacity {
                return;
            }
            self.by_time.remove(&(full_at, key.clone()));
            self.full_at.remove(&key);
        }
    }

    /// How many are kept.
    pub fn kept(&self) -> usize {
        self.full_at.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn t(ms: i64) -> Time {
        Time::from_ms(1_800_000_000_000 + ms)
    }

    #[test]
    fn a_burst_then_one_at_a_time() {
        let mut buckets = Buckets::new(Rate { burst: 3, every_ms: 1000 }, 10);
        for _ in 0..3 {
            assert_eq!(buckets.take(&1, t(0)), Ok(()));
        }
        assert_eq!(buckets.take(&1, t(0)), Err(1000));
        assert_eq!(buckets.take(&1, t(400)), Err(600), "what is refused takes nothing");
        assert_eq!(buckets.take(&2, t(400)), Ok(()), "another key");
        assert_eq!(buckets.take(&1, t(1000)), Ok(()));
        assert_eq!(buckets.take(&1, t(1000)), Err(1000));
        for _ in 0..3 {
            assert_eq!(buckets.take(&1, t(60_000)), Ok(()), "full again, and no fuller");
        }
        assert_eq!(buckets.take(&1, t(60_000)), Err(1000));
    }

    #[test]
    fn a_clock_that_is_set_back_locks_nobody_out_for_long() {
        let mut buckets = Buckets::new(Rate { burst: 3, every_ms: 1000 }, 10);
        buckets.take(&1, t(10_000_000)).unwrap();
        assert!(buckets.take(&1, t(0)).unwrap_err() <= 1000);
    }

    #[test]
    fn a_rate_of_a_minute() {
        assert_eq!(Rate::per_minute(600), Rate { burst: 600, every_ms: 100 });
        assert_eq!(Rate::per_minute(0), Rate::per_minute(1));
        assert_eq!(Rate::per_minute(u32::MAX).every_ms, 1);
    }

    proptest! {
        #[test]
        fn never_more_than_burst_and_rate(
            burst in 1u32..20, every in 1u32..5000, steps in prop::collection::vec((0i64..4000, 0u8..4), 1..200),
        ) {
            let mut buckets = Buckets::new(Rate { burst, every_ms: every }, 8);
            let mut taken: Vec<(i64, u8)> = Vec::new();
            let mut now = 0;
            for (wait, key) in steps {
                now += wait;
                match buckets.take(&key, t(now)) {
                    Ok(()) => taken.push((now, key)),
                    Err(after) => {
                        prop_assert!(after > 0 && after <= i64::from(every));
                        // As promised: then there is one, and not before.
                        let mut copy = Buckets { rate: buckets.rate, capacity: 8, full_at: buckets.full_at.clone(), by_time: buckets.by_time.clone() };
                        prop_assert!(copy.take(&key, t(now + after - 1)).is_err());
                        prop_assert!(copy.take(&key, t(now + after)).is_ok());
                    }
                }
            }
            for (first, (start, key)) in taken.iter().enumerate() {
                let mut count = 0;
                for (at, of) in &taken[first..] {
                    count += i64::from(of == key);
                    prop_assert!(count <= i64::from(burst) + (at - start) / i64::from(every));
                }
            }
        }

        #[test]
        fn memory_is_bounded_and_full_buckets_are_forgotten(keys in prop::collection::vec(0u32..1000, 1..300)) {
            let mut buckets = Buckets::new(Rate { burst: 5, every_ms: 1000 }, 16);
            for (at, key) in (0..).zip(&keys) {
                let _ = buckets.take(key, t(at));
                prop_assert!(buckets.kept() <= 16);
                prop_assert_eq!(buckets.kept(), buckets.by_time.len());
            }
            buckets.take(&5000, t(3_600_000)).unwrap();
            prop_assert_eq!(buckets.kept(), 1);
        }
    }
}
