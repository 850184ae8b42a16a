//! Entropy coding of sorted words, each in the context of the word before.
//!
//! ```text
//! before   w a l k e d
//! word     w a l k i n g
//!          same symbol? yes yes yes yes no, then a symbol above 'e', then symbols up to the end
//! ```

use super::super::range::{BitCoder, CodingError};
use super::alphabet::{Child, Node, Symbol, symbol};
use super::capitals::Capitals;
use super::list::WordList;
use super::predictor::{Predictor, context};

/// Codes words in ascending order.
pub(super) struct Speller {
    /// The words coded so far.
    pub list: WordList,
    /// Number of bytes that further words may have.
    remaining_bytes: u64,
    same: Predictor<9>,
    symbols: Predictor<12>,
    capitals: Capitals,
    before: Before,
    word: Vec<u8>,
}

/// The word before, with statistics of its positions.
#[derive(Default)]
struct Before {
    word: Vec<u8>,
    /// Number of bytes that it shares with the word before it.
    shared: usize,
    /// For each of its prefixes, from one symbol on: the number of consecutive words with that
    /// prefix.
    families: Vec<u32>,
    /// For each of its positions, a hash of its bytes from there on.
    rests: Vec<u64>,
}

impl Speller {
    /// A speller for `words` words of at most `max_bytes` bytes in total. Words may be empty but
    /// must ascend.
    pub fn new(words: usize, max_bytes: u64) -> Self {
        Self {
            list: WordList::default(),
            remaining_bytes: max_bytes,
            same: Predictor::new(words.saturating_mul(8), [64, 24]),
            symbols: Predictor::new(words.saturating_mul(32), [96, 64]),
            capitals: Capitals::default(),
            before: Before::default(),
            word: Vec::new(),
        }
    }

    /// Codes the next word; a decoder ignores `word`.
    pub fn code<C: BitCoder>(&mut self, coder: &mut C, word: &[u8]) -> Result<(), CodingError> {
        self.word.clear();
        self.capitals.advance(&self.list, &self.before.word);
        let repeated = self.code_shared(coder, word)?;
        let shared = self.word.len();
        if !repeated {
            self.code_rest(coder, word)?;
        }
        self.list.push(&self.word);
        self.before.replace(&mut self.word, shared);
        Ok(())
    }

    /// Codes how many symbols the word shares with the word before. Returns whether the words are
    /// equal.
    fn code_shared<C: BitCoder>(&mut self, coder: &mut C, word: &[u8]) -> Result<bool, CodingError> {
        let mut recent = 0;
        for at in 0..=self.before.word.len() {
            let expected = symbol(&self.before.word, at);
            let guess = self.capitals.guess(&self.word, None).map_or(0, |guess| 1 + usize::from(guess != expected));
            let (contexts, sets) = self.before.contexts(at, recent, guess);
            let same = symbol(word, at) == expected && at <= word.len();
            if !self.same.code(coder, same, &contexts, (0, 0), sets)? {
                return Ok(false);
            }
            if expected > 0 {
                self.push(expected)?;
                recent = recent << 8 | u64::from(expected);
            }
        }
        Ok(true)
    }

    /// Appends the byte of a symbol to the word.
    fn push(&mut self, symbol: Symbol) -> Result<(), CodingError> {
        self.remaining_bytes = self.remaining_bytes.checked_sub(1).ok_or(CodingError::Invalid)?;
        self.word.push((symbol - 1) as u8);
        Ok(())
    }

