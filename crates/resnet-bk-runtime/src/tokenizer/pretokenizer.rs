//! Splits a line into words.
//!
//! ```text
//! Whitespace   He said , " don 't . "            ->  He | said | , | " | don | 't | . | "
//! Words        He said, "John's well-known."     ->  He | said | , | " | John | 's | well-known | . | "
//! ```

use serde::{Deserialize, Serialize};

/// The rule that splits a line into words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pretokenizer {
    /// Splits at white space only. For text that is tokenized already, such as WikiText.
    Whitespace,
    /// For raw text. Splits at white space, then within each piece:
    ///
    /// - letters, digits, marks and `_` form words, in any script. In a script without spaces, the
    ///   whole piece is one word;
    /// - an apostrophe, hyphen or dot between two such characters belongs to the word: `don't`,
    ///   `well-known`, `U.S`;
    /// - a comma or colon between two digits belongs to the word: `1,000`, `5:30`;
    /// - a final `'s` is a separate word, because it can follow any noun: `John` `'s`;
    /// - a run of dots or a run of hyphens is one word (`...`). Every other punctuation mark or
    ///   symbol is a word by itself.
    ///
    /// Every character that is not white space is part of exactly one word.
    Words,
}

impl Pretokenizer {
    /// Returns the words of `text` in order, borrowed from it. Line breaks count as white space.
    pub fn split(self, text: &str) -> Words<'_> {
        Words { pretokenizer: self, chunks: text.split_whitespace(), rest: "" }
    }
}

/// Iterator over the words of a text; see [`Pretokenizer::split`].
#[derive(Debug, Clone)]
pub struct Words<'a> {
    pretokenizer: Pretokenizer,
    chunks: std::str::SplitWhitespace<'a>,
    /// The rest of the current piece.
    rest: &'a str,
}

impl<'a> Iterator for Words<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        if self.pretokenizer == Pretokenizer::Whitespace {
            return self.chunks.next();
        }
        if self.rest.is_empty() {
            self.rest = self.chunks.next()?;
        }
        let (word, rest) = self.rest.split_at(first_word_length(self.rest));
        self.rest = rest;
        Some(word)
    }
}

/// Length in bytes of the first word of `chunk`, which is not empty and contains no white space.
fn first_word_length(chunk: &str) -> usize {
    if let Some(length) = possessive_length(chunk) {
        return length;
    }
    let first = chunk.chars().next().expect("a chunk between white space is not empty");
    if is_word_character(first) {
        return word_length(chunk);
    }
    if matches!(first, '.' | '-') {
        return chunk.find(|c| c != first).unwrap_or(chunk.len());
    }
    first.len_utf8()
}

/// Length in bytes of the word at the start of `chunk`, including joiners, without a final `'s`.
fn word_length(chunk: &str) -> usize {
    let mut characters = chunk.char_indices().peekable();
    let mut previous = None;
    while let Some((at, c)) = characters.next() {
        let inside = is_word_character(c)
            || match (previous, characters.peek()) {
                (Some(before), Some(&(_, after))) => {
                    joins(before, c, after) && possessive_length(&chunk[at..]).is_none()
                }
                _ => false,
            };
        if !inside {
            return at;
        }
        previous = Some(c);
    }
    chunk.len()
}

/// Length in bytes of a `'s` at the start of `chunk`, if no word character follows it.
fn possessive_length(chunk: &str) -> Option<usize> {
    let mut characters = chunk.char_indices();
    let (_, apostrophe) = characters.next()?;
    let (at, letter) = characters.next()?;
    let last = characters.next().is_none_or(|(_, c)| !is_word_character(c) && !is_apostrophe(c));
    (is_apostrophe(apostrophe) && matches!(letter, 's' | 'S') && last).then_some(at + letter.len_utf8())
}

/// Whether `c` joins its two neighbors into one word.
fn joins(before: char, c: char, after: char) -> bool {
    match c {
        '\'' | '’' | '-' | '.' => is_word_character(before) && is_word_character(after),
        ',' | ':' => before.is_ascii_digit() && after.is_ascii_digit(),
        _ => false,
    }
}

fn is_apostrophe(c: char) -> bool {
    matches!(c, '\'' | '’')
}

