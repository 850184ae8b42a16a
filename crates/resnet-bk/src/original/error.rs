//! Errors of checkpoints of the original project.

use super::pickle::PickleError;
use super::settings::KEYS;
use super::tensor::ViewError;
use super::zip::ZipError;
use crate::config::ConfigError;
use crate::corpus::CorpusError;
use resnet_bk_runtime::internal::architecture_validation::ArchitectureError;
use resnet_bk_runtime::internal::tokenizer::VocabularyError;
use safetensors::SafeTensorError;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// What the elements of a weight must be.
pub(super) const REAL: &str = "real floating-point numbers";

/// A checkpoint of the original project that cannot be loaded.
#[derive(Debug, Error)]
#[error("{}: {fault}", path.display())]
pub struct OriginalError {
    /// The file that is at fault: the checkpoint, the config.json beside it, or a vocabulary.
    pub path: PathBuf,
    /// What is wrong with it.
    pub fault: Box<Fault>,
}

/// What is wrong with a file.
#[derive(Debug, Error)]
pub enum Fault {
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Read(std::io::Error),
    /// It is not an archive that torch wrote.
    #[error(transparent)]
    Zip(#[from] ZipError),
    /// The archive has no pickle, or several.
    #[error("the archive has {0} entries NAME/data.pkl, but a torch checkpoint has one")]
    Pickles(usize),
    /// Numbers are not little-endian.
    #[error("its numbers are {0}-endian, but only little-endian ones can be read")]
    ByteOrder(String),
    /// The pickle is not a checkpoint.
    #[error(transparent)]
    Pickle(#[from] PickleError),
    /// It is not a safetensors file.
    #[error("it is not a sound safetensors file: {0}")]
    SafeTensors(#[from] SafeTensorError),
    /// A tensor does not fit the file.
    #[error("tensor {name}: {source}")]
    View {
        /// The tensor.
        name: String,
        /// Why.
        source: ViewError,
    },
    /// Tensors use the same bytes.
    #[error(
        "its tensors take {tensors} bytes, but the file has {file} bytes: tensors that share bytes are not supported"
    )]
    Shared {
        /// Bytes of all tensors together.
        tensors: u64,
        /// Bytes of the file.
        file: u64,
    },
    /// There is nothing of the model in it.
    #[error("it has no tensor `token_embedding.weight`: it is no model of Project ResNet-BK")]
    NoModel,
    /// A tensor is missing.
    #[error("tensor {0} is missing")]
    Missing(String),
    /// A tensor belongs to no part of the model.
    #[error("tensor {0} belongs to no part of the model: models of later steps of Project ResNet-BK are not supported")]
    Unknown(String),
    /// A tensor has other sizes.
    #[error("tensor {name} has the sizes {found:?}, but must have {expected:?}")]
    Sizes {
        /// The tensor.
        name: String,
        /// Its sizes.
        found: Vec<usize>,
        /// The sizes that follow from other tensors.
        expected: Vec<usize>,
    },
    /// A tensor has other elements.
    #[error("tensor {name} is of {found}, but must be of {expected}")]
    Elements {
        /// The tensor.
        name: String,
        /// What its elements are.
        found: String,
        /// What they must be.
        expected: &'static str,
    },
    /// A value is not finite.
    #[error("tensor {name} has a non-finite value at {index}")]
    NonFinite {
        /// The tensor.
        name: String,
        /// Index of the value, row-major.
        index: usize,
    },
    /// A constant of the tridiagonal matrix is not the same everywhere.
    #[error(
        "tensor {name} has the value {found} somewhere and {expected} elsewhere, but one value must hold everywhere"
    )]
    NotConstant {
        /// The tensor.
        name: String,
        /// A value.
        found: f32,
        /// Another one.
        expected: f32,
    },
    /// The sizes are outside of their ranges.
    #[error("its model is not valid: {0}")]
    Config(#[from] ConfigError),
    /// The sizes are outside of their ranges.
    #[error("its model is not valid: {0}")]
    Architecture(#[from] ArchitectureError),
    /// It is not JSON with a model's settings.
    #[error("it is not JSON with {}: {source}", KEYS.join(", "), source = .0)]
    Settings(#[from] serde_json::Error),
    /// The vocabulary has another size than the model.
    #[error("the vocabulary has {found} words, but the model {expected}")]
    VocabularySize {
        /// Words found.
        found: usize,
        /// Size of the model's vocabulary.
        expected: usize,
    },
    /// The vocabulary has no word for unknown words.
    #[error("none of its words is \"<unk>\", which stands for unknown words")]
    NoUnknown,
    /// The words are not a vocabulary.
    #[error("its words are no vocabulary: {0}")]
    Vocabulary(#[from] VocabularyError),
    /// The text that the vocabulary is rebuilt from cannot be read.
    #[error("its vocabulary cannot be rebuilt: {0}")]
    Corpus(#[from] CorpusError),
    /// The file has no vocabulary, and none is given.
    #[error("a checkpoint of Project ResNet-BK has no vocabulary, and none is given")]
    NoVocabulary,
}

impl Fault {
    /// Adds the file.
    pub fn at(self, path: &Path) -> OriginalError {
        OriginalError { path: path.to_owned(), fault: Box::new(self) }
    }
}
