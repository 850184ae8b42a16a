//! Converts text to token ids and back.
//!
//! ```text
//! text --lines--> line --pretokenizer--> words --vocabulary--> ids, then <eos>
//! ```
//!
//! Blank lines are dropped unless the vocabulary keeps them ([`BlankLines`]). `<eos>` ends every
//! line that is kept. A word that is not in the vocabulary becomes `<unk>`. Text is not lower-cased
//! or normalized: `The` and `the` are two words.

mod detokenizer;
mod pretokenizer;
mod vocabulary;

pub use detokenizer::Detokenizer;
pub use pretokenizer::{Pretokenizer, Words};
pub use vocabulary::{BlankLines, END_OF_LINE, UNKNOWN, Vocabulary, VocabularyError};
