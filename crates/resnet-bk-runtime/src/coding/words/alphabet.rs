//! A symbol of a word as a few decisions: the way down an alphabetic tree.
//!
//! ```text
//!                     s < split?                     each split halves the weight, so that what is frequent in words
//!               yes .------------. no                lies near the root; leaves are in the order of the symbols, so
//!          end 0-9 A-Z a b ..   .. z é               "greater than x" decides for the right wherever split <= x + 1
//! ```

/// A byte of a word plus one, or 0 for its end.
pub(super) type Symbol = u16;

/// How many symbols there are: no byte of UTF-8 is above 0xf4.
pub(super) const SYMBOLS: usize = 0xf4 + 2;

/// The symbol at `at` of a word.
pub(super) fn symbol(word: &[u8], at: usize) -> Symbol {
    word.get(at).map_or(0, |&byte| Symbol::from(byte) + 1)
}

/// A decision on the way to a symbol.
#[derive(Clone, Copy)]
pub(super) struct Node {
    /// Symbols from here on are on the right. No other node has it.
    pub split: Symbol,
    children: [i16; 2],
}

/// What a decision leads to.
pub(super) enum Child {
    Node(&'static Node),
    Leaf(Symbol),
}

impl Node {
    /// The first decision.
    pub fn root() -> &'static Self {
        &TREE[0]
    }

    /// Where a decision leads.
    pub fn child(&self, right: bool) -> Child {
        match self.children[usize::from(right)] {
            leaf @ ..0 => Child::Leaf(!leaf as Symbol),
            node => Child::Node(&TREE[node as usize]),
        }
    }
}

/// Roughly how often a symbol occurs after the start of a word that it does not share with the word
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

/// Nodes, the root first. A negative child is a leaf: the complement of its symbol.
static TREE: [Node; SYMBOLS - 1] = {
    let mut before = [0; SYMBOLS + 1];
    let mut at = 0;
    while at < SYMBOLS {
        before[at + 1] = before[at] + weight(at);
        at += 1;
    }
    let mut tree = [Node { split: 0, children: [0; 2] }; SYMBOLS - 1];
    // Ranges of symbols that want a node, and their place in the parent.
    let mut wanted = [(0, 0, 0, 0); SYMBOLS];
    wanted[0] = (0, SYMBOLS, 0, 0);
    let (mut waiting, mut nodes) = (1, 0);
    while waiting > 0 {
        waiting -= 1;
        let (low, high, parent, side) = wanted[waiting];
        if high - low == 1 {
            tree[parent].children[side] = !(low as i16);
            continue;
        }
        let mut split = low + 1;
        while split + 1 < high && before[split] + before[split + 1] <= before[low] + before[high] {
            split += 1;
        }
        if nodes > 0 {
            tree[parent].children[side] = nodes as i16;
        }
        tree[nodes].split = split as Symbol;
        wanted[waiting] = (low, split, nodes, 0);
        wanted[waiting + 1] = (split, high, nodes, 1);
        waiting += 2;
        nodes += 1;
    }
    tree
};

#[cfg(test)]
mod tests {
    use super::*;

    /// Decisions to `symbol`.
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
