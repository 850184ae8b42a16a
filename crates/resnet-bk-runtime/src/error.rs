//! Errors of the library.

use crate::artifact::ArtifactError;
use crate::sample::SampleError;
use std::io;
use std::path::PathBuf;

/// An error of this library. The messages contain the values that are needed to find the cause.
///
/// ```
/// use resnet_bk_runtime::{Error, LanguageModel};
///
/// let error = LanguageModel::from_bytes(b"GGUF\x03\x00\x00\x00").unwrap_err();
/// assert!(matches!(error, Error::InvalidArtifact(_)));
/// assert_eq!(
///     error.to_string(),
///     "not an artifact: starts with 47 47 55 46 03 00 00 00, which looks like a GGUF file",
/// );
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The bytes are not a valid artifact.
    #[error(transparent)]
    InvalidArtifact(InvalidArtifact),
    /// The model is bidirectional: it depends on the tokens that it predicts. Its perplexity can be
    /// measured, but it has no probabilities for the next token.
    #[error(
        "a bidirectional model depends on the tokens it predicts: it has a perplexity, but no probabilities for the next token"
    )]
    NotCausal,
    /// An option of text generation is outside its range.
    #[error(transparent)]
    InvalidOption(InvalidOption),
    /// The text has too few tokens for a perplexity. The first token is not predicted.
    #[error("the text has {tokens} tokens, but at least {needed} are needed")]
    TextTooShort {
        /// Number of tokens of the text.
        tokens: usize,
        /// Fewest tokens that are needed.
        needed: usize,
    },
}

/// Why bytes are not a valid artifact: damaged, truncated, of a newer format, or another kind of
/// file.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct InvalidArtifact(pub(crate) ArtifactError);

impl InvalidArtifact {
    /// The format version of the file, if it is newer than this version of the library supports.
    ///
    /// ```
    /// use resnet_bk_runtime::{Error, LanguageModel};
    ///
    /// let mut bytes = include_bytes!("../tests/data/tiny-english.rbk").to_vec();
    /// bytes[8] = 200;
    /// let Err(Error::InvalidArtifact(error)) = LanguageModel::from_bytes(&bytes) else { unreachable!() };
    /// assert_eq!(error.newer_format(), Some(200));
    /// ```
    pub fn newer_format(&self) -> Option<u16> {
        match self.0 {
            ArtifactError::NewerFormat { found, .. } => Some(found),
            _ => None,
        }
    }

    /// The cause, outside semantic versioning like all internals.
    #[doc(hidden)]
    pub fn cause(&self) -> &ArtifactError {
        &self.0
    }
}

/// An option of text generation that is outside its range. The message contains its name, its value
/// and the range.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct InvalidOption(pub(crate) SampleError);

impl InvalidOption {
    /// The cause, outside semantic versioning like all internals.
    #[doc(hidden)]
    pub fn cause(&self) -> &SampleError {
        &self.0
    }
}
