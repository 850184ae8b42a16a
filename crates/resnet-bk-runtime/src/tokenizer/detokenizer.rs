//! From ids to readable text, one token at a time.
//!
//! ```text
//! said | , | " | no | . | " | <eos> | He     ->  said, "no."⏎He
//! ```
//!
//! Words are separated by one space, except that
//!
//! - `<eos>` becomes a line break;
//! - closing marks (`, . ! ? ; : % ) ] }`) and parts such as `'s`, `'ll`, `n't` follow the word
//!   before directly;
//! - opening marks (`( [ { $ £`) are followed directly;
//! - every second `"` of a line closes;
//! - WikiText's `@-@`, `@,@` and `@.@` join their neighbors as `-`, `,` and `.`.

use super::Vocabulary;

/// What the spaces before the next word depend on: the words of the line so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Detokenizer {
    /// Whether the next word follows directly.
    tight: bool,
    /// Whether a `"` is open.
    quoted: bool,
}

impl Detokenizer {
    /// At the start of a line: nothing precedes the first word, so no space does.
    pub const START_OF_LINE: Self = Self { tight: true, quoted: false };

    /// Appends the token `id` to `text`, with the space before it where one belongs.
    ///
    /// # Panics
    /// If the vocabulary has no such id.
    pub fn push(&mut self, vocabulary: &Vocabulary, id: u32, text: &mut String) {
        if id == vocabulary.end_of_line() {
            text.push('\n');
            *self = Self::START_OF_LINE;
            return;
        }
        let word = vocabulary.word(id);
        let (before, after, shown) = match word {
            "\"" => {
                self.quoted = !self.quoted;
                (!self.quoted, self.quoted, word)
            }
            "@-@" | "@,@" | "@.@" => (true, true, &word[1..2]),
            "(" | "[" | "{" | "$" | "£" | "“" | "‘" => (false, true, word),
            _ => (follows_directly(word), false, word),
        };
        if !self.tight && !before {
            text.push(' ');
        }
        text.push_str(shown);
        self.tight = after;
    }
}

/// Whether no space is written before `word`.
fn follows_directly(word: &str) -> bool {
    let closes = |c: char| matches!(c, ',' | '.' | '!' | '?' | ';' | ':' | '%' | ')' | ']' | '}' | '”' | '…');
    word == "n't"
        || word.chars().all(closes)
        || word.strip_prefix(['\'', '’']).is_some_and(|rest| rest.chars().all(char::is_alphabetic))
}
