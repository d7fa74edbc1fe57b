//! Latencies in bounded memory: a histogram whose buckets grow with the value, so that a percentile is off by less than
//! two parts in a hundred however many requests there were.

use std::time::Duration;

use serde::Serialize;

/// Buckets for each doubling of the value: half of this bounds the relative error.
const PER_DOUBLING_BITS: u32 = 6;
const PER_DOUBLING: u64 = 1 << PER_DOUBLING_BITS;
/// Doublings beyond the first: enough for 2^40 ns, which is 18 minutes; anything longer counts as that.
const DOUBLINGS: u32 = 40 - PER_DOUBLING_BITS;
const BUCKETS: usize = ((DOUBLINGS + 1) as usize) << PER_DOUBLING_BITS;

/// Counts latencies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Latencies {
    buckets: Vec<u64>,
    count: u64,
    longest: u64,
}

impl Default for Latencies {
    fn default() -> Self {
        Self { buckets: vec![0; BUCKETS], count: 0, longest: 0 }
    }
}

/// The bucket of a value. Values below one doubling have a bucket each; above, the leading bits choose.
fn bucket_of(ns: u64) -> usize {
    let log = ns.max(1).ilog2();
    let shift = log.saturating_sub(PER_DOUBLING_BITS);
    // Below 2 * PER_DOUBLING the shift is zero and the value is the bucket.
    let bucket = u64::from(shift) * PER_DOUBLING + (ns >> shift);
    usize::try_from(bucket).map_or(BUCKETS - 1, |bucket| bucket.min(BUCKETS - 1))
}

/// The least value of a bucket.
fn floor_of(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    let shift = (bucket / PER_DOUBLING).saturating_sub(1);
    (bucket - shift * PER_DOUBLING) << shift
}

impl Latencies {
    /// Counts one.
    pub fn add(&mut self, latency: Duration) {
        let ns = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        if let Some(bucket) = self.buckets.get_mut(bucket_of(ns)) {
            *bucket += 1;
        }
        self.count += 1;
        self.longest = self.longest.max(ns);
    }

    /// Takes another's counts in.
    pub fn merge(&mut self, other: &Self) {
        for (bucket, more) in self.buckets.iter_mut().zip(&other.buckets) {
            *bucket += more;
        }
        self.count += other.count;
        self.longest = self.longest.max(other.longest);
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The latency that so many of a thousand requests did not exceed (nearest rank), by the floor of its bucket.
    pub fn permille(&self, permille: u64) -> Duration {
        let rank = (self.count * permille.min(1000)).div_ceil(1000).max(1);
        let mut seen = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Duration::from_nanos(floor_of(bucket));
            }
        }
        Duration::from_nanos(self.longest)
    }

    /// The usual percentiles.
    pub fn summary(&self) -> Summary {
        let us = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        Summary {
            p50_us: us(self.permille(500)),
            p90_us: us(self.permille(900)),
            p99_us: us(self.permille(990)),
            p999_us: us(self.permille(999)),
            max_us: self.longest / 1000,
        }
    }
}

/// Percentiles in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// The median.
    pub p50_us: u64,
    /// Nine of ten.
    pub p90_us: u64,
    /// 99 of 100.
    pub p99_us: u64,
    /// 999 of 1,000.
    pub p999_us: u64,
    /// The longest, exactly.
    pub max_us: u64,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn percentiles_of_one_to_a_hundred() {
        let mut latencies = Latencies::default();
        for ns in 1..=100 {
            latencies.add(Duration::from_nanos(ns));
        }
        assert_eq!(latencies.count(), 100);
        assert_eq!(latencies.permille(500).as_nanos(), 50);
        assert_eq!(latencies.permille(900).as_nanos(), 90);
        assert_eq!(latencies.permille(990).as_nanos(), 99);
        assert_eq!(latencies.permille(1000).as_nanos(), 100);
        assert_eq!(latencies.permille(0).as_nanos(), 1);
    }

    #[test]
    fn nothing_counted_is_zero_and_the_longest_is_exact() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.permille(500), Duration::ZERO);
        latencies.add(Duration::from_secs(100_000));
        latencies.add(Duration::from_micros(1_234_567));
        assert_eq!(latencies.summary().max_us, 100_000_000_000);
    }

    #[test]
    fn every_bucket_begins_at_its_floor() {
        for bucket in 0..BUCKETS {
            assert_eq!(bucket_of(floor_of(bucket)), bucket);
        }
    }

    proptest! {
        #[test]
        fn a_percentile_is_within_two_percent_of_the_exact_one(
            mut values in prop::collection::vec(0u64..1 << 39, 1..300), permille in 1u64..=1000, split in 0usize..300,
        ) {
            let (mut one, mut two) = (Latencies::default(), Latencies::default());
            for (at, &ns) in values.iter().enumerate() {
                if at < split { &mut one } else { &mut two }.add(Duration::from_nanos(ns));
            }
            one.merge(&two);
            values.sort_unstable();
            let rank = (values.len() * usize::try_from(permille).unwrap()).div_ceil(1000).max(1);
            let exact = values[rank - 1];
            let found = u64::try_from(one.permille(permille).as_nanos()).unwrap();
            prop_assert!(found <= exact && exact - found <= exact / 50, "{found} for {exact}");
        }
    }
}
