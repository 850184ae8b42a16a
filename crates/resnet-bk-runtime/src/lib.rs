//! Runs compressed ResNet-BK language models. A model is a small file (`.rbk`) that suggests words,
//! generates text and scores text. A text that is extended word by word needs memory of a fixed
//! size. No training framework is needed.
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
//! # Generate text
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
//! # Extend a text word by word
//!
//! ```
//! # let model = resnet_bk_runtime::LanguageModel::open("tests/data/tiny-english.rbk")?;
//! let mut state = model.state()?;
//! for word in ["Where", "is", "the"] {
//!     state.push(word);
//!     println!("{word}: {:?}", state.suggest(3));
//! }
//! // The beginning of the next word is known.
//! println!("s...: {:?}", state.suggest_with_prefix("s", 3));
//! # Ok::<(), resnet_bk_runtime::Error>(())
//! ```
//!
//! # Guarantees
//!
//! - No function of the public interface panics, whatever the bytes, the text or the numbers.
//!   Invalid input is an [`Error`].
//! - Any number of threads may use a model at once. Clones share the weights.
//! - The features of the crate do not change any bit of a result. Between machines the last bits of
//!   probabilities may differ, because the order of summation in the last matrix product may
//!   differ.
//!
//! # Features
//!
//! | feature | default | what it adds |
//! | --- | --- | --- |
//! | `rayon` | yes | [`LanguageModel::perplexity`] and [`LanguageModel::log_probabilities`] run on all threads of the current rayon pool |
//! | `writer` | no | writing of artifacts, for the crate `resnet-bk`; no public item |

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
