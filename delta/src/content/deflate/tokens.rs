//! Symbols of a block, when it ends, and in which of the three forms it is written.

use super::super::recipe::Deflate as Settings;
use super::{
    MIN_MATCH, signed,
    trees::{DISTANCE_EXTRA, LENGTH_EXTRA, Tree, TreeKind},
};

/// Symbol that ends a block.
const END: usize = 256;

/// Order in which the lengths of the code length code are sent.
const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

/// Collects symbols and writes blocks.
pub(super) struct Tokens {
    early: bool,
    level: u8,
    limit: usize,
    /// Distance, 0 for a literal; and the literal, or the length less three.
    symbols: Vec<(u16, u8)>,
    matches: usize,
    literals: Tree,
    distances: Tree,
    bits: u64,
    bit_count: u32,
}

impl Tokens {
    pub(super) fn new(settings: Settings) -> Self {
        let mut tokens = Self {
            early: settings.early,
            level: settings.level,
            limit: (1 << settings.symbol_bits) - 1,
            symbols: Vec::with_capacity(1 << settings.symbol_bits),
            matches: 0,
            literals: Tree::new(TreeKind::Literals),
            distances: Tree::new(TreeKind::Distances),
            bits: 0,
            bit_count: 0,
        };
        tokens.literals.count(END);
        tokens
    }

    /// The literal that ends the input.
    pub(super) fn literal(&mut self, literal: u8) {
        self.literal_in(literal, 0);
    }

    /// Adds a literal to a block of `covered` bytes; says whether the block is full.
    pub(super) fn literal_in(&mut self, literal: u8, covered: u64) -> bool {
        self.symbols.push((0, literal));
        self.literals.count(usize::from(literal));
        self.full(covered)
    }

    /// Adds a match.
    pub(super) fn reference(&mut self, distance: usize, len: usize, covered: u64) -> bool {
        let len = len - MIN_MATCH;
        self.symbols.push((distance as u16, len as u8));
        self.matches += 1;
        self.literals.count(length_code(len).0);
        self.distances.count(distance_code(distance - 1).0);
        self.full(covered)
    }

    fn full(&self, covered: u64) -> bool {
        let count = self.symbols.len();
        if self.early && self.level > 2 && count.is_multiple_of(0x1000) {
            let extra = DISTANCE_EXTRA.iter().enumerate();
            let bits: u64 = extra.map(|(code, extra)| self.distances.frequency(code) * (5 + u64::from(*extra))).sum();
            let coded = (count as u64 * 8 + bits) >> 3;
            if self.matches < count / 2 && coded < covered / 2 {
                return true;
            }
        }
        count == self.limit
    }

    /// Writes the block. `stored` are its bytes, if they are at hand.
    pub(super) fn block(&mut self, stored: Option<&[u8]>, covered: u64, last: bool, out: &mut Vec<u8>) {
        self.literals.build();
        self.distances.build();
        let mut lengths = Tree::new(TreeKind::Lengths);
        let runs = [runs(&self.literals), runs(&self.distances)].concat();
        for &(symbol, _, _) in &runs {
            lengths.count(symbol);
        }
        lengths.build();
        let sent = ORDER.iter().rposition(|&symbol| lengths.len(symbol) != 0).unwrap_or(0).max(3) + 1;
        let dynamic = self.literals.cost() + self.distances.cost() + lengths.cost() + 3 * signed(sent) + 14;
        let fixed = self.literals.fixed_cost() + self.distances.fixed_cost();
        let (dynamic, fixed) = ((dynamic + 3 + 7) >> 3, (fixed + 3 + 7) >> 3);
        let least = dynamic.min(fixed);
        match stored {
            Some(bytes) if covered.cast_signed() + 4 <= least && u16::try_from(bytes.len()).is_ok() => {
                self.put(u64::from(last), 3, out);
                self.flush(out);
                out.extend((bytes.len() as u16).to_le_bytes());
                out.extend((!(bytes.len() as u16)).to_le_bytes());
                out.extend_from_slice(bytes);
            }
            _ if fixed == least => {
                self.put(2 | u64::from(last), 3, out);
                let (literals, distances) = (Tree::fixed(TreeKind::Literals), Tree::fixed(TreeKind::Distances));
                self.symbols(&literals, &distances, out);
            }
            _ => {
                self.put(4 | u64::from(last), 3, out);
                self.put(self.literals.max_code() as u64 + 1 - 257, 5, out);
                self.put(self.distances.max_code() as u64, 5, out);
                self.put(sent as u64 - 4, 4, out);
                for &symbol in ORDER.iter().take(sent) {
                    self.put(u64::from(lengths.len(symbol)), 3, out);
                }
                for (symbol, extra, bits) in runs {
                    self.code(&lengths, symbol, out);
                    self.put(extra, bits, out);
                }
                let (literals, distances) = (self.literals.clone(), self.distances.clone());
                self.symbols(&literals, &distances, out);
            }
        }
        self.symbols.clear();
        self.matches = 0;
        self.literals.clear();
        self.distances.clear();
        self.literals.count(END);
    }

