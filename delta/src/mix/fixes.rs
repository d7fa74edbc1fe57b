//! What became of a word the last time: differences from its prediction, remembered by hash.

/// One remembered difference.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Fix {
    key: u16,
    /// 0 when empty, 1 after the first time, more with each time that the difference came again.
    trust: u16,
    difference: u32,
}

impl Fix {
    /// Nothing remembered.
    pub(crate) const UNSET: Self = Self { key: 0, trust: 0, difference: 0 };
}

/// Most trust that a difference gains: so many other outcomes replace it.
const MAX_TRUST: u16 = 4;

/// A table of differences.
pub(crate) struct Fixes<'m> {
    table: &'m mut [Fix],
    mask: u32,
}

impl<'m> Fixes<'m> {
    /// Starts empty in `table`, of which the largest power of two is used.
    pub(crate) fn new(table: &'m mut [Fix]) -> Self {
        table.fill(Fix::default());
        let len = if table.is_empty() { 0 } else { 1usize << table.len().ilog2().min(31) };
        Self { table, mask: (len as u32).wrapping_sub(1) }
    }

    /// The difference remembered for `hash`, and its trust.
    #[inline]
    pub(crate) fn get(&self, hash: u32) -> Option<(u32, u16)> {
        let fix = self.table.get((hash & self.mask) as usize)?;
        (fix.trust > 0 && fix.key == (hash >> 16) as u16).then_some((fix.difference, fix.trust))
    }

    /// Learns what the difference was.
    #[inline]
    pub(crate) fn learn(&mut self, hash: u32, difference: u32) {
        let Some(fix) = self.table.get_mut((hash & self.mask) as usize) else { return };
        let key = (hash >> 16) as u16;
        if fix.trust > 0 && fix.key == key && fix.difference == difference {
            fix.trust = (fix.trust + 1).min(MAX_TRUST);
        } else if fix.trust > 2 {
            fix.trust -= 2;
        } else {
            *fix = Fix { key, trust: 1, difference };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trusted_difference_survives_an_exception() {
        let mut table = [Fix::default(); 16];
        let mut fixes = Fixes::new(&mut table);
        assert_eq!(fixes.get(7), None);
        fixes.learn(7, 100);
        assert_eq!(fixes.get(7), Some((100, 1)));
        fixes.learn(7, 200);
        assert_eq!(fixes.get(7), Some((200, 1)));
        for _ in 0..5 {
            fixes.learn(7, 200);
        }
        fixes.learn(7, 300);
        assert_eq!(fixes.get(7), Some((200, 2)));
        fixes.learn(7, 300);
        assert_eq!(fixes.get(7), Some((300, 1)));
        assert_eq!(fixes.get(7 | 1 << 20), None, "another key in the same place");
    }
}
