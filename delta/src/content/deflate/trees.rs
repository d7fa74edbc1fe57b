//! Huffman codes as the zlib family builds them: the order of equal frequencies, and what happens to codes that are too
//! long, decide the bytes.

use super::signed;

/// Extra bits of length codes from 257 on.
pub(super) const LENGTH_EXTRA: [u8; 29] =
    [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0];

/// Extra bits of distance codes.
pub(super) const DISTANCE_EXTRA: [u8; 30] =
    [0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13];

/// Longest code.
const MAX_BITS: usize = 15;

/// Which alphabet a tree is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TreeKind {
    Literals,
    Distances,
    /// Code lengths of the others.
    Lengths,
}

impl TreeKind {
    fn symbols(self) -> usize {
        match self {
            Self::Literals => 286,
            Self::Distances => 30,
            Self::Lengths => 19,
        }
    }

    fn max_bits(self) -> usize {
        if self == Self::Lengths { 7 } else { MAX_BITS }
    }

    fn extra(self, symbol: usize) -> i64 {
        let extra = match self {
            Self::Literals => symbol.checked_sub(257).and_then(|code| LENGTH_EXTRA.get(code)).copied(),
            Self::Distances => DISTANCE_EXTRA.get(symbol).copied(),
            Self::Lengths => symbol.checked_sub(16).and_then(|code| [2, 3, 7].get(code)).copied(),
        };
        i64::from(extra.unwrap_or_default())
    }

    /// Length of a symbol in the fixed code.
    fn fixed(self, symbol: usize) -> u8 {
        match (self, symbol) {
            (Self::Literals, 0..144 | 280..) => 8,
            (Self::Literals, 144..256) => 9,
            (Self::Literals, _) => 7,
            (Self::Distances, _) => 5,
            (Self::Lengths, _) => 0,
        }
    }
}

/// Frequencies of an alphabet, and the code for them.
#[derive(Clone)]
pub(super) struct Tree {
    kind: TreeKind,
    frequencies: Vec<u32>,
    lens: Vec<u8>,
    codes: Vec<u16>,
    max_code: usize,
    cost: i64,
    fixed_cost: i64,
}

impl Tree {
    pub(super) fn new(kind: TreeKind) -> Self {
        let frequencies = vec![0; kind.symbols()];
        Self { kind, frequencies, lens: Vec::new(), codes: Vec::new(), max_code: 0, cost: 0, fixed_cost: 0 }
    }

    /// The fixed code.
    pub(super) fn fixed(kind: TreeKind) -> Self {
        let mut tree = Self::new(kind);
        // The code has two symbols more than are ever used.
        let symbols = if kind == TreeKind::Literals { 288 } else { 30 };
        tree.lens = (0..symbols).map(|symbol| kind.fixed(symbol)).collect();
        tree.assign();
        tree
    }

    pub(super) fn clear(&mut self) {
        self.frequencies.fill(0);
    }

    pub(super) fn count(&mut self, symbol: usize) {
        if let Some(frequency) = self.frequencies.get_mut(symbol) {
            *frequency += 1;
        }
    }

    pub(super) fn frequency(&self, symbol: usize) -> u64 {
        u64::from(self.frequencies.get(symbol).copied().unwrap_or_default())
    }

    /// Bits that the symbols take with the code, extra bits included.
    pub(super) fn cost(&self) -> i64 {
        self.cost
    }

    /// Bits that they take with the fixed code.
    pub(super) fn fixed_cost(&self) -> i64 {
        self.fixed_cost
    }

    /// The last symbol with a code.
    pub(super) fn max_code(&self) -> usize {
        self.max_code
    }

    pub(super) fn len(&self, symbol: usize) -> u8 {
        self.lens.get(symbol).copied().unwrap_or_default()
    }

    /// The code, first bit lowest, and its length.
    pub(super) fn code(&self, symbol: usize) -> (u16, u8) {
        (self.codes.get(symbol).copied().unwrap_or_default(), self.len(symbol))
    }

    /// Makes the code for the frequencies.
    pub(super) fn build(&mut self) {
        let symbols = self.kind.symbols();
        let mut heap = Heap::new(&self.frequencies);
        let used = self.frequencies.iter().enumerate().filter(|symbol| *symbol.1 > 0);
        heap.nodes = used.map(|symbol| symbol.0).collect();
        self.max_code = heap.nodes.last().copied().unwrap_or_default();
        let mut highest = heap.nodes.last().copied();
        (self.cost, self.fixed_cost) = (0, 0);
        // A code has two symbols at least; those that fill up cost nothing.
        while heap.nodes.len() < 2 {
            let symbol = match highest {
                Some(highest) if highest < 2 => highest + 1,
                _ => 0,
            };
            if symbol > 0 || highest.is_none() {
                highest = Some(symbol);
                self.max_code = symbol;
            }
            heap.nodes.push(symbol);
            heap.set(symbol, 1, 0);
            self.cost -= 1;
            self.fixed_cost -= i64::from(self.kind.fixed(symbol));
        }
        let (parents, order) = heap.join(symbols);
        self.measure(&parents, &order, &heap.frequencies);
        self.assign();
    }

