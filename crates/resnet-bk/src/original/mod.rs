//! Checkpoints of the original project, [Project
//! ResNet-BK](https://github.com/neko-jpg/Project-ResNet-BK-An-O-N-Language-Model-Architecture), as
//! models of this one.
//!
//! ```text
//! model.pt ---------- zip, pickle ----+
//!                                     +--> tensors --> mapping --> OriginalModel --> with_words --> ModelState
//! model.safetensors ------------------+      config.json, --set ----^      a vocabulary ----^
//!                                                                  |
//!                                                                  +--> forward --> logits, features
//! ```
//!
//! The models are bidirectional: they see the tokens that they should predict. They can be evaluated,
//! compressed and packed, but they cannot generate, and their perplexity is not a language model's.
//!
//! A file may be hostile. Nothing of it is run, and memory is in proportion to it.

mod error;
mod file;
mod forward;
mod mapping;
mod pickle;
mod settings;
mod tensor;
#[cfg(test)]
mod tests;
mod words;
mod zip;

pub use error::{Fault, OriginalError};
pub use forward::IdsError;
pub use pickle::{PickleError, PickleFault};
pub use settings::OriginalSettings;
pub use tensor::ViewError;
pub use words::OriginalWords;
pub use zip::ZipError;

use crate::checkpoint::{Compression, ModelState};
use crate::config::ModelConfig;
use crate::parameters::Parameters;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A model of the original project, which has no vocabulary.
#[derive(Clone, Debug)]
pub struct OriginalModel {
    /// The file that it was read from.
    pub path: PathBuf,
    /// Its configuration.
    pub config: ModelConfig,
    /// Its weights.
    pub parameters: Parameters,
}

impl OriginalModel {
    /// Reads a torch checkpoint (with `model_state_dict`, or a bare state_dict), or a safetensors file
    /// with the same names. Sizes come from the file, `settings` from the caller, else from the
    /// config.json beside it, else from the original project's defaults.
    ///
    /// # Errors
    /// [`OriginalError`] with the file and the place in it.
    pub fn read(path: &Path, settings: &OriginalSettings) -> Result<Self, OriginalError> {
        let bytes = std::fs::read(path).map_err(|error| Fault::Read(error).at(path))?;
        let settings = settings.or(&OriginalSettings::beside(path)?);
        let tensors = file::read(&bytes).map_err(|fault| fault.at(path))?;
        let (config, parameters) = mapping::model(tensors, &settings).map_err(|fault| fault.at(path))?;
        Ok(Self { path: path.to_owned(), config, parameters })
    }

    /// The model with a vocabulary.
    ///
    /// # Errors
    /// [`OriginalError`], if the words cannot be read, are no vocabulary, or are not as many as the
    /// model has.
    pub fn with_words(mut self, words: OriginalWords) -> Result<ModelState, OriginalError> {
        let vocabulary = words.vocabulary(&mut self.parameters, &self.path)?;
        Ok(ModelState {
            config: self.config,
            parameters: self.parameters,
            vocabulary: Arc::new(vocabulary),
            compression: Compression::default(),
        })
    }
}

/// Whether a tensor with this name is the one by which a model of the original project is known.
pub(crate) fn is_name_of_original(name: &str) -> bool {
    name.ends_with(mapping::EMBEDDING)
}

/// Whether a file begins as a torch checkpoint does.
pub(crate) fn is_torch(start: &[u8]) -> bool {
    start.starts_with(file::ZIP)
}