/// Whether `c` is part of a word wherever it stands.
///
/// The standard library classifies letters and digits, but not punctuation. Marks such as the
/// virama are neither letters nor digits. So outside ASCII a character is a word character unless
/// it lies in a block of punctuation or symbols.
fn is_word_character(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_alphanumeric() || c == '_';
    }
    c.is_alphanumeric()
        || !matches!(c,
            '\u{80}'..='\u{BF}' | '×' | '÷'      // Latin-1 punctuation and symbols
            | '\u{2000}'..='\u{200B}'            // spaces; the joiners U+200C and U+200D stay inside words
            | '\u{200E}'..='\u{2BFF}'            // general punctuation, currency, arrows, mathematics, dingbats
            | '\u{2E00}'..='\u{2E7F}'            // supplemental punctuation
            | '\u{3000}'..='\u{3029}' | '\u{3030}'..='\u{303F}' | '・' // CJK punctuation, but not its tone marks
            | '،'..='؏' | '؛' | '؝'..='؟' | '۔' | '।' | '॥' // Arabic and Indic punctuation
            | '\u{FE10}'..='\u{FE1F}' | '\u{FE30}'..='\u{FE6F}' // vertical and small forms
            | '\u{FF00}'..='\u{FF65}'            // full-width punctuation
            | '\u{FFE0}'..='\u{FFFF}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<&str> {
        Pretokenizer::Words.split(text).collect()
    }

    #[test]
    fn whitespace_splits_on_white_space_alone() {
        let text = " He said ,\t\" don 't . \" @-@\u{3000}x.y\n";
        let expected = ["He", "said", ",", "\"", "don", "'t", ".", "\"", "@-@", "x.y"];
        assert_eq!(Pretokenizer::Whitespace.split(text).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn punctuation_is_split_from_words() {
        assert_eq!(words("Hello, (old) World!"), ["Hello", ",", "(", "old", ")", "World", "!"]);
        assert_eq!(words("\"Val!\" he shouted?!"), ["\"", "Val", "!", "\"", "he", "shouted", "?", "!"]);
        assert_eq!(words("wait... -- no"), ["wait", "...", "--", "no"]);
        assert_eq!(words("$5.50 100%"), ["$", "5.50", "100", "%"]);
    }

    #[test]
    fn apostrophes_stay_in_words_and_possessives_are_split() {
        assert_eq!(words("don't o'clock I’m"), ["don't", "o'clock", "I’m"]);
        assert_eq!(words("John's it’s. 'so' 's"), ["John", "'s", "it", "’s", ".", "'", "so", "'", "'s"]);
        assert_eq!(words("students' rock'n'roll"), ["students", "'", "rock'n'roll"]);
        assert_eq!(words("'sun's'"), ["'", "sun's", "'"], "a quotation mark directly after `'s` keeps the word whole");
    }

    #[test]
    fn joiners_join_only_between_word_characters() {
        assert_eq!(
            words("well-known -5 end- U.S. 1,000, 5:30 a,b"),
            ["well-known", "-", "5", "end", "-", "U.S", ".", "1,000", ",", "5:30", "a", ",", "b"]
        );
    }

    #[test]
    fn other_scripts_keep_their_words_whole() {
        assert_eq!(words("क्या हाल है?"), ["क्या", "हाल", "है", "?"]);
        assert_eq!(words("naïve «été» e\u{301}t\u{e9}"), ["naïve", "«", "été", "»", "e\u{301}t\u{e9}"]);
        assert_eq!(words("今日は。元気、"), ["今日は", "。", "元気", "、"]);
        assert_eq!(words("“سلام؟” 3€"), ["“", "سلام", "؟", "”", "3", "€"]);
    }

    #[test]
    fn empty_text_has_no_words() {
        for text in ["", " ", "\n\t\u{2003}"] {
            assert_eq!(words(text), [""; 0]);
            assert_eq!(Pretokenizer::Whitespace.split(text).count(), 0);
        }
    }

    proptest::proptest! {
        #[test]
        fn every_visible_character_is_in_exactly_one_word(text in "\\PC{0,40}|[a-z's.,:\\-0-9 ’]{0,30}") {
            let joined: String = words(&text).concat();
            let visible: String = text.split_whitespace().collect();
            proptest::prop_assert_eq!(joined, visible);
            proptest::prop_assert!(words(&text).iter().all(|word| !word.is_empty()));
        }

        #[test]
        fn splitting_the_words_again_changes_nothing(text in "[a-zA-Z's.,:!?\\-0-9 ]{0,30}") {
            // This holds for single words, not for every text (in `a's'` the split depends on the
            // context). So encoding the words of a vocabulary gives the same words.
            for word in words(&text) {
                if !word.contains(['\'', '’']) {
                    proptest::prop_assert_eq!(words(word), vec![word]);
                }
            }
        }
    }

    #[test]
    fn serde_names_are_lower_case() {
        assert_eq!(serde_json::to_string(&Pretokenizer::Words).expect("serializes"), "\"words\"");
        let parsed: Pretokenizer = serde_json::from_str("\"whitespace\"").expect("parses");
        assert_eq!(parsed, Pretokenizer::Whitespace);
    }
}
