//! A symbol of a word as binary decisions: a path down an alphabetic tree.
//!
//! ```text
//!                     s < split?
//!               yes .------------. no
//!          end 0-9 A-Z a b ..   .. z é
//! ```
//!
//! Each split divides the weight of the symbols into halves, so frequent symbols lie near the root.
//! The leaves are in the order of the symbols. If a symbol is known to be greater than `x`, every
//! node with `split <= x + 1` goes to the right and needs no decision.

/// A byte of a word plus 1, or 0 for the end of the word.
pub(super) type Symbol = u16;

/// Number of symbols. No byte of UTF-8 is above 0xf4.
pub(super) const SYMBOLS: usize = 0xf4 + 2;

/// The symbol of `word` at position `at`.
pub(super) fn symbol(word: &[u8], at: usize) -> Symbol {
    word.get(at).map_or(0, |&byte| Symbol::from(byte) + 1)
}

/// An inner node of the tree: one binary decision.
#[derive(Clone, Copy)]
pub(super) struct Node {
    /// Symbols from this one on are on the right. No two nodes have the same split.
    pub split: Symbol,
    children: [i16; 2],
}

/// What a decision leads to: another decision or a symbol.
pub(super) enum Child {
    Node(&'static Node),
    Leaf(Symbol),
}

impl Node {
    /// The first decision.
    pub fn root() -> &'static Self {
        &TREE[0]
    }

    /// The child on the given side.
    pub fn child(&self, right: bool) -> Child {
        match self.children[usize::from(right)] {
            leaf @ ..0 => Child::Leaf(!leaf as Symbol),
            node => Child::Node(&TREE[node as usize]),
        }
    }
}

/// Approximate relative frequency of a symbol after the prefix that a word shares with the word
/// before.
const fn weight(symbol: usize) -> u32 {
    if symbol == 0 {
        return 300;
    }
    match (symbol - 1) as u8 {
        b'e' | b't' | b'a' | b'o' | b'i' | b'n' | b's' | b'r' | b'l' | b'h' | b'd' | b'c' | b'u' | b'm' => 80,
        b'a'..=b'z' => 30,
        b'A'..=b'Z' | b'0'..=b'9' => 12,
        _ => 1,
    }
}

/// The nodes, root first. A negative child is a leaf: the bitwise complement of its symbol.
static TREE: [Node; SYMBOLS - 1] = {
    let mut weight_below = [0; SYMBOLS + 1];
    let mut at = 0;
    while at < SYMBOLS {
        weight_below[at + 1] = weight_below[at] + weight(at);
        at += 1;
    }
    let mut tree = [Node { split: 0, children: [0; 2] }; SYMBOLS - 1];
    // A stack of ranges of symbols that have no node yet, with the parent and the side of each.
    let mut stack = [(0, 0, 0, 0); SYMBOLS];
    stack[0] = (0, SYMBOLS, 0, 0);
    let (mut pending, mut nodes) = (1, 0);
    while pending > 0 {
        pending -= 1;
        let (low, high, parent, side) = stack[pending];
        if high - low == 1 {
            tree[parent].children[side] = !(low as i16);
            continue;
        }
        let mut split = low + 1;
        while split + 1 < high
            && weight_below[split] + weight_below[split + 1] <= weight_below[low] + weight_below[high]
        {
            split += 1;
        }
        if nodes > 0 {
            tree[parent].children[side] = nodes as i16;
        }
        tree[nodes].split = split as Symbol;
        stack[pending] = (low, split, nodes, 0);
        stack[pending + 1] = (split, high, nodes, 1);
        pending += 2;
        nodes += 1;
    }
    tree
};

#[cfg(test)]
mod tests {
    use super::*;

    /// Number of decisions to `symbol`.
    fn depth(symbol: Symbol) -> usize {
        let mut node = Node::root();
        for depth in 1.. {
            match node.child(symbol >= node.split) {
                Child::Node(next) => node = next,
                Child::Leaf(leaf) => {
                    assert_eq!(leaf, symbol);
                    return depth;
                }
            }
        }
        unreachable!("the tree is finite")
    }

    #[test]
    fn every_symbol_has_its_leaf_and_frequent_ones_are_near_the_root() {
        assert!((0..SYMBOLS as Symbol).map(depth).max() <= Some(14));
        let of = |byte: u8| depth(Symbol::from(byte) + 1);
        assert!(depth(0) <= 4 && of(b'e') <= 5 && of(b'x') <= 8 && of(b'T') <= 9);
    }

    #[test]
    fn every_split_occurs_once() {
        let mut splits: Vec<_> = TREE.iter().map(|node| node.split).collect();
        splits.sort_unstable();
        assert_eq!(splits, (1..SYMBOLS as Symbol).collect::<Vec<_>>());
    }
}
