//! Places of the old view by the hash of what stands there, for strings of one length.

/// Places of one hash looked at on either side of the expected one. Bounds the time on repetitive images.
const NEIGHBOURS: usize = 4;

/// Each bucket has this many bits, as a power of two, in the table of hashes seen.
const SEEN_BITS: u32 = 4;

/// Places by hash. Upper bits of a hash decide, so they must be spread well.
pub(crate) struct Buckets {
    /// How far a hash is shifted to give a bucket.
    shift: u32,
    /// From `starts[b]` on stand the places of bucket `b`, in ascending order.
    starts: Vec<u32>,
    places: Vec<u32>,
    /// One bit for each hash that is there: turns most places of new away without another look.
    seen: Vec<u64>,
}

impl Buckets {
    /// Puts places into `1 << bits` buckets. `hashed` gives each hash with its place, in ascending order, and is asked twice.
    pub(crate) fn new<I: Iterator<Item = (u64, u32)>>(bits: u32, hashed: impl Fn() -> I) -> Self {
        let shift = 64 - bits;
        // Counted one bucket too far, so that filling moves each start to where its own bucket begins.
        let mut starts = vec![0u32; (1 << bits) + 2];
        let mut seen = vec![0u64; (1usize << (bits + SEEN_BITS)).div_ceil(64)];
        for (hash, _) in hashed() {
            starts[(hash >> shift) as usize + 2] += 1;
            let bit = (hash >> (shift - SEEN_BITS)) as usize;
            seen[bit / 64] |= 1 << (bit % 64);
        }
        let mut sum = 0;
        for start in &mut starts {
            sum += *start;
            *start = sum;
        }
        let mut places = vec![0u32; sum as usize];
        for (hash, place) in hashed() {
            let end = &mut starts[(hash >> shift) as usize + 1];
            places[*end as usize] = place;
            *end += 1;
        }
        Self { shift, starts, places, seen }
    }

    /// Whether there may be a place with this hash.
    #[inline]
    pub(crate) fn may_hold(&self, hash: u64) -> bool {
        let bit = (hash >> (self.shift - SEEN_BITS)) as usize;
        self.seen[bit / 64] >> (bit % 64) & 1 != 0
    }

    /// Places in the bucket of this hash, those around `expected` of them.
    #[inline]
    pub(crate) fn near(&self, hash: u64, expected: u64) -> &[u32] {
        let bucket = (hash >> self.shift) as usize;
        let places = &self.places[self.starts[bucket] as usize..self.starts[bucket + 1] as usize];
        let middle = places.partition_point(|&place| u64::from(place) < expected);
        &places[middle.saturating_sub(NEIGHBOURS)..places.len().min(middle + NEIGHBOURS)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_stand_in_the_bucket_of_their_hash_in_order() {
        // Six hashes, spread over the upper bits; each place has one of them.
        let hash = |place: u32| u64::from(place % 6) << 61 | 0x1234;
        let buckets = Buckets::new(3, || (0..60).map(|place| (hash(place), place)));
        for first in 0..6 {
            assert!(buckets.may_hold(hash(first)));
            assert_eq!(buckets.near(hash(first), 0), [0, 6, 12, 18].map(|more| first + more));
            let around = [6, 12, 18, 24, 30, 36, 42, 48].map(|more| first + more);
            assert_eq!(buckets.near(hash(first), u64::from(first) + 30), around);
        }
        assert!(!buckets.may_hold(7 << 61) && buckets.near(7 << 61, 30).is_empty());
        assert!(Buckets::new(1, std::iter::empty).near(u64::MAX, 0).is_empty());
    }
}