    /// Lengths of codes from the tree, the longest shortened to what the format takes. `order` goes from the root down.
    fn measure(&mut self, parents: &[usize], order: &[usize], frequencies: &[u32]) {
        let max_bits = self.kind.max_bits();
        let mut lens = vec![0usize; parents.len()];
        let mut counts = [0i64; MAX_BITS + 1];
        let mut over = 0i64;
        let leaf = |node: usize| node <= self.max_code && node < self.kind.symbols();
        for &node in order.iter().skip(1) {
            let parent = parents.get(node).copied().unwrap_or_default();
            let mut len = lens.get(parent).copied().unwrap_or_default() + 1;
            if len > max_bits {
                len = max_bits;
                over += 1;
            }
            set(&mut lens, node, len);
            if leaf(node)
                && let Some(count) = counts.get_mut(len)
            {
                *count += 1;
            }
        }
        if over > 0 {
            while over > 0 {
                let mut bits = max_bits - 1;
                while bits > 0 && counts.get(bits) == Some(&0) {
                    bits -= 1;
                }
                for (bits, change) in [(bits, -1), (bits + 1, 2), (max_bits, -1)] {
                    if let Some(count) = counts.get_mut(bits) {
                        *count += change;
                    }
                }
                over -= 2;
            }
            let mut leaves = order.iter().rev().copied().filter(|&node| leaf(node));
            for bits in (1..=max_bits).rev() {
                for _ in 0..counts.get(bits).copied().unwrap_or_default() {
                    let Some(node) = leaves.next() else { break };
                    set(&mut lens, node, bits);
                }
            }
        }
        self.lens = vec![0; self.kind.symbols()];
        for &node in order.iter().filter(|&&node| leaf(node)) {
            let len = lens.get(node).copied().unwrap_or_default();
            let frequency = i64::from(frequencies.get(node).copied().unwrap_or_default());
            let extra = self.kind.extra(node);
            self.cost += frequency * (signed(len) + extra);
            self.fixed_cost += frequency * (i64::from(self.kind.fixed(node)) + extra);
            set(&mut self.lens, node, len as u8);
        }
    }

    /// Codes from lengths (RFC 1951, section 3.2.2).
    fn assign(&mut self) {
        let mut next = [0u32; MAX_BITS + 2];
        let mut code = 0;
        for bits in 1..=MAX_BITS {
            let shorter = self.lens.iter().filter(|&&len| usize::from(len) == bits - 1 && len != 0).count() as u32;
            code = (code + shorter) << 1;
            set(&mut next, bits, code);
        }
        self.codes = vec![0; self.lens.len()];
        for (code, &len) in self.codes.iter_mut().zip(&self.lens) {
            if len > 0
                && let Some(next) = next.get_mut(usize::from(len))
            {
                *code = (*next as u16).reverse_bits() >> (16 - len);
                *next += 1;
            }
        }
    }
}

/// Nodes by frequency: the top is the least. Ties go to the node whose tree is flatter.
struct Heap {
    nodes: Vec<usize>,
    frequencies: Vec<u32>,
    depths: Vec<u8>,
}

impl Heap {
    fn new(frequencies: &[u32]) -> Self {
        let mut all = frequencies.to_vec();
        all.resize(2 * frequencies.len() + 1, 0);
        let depths = vec![0; all.len()];
        Self { nodes: Vec::new(), frequencies: all, depths }
    }

    fn set(&mut self, node: usize, frequency: u32, depth: u8) {
        set(&mut self.frequencies, node, frequency);
        set(&mut self.depths, node, depth);
    }

    fn key(&self, node: usize) -> (u32, u8) {
        (self.frequencies.get(node).copied().unwrap_or_default(), self.depths.get(node).copied().unwrap_or_default())
    }

    fn node(&self, at: usize) -> usize {
        self.nodes.get(at).copied().unwrap_or_default()
    }

    /// Lets the node at `at` sink to its place.
    fn sink(&mut self, mut at: usize) {
        let moved = self.node(at);
        loop {
            let mut child = 2 * at + 1;
            if child >= self.nodes.len() {
                break;
            }
            if child + 1 < self.nodes.len() && self.key(self.node(child + 1)) <= self.key(self.node(child)) {
                child += 1;
            }
            if self.key(moved) <= self.key(self.node(child)) {
                break;
            }
            let node = self.node(child);
            set(&mut self.nodes, at, node);
            at = child;
        }
        set(&mut self.nodes, at, moved);
    }

    /// Joins the two least nodes until one is left. Returns the parent of each node, and all nodes from the root down.
    fn join(&mut self, symbols: usize) -> (Vec<usize>, Vec<usize>) {
        for at in (0..self.nodes.len() / 2).rev() {
            self.sink(at);
        }
        let mut parents = vec![0; self.frequencies.len()];
        let mut order = Vec::new();
        let mut next = symbols;
        while self.nodes.len() >= 2 {
            let least = self.node(0);
            let last = self.nodes.pop().unwrap_or_default();
            set(&mut self.nodes, 0, last);
            self.sink(0);
            let second = self.node(0);
            order.extend([least, second]);
            let ((a, x), (b, y)) = (self.key(least), self.key(second));
            self.set(next, a + b, x.max(y) + 1);
            set(&mut parents, least, next);
            set(&mut parents, second, next);
            set(&mut self.nodes, 0, next);
            next += 1;
            self.sink(0);
        }
        order.push(self.node(0));
        order.reverse();
        (parents, order)
    }
}

fn set<T>(values: &mut [T], at: usize, value: T) {
    if let Some(place) = values.get_mut(at) {
        *place = value;
    }
}