    fn symbols(&mut self, literals: &Tree, distances: &Tree, out: &mut Vec<u8>) {
        let symbols = std::mem::take(&mut self.symbols);
        for &(distance, value) in &symbols {
            if distance == 0 {
                self.code(literals, usize::from(value), out);
                continue;
            }
            let (code, extra, bits) = length_code(usize::from(value));
            self.code(literals, code, out);
            self.put(extra, bits, out);
            let (code, extra, bits) = distance_code(usize::from(distance) - 1);
            self.code(distances, code, out);
            self.put(extra, bits, out);
        }
        self.code(literals, END, out);
        self.symbols = symbols;
    }

    fn code(&mut self, tree: &Tree, symbol: usize, out: &mut Vec<u8>) {
        let (code, len) = tree.code(symbol);
        self.put(u64::from(code), u32::from(len), out);
    }

    fn put(&mut self, value: u64, bits: u32, out: &mut Vec<u8>) {
        self.bits |= value << self.bit_count;
        self.bit_count += bits;
        while self.bit_count >= 8 {
            out.push(self.bits as u8);
            self.bits >>= 8;
            self.bit_count -= 8;
        }
    }

    /// Fills the last byte.
    pub(super) fn flush(&mut self, out: &mut Vec<u8>) {
        if self.bit_count > 0 {
            out.push(self.bits as u8);
        }
        (self.bits, self.bit_count) = (0, 0);
    }
}

/// Code, extra bits and their count for a length less three.
fn length_code(len: usize) -> (usize, u64, u32) {
    if len == 255 {
        return (285, 0, 0);
    }
    let mut base = 0;
    for (code, &extra) in LENGTH_EXTRA.iter().enumerate() {
        let next = base + (1 << extra);
        if len < next {
            return (257 + code, (len - base) as u64, u32::from(extra));
        }
        base = next;
    }
    (285, 0, 0)
}

/// Code, extra bits and their count for a distance less one.
fn distance_code(distance: usize) -> (usize, u64, u32) {
    if distance < 4 {
        return (distance, 0, 0);
    }
    let extra = distance.ilog2() - 1;
    let code = 2 * extra as usize + 2 + (distance >> extra & 1);
    (code, (distance & ((1 << extra) - 1)) as u64, extra)
}

/// Lengths of a tree's codes in the symbols of the code length code, with extra bits and their count.
fn runs(tree: &Tree) -> Vec<(usize, u64, u32)> {
    let lens: Vec<u8> = (0..=tree.max_code()).map(|symbol| tree.len(symbol)).collect();
    let mut runs = Vec::new();
    let mut rest = lens.as_slice();
    let mut previous = None;
    while let Some(&len) = rest.first() {
        let same = rest.iter().take_while(|&&other| other == len).count();
        let longest = match (len, previous == Some(len)) {
            (0, _) => 138,
            (_, true) => 6,
            (_, false) => 7,
        };
        let count = same.min(longest);
        let shortest = if len != 0 && previous != Some(len) { 4 } else { 3 };
        if count < shortest {
            runs.extend((0..count).map(|_| (usize::from(len), 0, 0)));
        } else if len != 0 {
            let mut repeated = count;
            if previous != Some(len) {
                runs.push((usize::from(len), 0, 0));
                repeated -= 1;
            }
            runs.push((16, repeated as u64 - 3, 2));
        } else if count <= 10 {
            runs.push((17, count as u64 - 3, 3));
        } else {
            runs.push((18, count as u64 - 11, 7));
        }
        previous = Some(len);
        rest = rest.get(count..).unwrap_or_default();
    }
    runs
}
