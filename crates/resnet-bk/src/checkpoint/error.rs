//! Errors of checkpoint files.

use super::agreement::Disagreement;
use super::file::{METADATA, OLDEST, VERSION};
use crate::ranks::LeaderFailed;
use resnet_bk_runtime::internal::architecture_validation::ArchitectureError;
use resnet_bk_runtime::internal::model::ModelError;
use resnet_bk_runtime::internal::tokenizer::VocabularyError;
use safetensors::SafeTensorError;
use safetensors::tensor::Dtype;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// A checkpoint that cannot be read or written.
#[derive(Debug, Error)]
pub enum CheckpointError {
    /// The file cannot be read.
    #[error("cannot read the checkpoint {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file cannot be written.
    #[error("cannot write the checkpoint {path}; the one that was there, if any, is unchanged")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Rank 0 could not read or write the file.
    #[error(transparent)]
    Leader(#[from] LeaderFailed),
    /// The file is damaged, or not a safetensors file.
    #[error("{path} is not a sound checkpoint")]
    Format {
        /// The file.
        path: PathBuf,
        /// Why.
        source: SafeTensorError,
    },
    /// A part of the file does not match its checksum.
    #[error("{path} is damaged: the checksum of {part} does not match")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// `tensor NAME`, or `the metadata`.
        part: String,
    },
    /// The file has an older format.
    #[error(
        "{path} was written by an older resnet-bk: its version is {version}, the oldest that this one reads is {supported}"
    )]
    Older {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u32,
        /// The oldest version that can be read.
        supported: u32,
    },
    /// The file has a newer format.
    #[error("{path} was written by a newer resnet-bk: its version is {version}, this one reads version {supported}")]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u32,
        /// The version that can be read.
        supported: u32,
    },
    /// The content of the file is not a valid model.
    #[error("{path} is not a resnet-bk checkpoint: {message}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
}

/// An error in the content of a file; the path is added by [`at`](ContentError::at).
#[derive(Debug, Error)]
pub(super) enum ContentError {
    #[error("it has no `{METADATA}` metadata")]
    NoMetadata,
    #[error("its metadata has no checksum")]
    NoChecksum,
    #[error("the checksum of {0} does not match")]
    Checksum(String),
    #[error("its version is {0}, newer than the supported {VERSION}")]
    Newer(u32),
    #[error("its version is {0}, older than the supported {OLDEST}")]
    Older(u32),
    #[error("metadata: {0}")]
    Metadata(#[from] serde_json::Error),
    #[error(transparent)]
    Architecture(#[from] ArchitectureError),
    #[error(transparent)]
    Disagreement(#[from] Disagreement),
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error("tensor {name} is {found:?} {found_shape:?}, but must be {expected:?} {expected_shape:?}")]
    Tensor { name: String, found: Dtype, found_shape: Vec<usize>, expected: Dtype, expected_shape: Vec<usize> },
    #[error("tensor {name} has a non-finite value at {index}")]
    NonFinite { name: String, index: usize },
    #[error("tensor {0} is neither 0 nor 1 somewhere")]
    Mask(String),
    #[error("tensor {0} has a part of its moments, but not all: first, second and steps")]
    Moments(String),
    #[error("tensor {0} belongs to no part of the model")]
    Unknown(String),
    #[error("tensor {0} is missing")]
    Missing(String),
    #[error("the vocabulary is missing or not UTF-8")]
    Words,
    #[error("the vocabulary has {found} words, the model {expected}")]
    VocabularySize { found: usize, expected: usize },
    #[error(transparent)]
    Vocabulary(#[from] VocabularyError),
}

impl ContentError {
    /// Adds the path of the file.
    pub(super) fn at(self, path: &Path) -> CheckpointError {
        let path = path.to_owned();
        match self {
            Self::Checksum(part) => CheckpointError::Damaged { path, part },
            Self::Older(version) => CheckpointError::Older { path, version, supported: OLDEST },
            Self::Newer(version) => CheckpointError::Newer { path, version, supported: VERSION },
            other => CheckpointError::Content { path, message: other.to_string() },
        }
    }
}
