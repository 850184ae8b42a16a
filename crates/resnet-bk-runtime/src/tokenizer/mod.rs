//! Words to ids and back.
//!
//! ```text
//! text --lines--> line --pretokenizer--> words --vocabulary--> ids, then <eos>
//! ```
//!
//! This is the word-level protocol of WikiText: blank lines are dropped, `<eos>` ends every kept line, and a word which is
//! not in the vocabulary becomes `<unk>`. Nothing is lower-cased or otherwise normalised: `The` and `the` are two words.

mod pretokenizer;
mod vocabulary;

pub use pretokenizer::{Pretokenizer, Words};
pub use vocabulary::{END_OF_LINE, UNKNOWN, Vocabulary, VocabularyError};
