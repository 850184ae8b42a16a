//! Entropy coding: what is likely takes few bits.
//!
//! ```text
//! codes, words          what is coded               codes.rs  halves.rs  words/
//!    |  binary decisions, each with its contexts
//! adaptive bits         how often in this context?  adaptive.rs
//!    |  several answers, as logits
//! mixer                 weighted sum, learned       mixer.rs  logistic.rs
//!    |  one probability
//! range coder           bytes                       range.rs
//! ```
//!
//! Encoder and decoder run the same model: code that models is written once, for any [`BitCoder`].
//! All of it counts in integers, so every machine decodes the same bits. Context mixing is
//! Mahoney's (PAQ, 2002-2009), binary arithmetic coding with adaptive contexts that of JPEG 2000
//! and H.264 (CABAC).

mod adaptive;
mod codes;
mod halves;
mod logistic;
mod mixer;
mod range;
pub mod words;

pub use codes::{decode_codes, encode_codes};
pub use halves::{decode_halves, encode_halves};
pub use logistic::Probability;
pub use range::{BitCoder, CodingError, Decoder, Encoder};
