//! The vocabulary: a list of words. The id of a word is its index.

use std::collections::HashMap;

use super::{Detokenizer, Pretokenizer};
use serde::{Deserialize, Serialize};

/// The token for every word outside the vocabulary. Its id is 0.
pub const UNKNOWN: &str = "<unk>";
/// The token at the end of every line of text, for a vocabulary that has it.
pub const END_OF_LINE: &str = "<eos>";

const UNKNOWN_ID: u32 = 0;

/// Why a list of words is not a vocabulary.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VocabularyError {
    /// Id 0 is not `<unk>`.
    #[error("the first word is {}, but must be {UNKNOWN:?}", found.as_ref().map_or("missing".to_owned(), |word| format!("{word:?}")))]
    UnknownNotFirst {
        /// The word at id 0; `None` for an empty list.
        found: Option<String>,
    },
    /// The same word has two ids.
    #[error("word {word:?} has two ids, {first} and {second}")]
    Duplicate {
        /// The word.
        word: String,
        /// Its first index.
        first: usize,
        /// Its second index.
        second: usize,
    },
    /// A word is the empty string.
    #[error("word {id} is empty")]
    Empty {
        /// Its index.
        id: usize,
    },
    /// A word contains white space. No pretokenizer makes such a word.
    #[error("word {id}, {word:?}, contains white space")]
    WhiteSpace {
        /// Its index.
        id: usize,
        /// The word.
        word: String,
    },
    /// There are more words than 32-bit ids.
    #[error("{words} words do not fit 32-bit ids")]
    TooLarge {
        /// Length of the list.
        words: usize,
    },
}

/// Whether lines without words become tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BlankLines {
    /// Blank lines give no token.
    #[default]
    Dropped,
    /// A blank line gives an `<eos>`, as in the published results on WikiText.
    Kept,
}

impl BlankLines {
    /// Whether blank lines give no token.
    pub fn are_dropped(&self) -> bool {
        *self == Self::Dropped
    }
}

/// A word-level vocabulary and its pretokenizer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vocabulary {
    words: Vec<String>,
    ids: HashMap<String, u32>,
    end_of_line: Option<u32>,
    pretokenizer: Pretokenizer,
    blank_lines: BlankLines,
}

impl Vocabulary {
    /// A vocabulary in which `words[id]` has the id `id`. If `<eos>` is not among them, the end of a
    /// line gives no token.
    ///
    /// # Errors
    ///
    /// If `<unk>` is not first, or a word occurs twice, is empty or contains white space.
    pub fn new(words: Vec<String>, pretokenizer: Pretokenizer) -> Result<Self, VocabularyError> {
        if words.first().is_none_or(|word| word != UNKNOWN) {
            return Err(VocabularyError::UnknownNotFirst { found: words.into_iter().next() });
        }
        if u32::try_from(words.len()).is_err() {
            return Err(VocabularyError::TooLarge { words: words.len() });
        }
        let mut ids = HashMap::with_capacity(words.len());
        for (id, word) in words.iter().enumerate() {
            if word.is_empty() {
                return Err(VocabularyError::Empty { id });
            }
            if word.contains(char::is_whitespace) {
                return Err(VocabularyError::WhiteSpace { id, word: word.clone() });
            }
            if let Some(first) = ids.insert(word.clone(), id as u32) {
                return Err(VocabularyError::Duplicate { word: word.clone(), first: first as usize, second: id });
            }
        }
        let end_of_line = ids.get(END_OF_LINE).copied();
        Ok(Self { words, ids, end_of_line, pretokenizer, blank_lines: BlankLines::default() })
    }

    /// The same words with another rule for blank lines.
    pub fn with_blank_lines(self, blank_lines: BlankLines) -> Self {
        Self { blank_lines, ..self }
    }

    /// Number of words, including `<unk>` and, if the vocabulary has it, `<eos>`.
    pub fn len(&self) -> usize {
        self.words.len()
    }

    /// Always false: `<unk>` is in every vocabulary.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// The word of `id`.
    ///
    /// # Panics
    ///
    /// If `id` is not below [`len`](Self::len).
    pub fn word(&self, id: u32) -> &str {
        &self.words[id as usize]
    }

