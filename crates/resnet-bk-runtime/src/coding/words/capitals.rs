//! "The" announces "the": upper case sorts before lower case, so a lower-case word may have been
//! met with a capital.
//!
//! ```text
//! met       Talk Tall Thomas                   folded to lower case, in order
//! words     ... take  tal|k                    the first that is greater than the word before, if it starts as
//!                     |->  "talk" says k       this word does, says how it goes on
//! ```

use super::alphabet::{Symbol, symbol};
use super::list::WordList;

/// Capitalized words in lower case, and how far the words in lower case have come among them.
#[derive(Default)]
pub(super) struct Capitals {
    folded: Option<WordList>,
    /// Those before are not greater than the current word.
    next: usize,
}

/// Longer words are not compared: the time for a word should not grow with the square of its
/// length.
const MAX_BYTES: usize = 64;

impl Capitals {
    /// Learns that the next word comes after `word`, the last of `list`.
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

    /// How the current word, which starts with `word`, may go on: with a symbol above `floor`, if
    /// there is one.
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
    fn it_goes_through_the_capitalized_words_in_order() {
        let list: WordList = [&b"1"[..], b"TALL", b"Talk", b"Thomas", b"take"].into_iter().collect();
        let mut capitals = Capitals::default();
        assert_eq!(capitals.guess(b"", None), None);
        capitals.advance(&list, b"take");
        let says = |byte: u8| Some(Symbol::from(byte) + 1);
        assert_eq!(capitals.guess(b"ta", None), says(b'l'));
        assert_eq!(capitals.guess(b"ta", says(b'k')), says(b'l'));
        assert_eq!(capitals.guess(b"tal", None), says(b'k'));
        assert_eq!(capitals.guess(b"talk", None), Some(0));
        capitals.advance(&list, b"talk");
        assert_eq!(capitals.guess(b"talk", Some(0)), None);
        assert_eq!(capitals.guess(b"t", says(b'a')), says(b'h'));
        assert_eq!(capitals.guess(b"u", None), None);
    }
}
