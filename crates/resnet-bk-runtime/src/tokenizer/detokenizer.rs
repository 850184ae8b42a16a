//! Converts ids to readable text, one token at a time.
//!
//! ```text
//! said | , | " | no | . | " | <eos> | He     ->  said, "no."⏎He
//! ```
//!
//! Words are separated by one space, with these exceptions:
//!
//! - `<eos>` becomes a line break;
//! - there is no space before closing marks (`, . ! ? ; : % ) ] }`) and before parts such as `'s`,
//!   `'ll`, `n't`;
//! - there is no space after opening marks (`( [ { $ £`);
//! - the quotation marks `"` of a line open and close in turn;
//! - WikiText's `@-@`, `@,@` and `@.@` join their neighbors as `-`, `,` and `.`.

use super::Vocabulary;

/// The state that decides whether a space is written before the next word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Detokenizer {
    /// Whether the next word follows without a space.
    tight: bool,
    /// Whether a `"` is open.
    quoted: bool,
}

impl Detokenizer {
    /// The state at the start of a line, where no space is written.
    pub const START_OF_LINE: Self = Self { tight: true, quoted: false };

    /// Appends the token `id` to `text`, after a space where one is needed.
    ///
    /// # Panics
    /// If the vocabulary has no such id.
    pub fn push(&mut self, vocabulary: &Vocabulary, id: u32, text: &mut String) {
        if Some(id) == vocabulary.end_of_line() {
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
