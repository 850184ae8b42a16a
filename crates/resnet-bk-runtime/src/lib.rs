//! Runs compressed ResNet-BK language models: small files (`.rbk`) that suggest words, write text
//! and score it. A text that grows is followed in memory of a fixed size. No training framework is
//! needed.
//!
//! # Suggest the next word
//!
//! ```
//! use resnet_bk_runtime::LanguageModel;
//!
//! let model = LanguageModel::open("tests/data/tiny-english.rbk")?;
//! for suggestion in model.suggest("I want", 3)? {
//!     println!("{:.2} {}", suggestion.probability, suggestion.word);
//! }
//! # assert_eq!(model.suggest("I want", 1)?[0].word, "to");
//! # Ok::<(), resnet_bk_runtime::Error>(())
//! ```
//!
//! # Write text, as it comes
//!
//! ```
//! use resnet_bk_runtime::{GenerateOptions, LanguageModel};
//!
//! let model = LanguageModel::from_bytes(include_bytes!("../tests/data/tiny-english.rbk"))?;
//! let options = GenerateOptions::default().max_tokens(20).temperature(0.7).seed(1);
//! for piece in model.generate("She said that", options)? {
//!     print!("{piece}");
//! }
//! # Ok::<(), resnet_bk_runtime::Error>(())
//! ```
//!
//! # Score text
//!
//! ```
//! # let model = resnet_bk_runtime::LanguageModel::open("tests/data/tiny-english.rbk")?;
//! println!("perplexity {:.1}", model.perplexity("I want to go home.\nShe went to school.\n")?);
//! for token in model.log_probabilities("I want to go home.")? {
//!     println!("{:.2} {}", token.log_probability, token.token);
//! }
//! # Ok::<(), resnet_bk_runtime::Error>(())
//! ```
//!
//! # Follow a text that grows
//!
//! ```
//! # let model = resnet_bk_runtime::LanguageModel::open("tests/data/tiny-english.rbk")?;
//! let mut state = model.state()?;
//! for word in ["Where", "is", "the"] {
//!     state.push(word);
//!     println!("{word}: {:?}", state.suggest(3));
//! }
//! // A part of the next word is there already.
//! println!("s...: {:?}", state.suggest_with_prefix("s", 3));
//! # Ok::<(), resnet_bk_runtime::Error>(())
//! ```
//!
//! # Conditions
//!
//! - Nothing here panics, whatever the bytes, the text or the numbers; everything that can be
//!   refused is an [`Error`].
//! - A model is used from any number of threads at once, and its clones share the weights.
//! - The features change no result by a bit. Machines may differ in the last bits of probabilities:
//!   the last product of matrices is summed in an order of their own.
//!
//! # Features
//!
//! | feature | default | what it adds |
//! | --- | --- | --- |
//! | `rayon` | yes | [`LanguageModel::perplexity`] runs on all threads of the current rayon pool |
//! | `writer` | no | packing of artifacts, for the crate `resnet-bk`; nothing here |

mod architecture;
mod architecture_validation;
mod artifact;
mod coding;
mod embedding;
mod error;
mod generation;
mod head;
#[doc(hidden)]
pub mod internal;
mod kernels;
mod language_model;
mod model;
mod quantization;
mod rank_curve;
#[cfg(feature = "writer")]
mod replace_file;
mod resolvent;
mod router;
mod sample;
mod score;
mod state;
mod tensor_id;
mod tensor_spec;
mod tokenizer;

pub use error::{Error, InvalidArtifact, InvalidOption};
pub use generation::{GenerateOptions, Generation};
pub use language_model::{LanguageModel, SectionSizes, TokenScore};
pub use sample::Suggestion;
pub use state::State;

/// The examples of README.md.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
