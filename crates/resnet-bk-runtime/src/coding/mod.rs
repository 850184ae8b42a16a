//! Entropy coding with adaptive binary probabilities, logistic mixing and a range coder.
//!
//! ```text
//! codes, scales, words      symbols                        codes.rs  halves.rs  words/
//!    |   binary decisions, each in several contexts
//! adaptive probabilities    one estimate per context       adaptive.rs
//!    |   logits
//! logistic mixing           weighted sum of the logits     mixer.rs  logistic.rs
//!    |   one probability
//! range coder               bytes                          range.rs  recorder.rs
//! ```
//!
//! Encoder and decoder run the same model. The modeling code is written once, generic over
//! [`BitCoder`]. It uses integer arithmetic only, so every machine decodes the same bits.
//!
//! Logistic mixing of contexts follows PAQ (Mahoney, 2002-2009). Binary arithmetic coding with
//! adaptive contexts is also used by JPEG 2000 and H.264 (CABAC).

mod adaptive;
mod codes;
mod halves;
mod logistic;
mod mixer;
mod range;
mod recorder;
pub mod words;

pub use codes::{decode_codes, encode_codes};
pub use halves::{decode_halves, encode_halves};
pub use logistic::Probability;
pub use range::{BitCoder, CodingError, Decoder, Encoder};
pub use recorder::Recorder;