    /// Codes the symbols from the first one on that differs from the word before.
    fn code_rest<C: BitCoder>(&mut self, coder: &mut C, word: &[u8]) -> Result<(), CodingError> {
        let shared = self.word.len();
        let rest_before = self.before.rest(shared);
        let mut floor = Some(symbol(&self.before.word, shared));
        let (mut recent, mut rest) = (0, 0u64);
        self.word.iter().for_each(|&byte| recent = recent << 8 | (u64::from(byte) + 1));
        loop {
            let at = self.word.len();
            let guess = self.capitals.guess(&self.word, floor);
            let last = |symbols: u32| recent & ((1 << (8 * symbols)) - 1);
            let guessed = guess.map_or(0, |guess| u64::from(guess) + 1);
            let above = floor.map_or(0, |floor| u64::from(floor) + 1);
            let (first, latest) = (kind(self.word.first()), kind(self.word.last()));
            let (length, new) = (at.min(12) as u64, (at - shared).min(3) as u64);
            let contexts = [
                context(0, &[first, latest]),
                context(1, &[last(1), first]),
                context(2, &[last(2)]),
                context(3, &[last(3)]),
                context(4, &[last(4)]),
                context(5, &[last(5)]),
                context(6, &[length, first, new]),
                context(7, &[above, length]),
                context(8, &[above, last(1)]),
                context(9, &[rest_before, rest]),
                context(10, &[guessed, last(1)]),
                context(11, &[length, last(2)]),
            ];
            let by_place = 4 * new.min(2) as usize + first.min(3) as usize;
            let by_length = at.min(7);
            let actual = symbol(word, at);
            let mut depth = 0;
            let (mut group, mut member) = (0, 1);
            let mut node = Node::root();
            let coded = loop {
                // A symbol above the floor is on the right; no decision is needed.
                let forced = floor.is_some_and(|floor| node.split <= floor + 1);
                let right = forced || {
                    let side = guess.map_or(0, |guess| 1 + usize::from(guess >= node.split));
                    let sets =
                        [12 * depth.min(7) + by_place, 8 * (2 * side + usize::from(floor.is_some())) + by_length];
                    self.symbols.code(coder, actual >= node.split, &contexts, (group, member), sets)?
                };
                depth += 1;
                member = 2 * member + u32::from(right);
                if member >= 16 {
                    (group, member) = (group << 5 | member, 1);
                }
                match node.child(right) {
                    Child::Node(next) => node = next,
                    Child::Leaf(symbol) => break symbol,
                }
            };
            if coded == 0 {
                return Ok(());
            }
            self.push(coded)?;
            recent = recent << 8 | u64::from(coded);
            rest = (rest ^ u64::from(coded)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            floor = None;
        }
    }
}

impl Before {
    /// Contexts of the decision whether the next word has the same symbol at `at`, and the weight
    /// sets.
    fn contexts(&self, at: usize, recent: u64, guess: usize) -> ([u32; 9], [usize; 2]) {
        let expected = u64::from(symbol(&self.word, at));
        let last = |symbols: u32| recent & ((1 << (8 * symbols)) - 1);
        let family = self.families.get(at).map_or(0, |&words| u64::from(u32::BITS - words.leading_zeros()));
        let after_shared = (at as i64 - self.shared as i64).clamp(-3, 3) + 3;
        let (place, left) = (at.min(7) as u64, (self.word.len() - at).min(7) as u64);
        let (relative, guessed) = (after_shared as u64, guess as u64);
        let contexts = [
            context(0, &[place, family]),
            context(1, &[relative, left, family.min(3)]),
            context(2, &[last(1), expected]),
            context(3, &[last(2), expected]),
            context(4, &[last(3), expected]),
            context(5, &[expected, relative, guessed]),
            context(6, &[guessed, family, left.min(3)]),
            context(7, &[self.word.len() as u64, self.shared as u64, place]),
            context(8, &[self.rest(at)]),
        ];
        (contexts, [8 * place as usize + family.min(7) as usize, 3 * after_shared as usize + guess])
    }

    /// Hash of the bytes from `at` on, 0 past the end.
    fn rest(&self, at: usize) -> u64 {
        self.rests.get(at).copied().unwrap_or(0)
    }

    /// Makes `word` the word before; it shares `shared` bytes with the previous one. The previous
    /// word is left in `word`, so its buffer is used again.
    fn replace(&mut self, word: &mut Vec<u8>, shared: usize) {
        std::mem::swap(&mut self.word, word);
        self.shared = shared;
        self.families.truncate(shared);
        self.families.iter_mut().for_each(|words| *words = words.saturating_add(1));
        self.families.resize(self.word.len() + 1, 1);
        self.rests.clear();
        self.rests.resize(self.word.len() + 1, 0);
        let mut hash = 0u64;
        for (rest, &byte) in self.rests.iter_mut().zip(&self.word).rev() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            *rest = hash ^ hash >> 32;
        }
    }
}

/// Class of a byte.
fn kind(byte: Option<&u8>) -> u64 {
    match byte {
        None => 0,
        Some(b'a'..=b'z') => 1,
        Some(b'A'..=b'Z') => 2,
        Some(b'0'..=b'9') => 3,
        Some(128..) => 4,
        Some(_) => 5,
    }
}
