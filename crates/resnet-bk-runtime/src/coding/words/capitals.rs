//! Guesses the next symbol of a lower-case word from capitalized words.
//!
//! Upper case sorts before lower case. When the lower-case words are coded, "The" is known and
//! makes "the" likely.
//!
//! ```text
//! capitalized   Talk Tall Thomas          in lower case, sorted: talk tall thomas
//! coded words   ... take tal|k            "talk" is the first that is greater than "take"; it starts
//!                                         with "tal", so the guess is "k"
//! ```

use super::alphabet::{Symbol, symbol};
use super::list::WordList;

/// The capitalized words in lower case, and a pointer that moves through them in step with the
/// coded words.
#[derive(Default)]
pub(super) struct Capitals {
    folded: Option<WordList>,
    /// Index of the first folded word that is greater than the words coded so far.
    next: usize,
}

/// Longer words are not compared. This keeps the time for a word from growing with the square of
/// its length.
const MAX_BYTES: usize = 64;

impl Capitals {
    /// Prepares for the word after `word`, which is the last of `list`.
    pub fn advance(&mut self, list: &WordList, word: &[u8]) {
        if self.folded.is_none() && word.first().is_some_and(|&byte| byte >= b'a') {
            let capitalized = list.iter().filter(|word| word.first().is_some_and(u8::is_ascii_uppercase));
            let mut folded: Vec<_> =
                capitalized.filter(|word| word.len() <= MAX_BYTES).map(<[u8]>::to_ascii_lowercase).collect();
            folded.sort_unstable();
            self.folded = Some(folded.iter().map(Vec::as_slice).collect());
        }
        self.skip(|folded| folded <= word);
    }

    /// Guesses the symbol that follows `word`, the known start of the current word. It is above
    /// `floor`, if there is one.
    pub fn guess(&mut self, word: &[u8], floor: Option<Symbol>) -> Option<Symbol> {
        if word.len() > MAX_BYTES {
            return None;
        }
        self.skip(|folded| {
            folded < word || folded.starts_with(word) && floor.is_some_and(|floor| symbol(folded, word.len()) <= floor)
        });
        let folded = self.folded.as_ref()?.get(self.next)?;
        folded.starts_with(word).then(|| symbol(folded, word.len()))
    }

    fn skip(&mut self, passed: impl Fn(&[u8]) -> bool) {
        if let Some(folded) = &self.folded {
            while folded.get(self.next).is_some_and(&passed) {
                self.next += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guesses_follow_the_capitalized_words_in_order() {
        let list: WordList = [&b"1"[..], b"TALL", b"Talk", b"Thomas", b"take"].into_iter().collect();
        let mut capitals = Capitals::default();
        assert_eq!(capitals.guess(b"", None), None);
        capitals.advance(&list, b"take");
        let symbol_of = |byte: u8| Some(Symbol::from(byte) + 1);
        assert_eq!(capitals.guess(b"ta", None), symbol_of(b'l'));
        assert_eq!(capitals.guess(b"ta", symbol_of(b'k')), symbol_of(b'l'));
        assert_eq!(capitals.guess(b"tal", None), symbol_of(b'k'));
        assert_eq!(capitals.guess(b"talk", None), Some(0));
        capitals.advance(&list, b"talk");
        assert_eq!(capitals.guess(b"talk", Some(0)), None);
        assert_eq!(capitals.guess(b"t", symbol_of(b'a')), symbol_of(b'h'));
        assert_eq!(capitals.guess(b"u", None), None);
    }
}
