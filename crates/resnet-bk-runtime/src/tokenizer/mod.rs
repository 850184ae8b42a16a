//! Words to ids and back.
//!
//! ```text
//! text --lines--> line --pretokenizer--> words --vocabulary--> ids, then <eos>
//! ```
//!
//! Blank lines are dropped unless the vocabulary says otherwise ([`BlankLines`]), `<eos>` ends
//! every kept line, and a word which is not in the vocabulary becomes `<unk>`. Nothing is
//! lower-cased or otherwise normalised: `The` and `the` are two words.

mod detokenizer;
mod pretokenizer;
mod vocabulary;

pub use detokenizer::Detokenizer;
pub use pretokenizer::{Pretokenizer, Words};
pub use vocabulary::{BlankLines, END_OF_LINE, UNKNOWN, Vocabulary, VocabularyError};