    /// The id of `word`, or that of `<unk>`.
    pub fn id(&self, word: &str) -> u32 {
        self.ids.get(word).copied().unwrap_or(UNKNOWN_ID)
    }

    /// The id of `<unk>`, 0.
    pub fn unknown(&self) -> u32 {
        UNKNOWN_ID
    }

    /// The id of `<eos>`. `None` if the end of a line gives no token.
    pub fn end_of_line(&self) -> Option<u32> {
        self.end_of_line
    }

    /// The token that stands before a text: `<eos>`, or `<unk>` if there is no `<eos>`.
    pub fn start(&self) -> u32 {
        self.end_of_line.unwrap_or(UNKNOWN_ID)
    }

    /// All words, by id.
    pub fn words(&self) -> &[String] {
        &self.words
    }

    /// The rule that splits text into words of this vocabulary.
    pub fn pretokenizer(&self) -> Pretokenizer {
        self.pretokenizer
    }

    /// The rule for blank lines.
    pub fn blank_lines(&self) -> BlankLines {
        self.blank_lines
    }

    /// Converts `text` to ids. `<eos>`, if the vocabulary has it, follows every line. Blank lines
    /// are dropped, or give an `<eos>`, as [`BlankLines`] says.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        let mut ids = Vec::new();
        for line in text.lines() {
            let before = ids.len();
            ids.extend(self.pretokenizer.split(line).map(|word| self.id(word)));
            if ids.len() > before || self.blank_lines == BlankLines::Kept {
                ids.extend(self.end_of_line);
            }
        }
        ids
    }

    /// Converts a prompt to ids: as [`encode`](Self::encode), without `<eos>` at its end, so that a
    /// model continues the last line. Line breaks at the end have no effect.
    pub fn encode_prompt(&self, text: &str) -> Vec<u32> {
        let mut ids = self.encode(text);
        while ids.last().is_some_and(|&id| Some(id) == self.end_of_line) {
            ids.pop();
        }
        ids
    }

    /// Converts ids to readable text, with the spacing of [`Detokenizer`].
    ///
    /// # Panics
    ///
    /// If an id is not below [`len`](Self::len).
    pub fn decode(&self, ids: &[u32]) -> String {
        let mut text = String::new();
        let mut detokenizer = Detokenizer::START_OF_LINE;
        for &id in ids {
            detokenizer.push(self, id, &mut text);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vocabulary(words: &[&str], pretokenizer: Pretokenizer) -> Result<Vocabulary, VocabularyError> {
        Vocabulary::new(words.iter().map(|word| word.to_string()).collect(), pretokenizer)
    }

    fn vocabulary_of(text: &str, pretokenizer: Pretokenizer) -> Vocabulary {
        let mut words = vec![UNKNOWN, END_OF_LINE];
        for word in pretokenizer.split(text) {
            if !words.contains(&word) {
                words.push(word);
            }
        }
        vocabulary(&words, pretokenizer).expect("a valid vocabulary")
    }

    #[test]
    fn ids_are_indices() {
        let vocabulary = vocabulary(&["<unk>", "the", "<eos>", "cat"], Pretokenizer::Whitespace).expect("valid");
        assert_eq!((vocabulary.len(), vocabulary.is_empty()), (4, false));
        assert_eq!((vocabulary.unknown(), vocabulary.end_of_line(), vocabulary.start()), (0, Some(2), 2));
        for (id, word) in vocabulary.words().iter().enumerate() {
            assert_eq!(vocabulary.id(word), id as u32);
            assert_eq!(vocabulary.word(id as u32), word);
        }
        assert_eq!(vocabulary.id("The"), 0, "case is kept, so `The` is unknown");
    }

    #[test]
    fn invalid_lists_are_refused_with_their_values() {
        let refused = |words: &[&str]| vocabulary(words, Pretokenizer::Words).expect_err("invalid").to_string();
        assert_eq!(refused(&[]), "the first word is missing, but must be \"<unk>\"");
        assert_eq!(refused(&["a", "<unk>"]), "the first word is \"a\", but must be \"<unk>\"");
        assert_eq!(refused(&["<unk>", "<eos>", "a", "b", "a"]), "word \"a\" has two ids, 2 and 4");
        assert_eq!(refused(&["<unk>", ""]), "word 1 is empty");
        assert_eq!(refused(&["<unk>", "<eos>", "a b"]), "word 2, \"a b\", contains white space");
        assert!(refused(&["<unk>", "<eos>", "a\u{a0}b"]).contains("white space"));
    }

    #[test]
    fn encode_drops_blank_lines_and_ends_all_others_with_eos() {
        let vocabulary = vocabulary(&["<unk>", "<eos>", "a", "b"], Pretokenizer::Whitespace).expect("valid");
        assert_eq!(vocabulary.encode(""), [0u32; 0]);
        assert_eq!(vocabulary.encode(" \n\n\t\n"), [0u32; 0]);
        assert_eq!(vocabulary.encode("a b\n\n  \nx b a"), [2, 3, 1, 0, 3, 2, 1]);
        assert_eq!(vocabulary.encode("a\r\nb\r\n"), [2, 1, 3, 1]);
        let kept = vocabulary.with_blank_lines(BlankLines::Kept);
        assert_eq!(kept.encode("a b\n\n  \nx b a"), [2, 3, 1, 1, 1, 0, 3, 2, 1]);
        assert_eq!(kept.encode_prompt("a\n\nb"), [2, 1, 1, 3]);
    }

    #[test]
    fn without_eos_the_end_of_a_line_gives_no_token() {
        let vocabulary = vocabulary(&["<unk>", "a", "b"], Pretokenizer::Whitespace).expect("valid");
        assert_eq!((vocabulary.end_of_line(), vocabulary.start()), (None, 0));
        assert_eq!(vocabulary.encode("a b\n\nx a\n"), [1, 2, 0, 1]);
        assert_eq!(vocabulary.encode_prompt("a\nb"), [1, 2]);
        assert_eq!(vocabulary.decode(&[1, 2]), "a b");
        let kept = vocabulary.with_blank_lines(BlankLines::Kept);
        assert_eq!(kept.encode("a\n\nb\n"), [1, 2]);
    }

    #[test]
    fn encode_prompt_omits_the_last_eos() {
        let vocabulary = vocabulary(&["<unk>", "<eos>", "a", "b"], Pretokenizer::Words).expect("valid");
        assert_eq!(vocabulary.encode_prompt(""), [0u32; 0]);
        assert_eq!(vocabulary.encode_prompt("a b"), [2, 3]);
        assert_eq!(vocabulary.encode_prompt("a\n\nb\n"), [2, 1, 3]);
        let kept = vocabulary.with_blank_lines(BlankLines::Kept);
        assert_eq!(kept.encode_prompt("\n\n"), [0u32; 0]);
        assert_eq!(kept.encode_prompt("a\n\nb\n\n"), [2, 1, 1, 3]);
    }

    #[test]
    fn decode_restores_ordinary_text() {
        let text =
            "\"Wait,\" he said (twice); \"it's John's well-known dog...\"\nHe paid $5.50, didn't he? Yes: 100%!\n";
        let vocabulary = vocabulary_of(text, Pretokenizer::Words);
        assert_eq!(vocabulary.decode(&vocabulary.encode(text)), text);
    }

    #[test]
    fn decode_reads_well_for_wikitext() {
        let text = "the 2 @,@ 000 well @-@ known 3 @.@ 5 dogs 's ( do n't ) \" bark \" . ";
        let vocabulary = vocabulary_of(text, Pretokenizer::Whitespace);
        let decoded = vocabulary.decode(&vocabulary.encode_prompt(text));
        assert_eq!(decoded, "the 2,000 well-known 3.5 dogs's (don't) \"bark\".");
    }

    #[test]
    fn decode_starts_each_line_without_a_space() {
        let vocabulary = vocabulary(&["<unk>", "<eos>", "a", "\""], Pretokenizer::Words).expect("valid");
        assert_eq!(vocabulary.decode(&[2, 3, 1, 2, 3, 2, 1, 0]), "a \"\na \"a\n<unk>");
        assert_eq!(vocabulary.decode(&[]), "");
    }
}
