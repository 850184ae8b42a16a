//! The `.rbk` file: a whole language model, and nothing that can be derived.
//!
//! ```text
//!  0   8  magic             89 52 42 4b 0d 0a 1a 0a ("\x89RBK\r\n\x1a\n")
//!  8   2  format version    2
//! 10   2  number of sections, 3
//! 12  48  section table     for each section, in the order of the file:
//!                            0   2  kind       1 CONFIG, 2 VOCABULARY, 3 WEIGHTS
//!                            2   2  encoding   0 plain (CONFIG), 1 entropy-coded (the others)
//!                            4   4  CRC-32 of the section's bytes as stored
//!                            8   8  length in bytes, as stored
//! 60   4  CRC-32 of the 60 bytes above
//! 64      CONFIG            JSON: architecture, pretokenizer
//!         VOCABULARY        number of words, then the coded words (artifact/vocabulary_section.rs, coding/words/)
//!         WEIGHTS           coded scales and codes, or floats, of each tensor (artifact/weights.rs)
//!                           end of file: nothing may follow
//! ```
//!
//! Numbers are little-endian. Names, shapes, order and quantizers of the tensors are not stored:
//! they follow from [`Architecture::tensors`] and [`Architecture::scheme`]. Every byte is covered
//! by a checksum and every length is compared with the file before anything is allocated for it.
//! What [`Artifact::to_bytes`] wrote comes back from reading and writing again as the same bytes.

#![cfg_attr(not(feature = "writer"), allow(dead_code, reason = "what writes a section stands beside what reads it"))]

mod config;
mod container;
mod error;
mod foreign;
mod section;
mod size_breakdown;
mod tensor;
#[cfg(all(test, feature = "writer"))]
mod tests;
mod vocabulary_section;
mod weights;

pub use container::FORMAT_VERSION;
pub use error::ArtifactError;
pub use foreign::guess as looks_like;
pub use section::Section;
pub use size_breakdown::{SizeBreakdown, SizeEntry, SizeKind};
pub use tensor::StoredTensor;

use crate::architecture::Architecture;
use crate::model::Model;
#[cfg(feature = "writer")]
use crate::quantization::ScaleMode;
#[cfg(feature = "writer")]
use crate::replace_file::replace_file;
use crate::tensor_id::TensorId;
use crate::tokenizer::Vocabulary;
use std::collections::HashMap;
use std::fs;
use std::path::Path;

/// Lengths of the sections of a file, in the order of the file, in bytes.
///
/// # Errors
/// Where the sections do not fit the file, or their checksums do not fit them.
pub fn section_lengths(bytes: &[u8]) -> Result<[u64; 3], ArtifactError> {
    Ok(container::decode(bytes)?.map(|section| section.len() as u64))
}

/// A compressed language model.
#[derive(Clone, Debug, PartialEq)]
pub struct Artifact {
    /// Sizes, mixer and quantization.
    pub architecture: Architecture,
    /// The `V` words, and how text is split into them.
    pub vocabulary: Vocabulary,
    /// The tensors, in the order of [`Architecture::tensors`], without learned scales: those are
    /// scales.
    pub tensors: Vec<StoredTensor>,
}

/// Length of the section of weights that a valid architecture's tensors are packed into, in bytes.
///
/// # Errors
/// A tensor that is missing, has another number of elements or holds NaN or infinity.
#[cfg(feature = "writer")]
pub fn weights_bytes<'a>(
    architecture: &Architecture,
    values: impl Fn(TensorId) -> Option<&'a [f32]>,
) -> Result<u64, ArtifactError> {
    Ok(weights::encode(architecture, &quantized(architecture, values)?)?.bytes.len() as u64)
}

/// Every tensor quantized by the architecture's scheme.
#[cfg(feature = "writer")]
fn quantized<'a>(
    architecture: &Architecture,
    values: impl Fn(TensorId) -> Option<&'a [f32]>,
) -> Result<Vec<StoredTensor>, ArtifactError> {
    let mut tensors = Vec::new();
    let specs = architecture.tensors();
    let checked = |id: TensorId| {
        let spec = specs.iter().find(|spec| spec.id == id);
        let missing = || ArtifactError::MissingTensor { tensor: id.to_string() };
        let (spec, values) = spec.zip(values(id)).ok_or_else(missing)?;
        tensor::check_values(spec, values).map(|()| values)
    };
    for spec in tensor::stored(architecture) {
        let values = checked(spec.id)?;
        tensors.push(match architecture.scheme(&spec) {
            Some(scheme) => {
                let log_scales = match scheme.mode {
                    ScaleMode::AbsMax(_) => None,
                    ScaleMode::Learned(_) => Some(checked(spec.id.log_scales())?),
                };
                StoredTensor::Quantized(scheme.quantize(values, scheme.scales(values, log_scales)))
            }
            None => StoredTensor::Float(values.to_vec()),
        });
    }
    Ok(tensors)
}

impl Artifact {
    /// Quantizes every tensor by the architecture's scheme. `values` gives a tensor's values by its
    /// identity, row-major.
    ///
    /// # Errors
    /// An architecture that is not valid, a vocabulary of another size, and a tensor that is
    /// missing, has another number of elements or holds NaN or infinity.
    #[cfg(feature = "writer")]
    pub fn quantize<'a>(
        architecture: Architecture,
        vocabulary: Vocabulary,
        values: impl Fn(TensorId) -> Option<&'a [f32]>,
    ) -> Result<Self, ArtifactError> {
        architecture.validate()?;
        vocabulary_section::check_size(vocabulary.len(), architecture.vocab_size)?;
        let tensors = quantized(&architecture, values)?;
        Ok(Self { architecture, vocabulary, tensors })
    }

    /// The model that the file stands for: every tensor decoded to float32.
    ///
    /// # Panics
    /// If the fields were changed into what [`to_bytes`](Self::to_bytes) refuses.
    pub fn to_model(&self) -> Model {
        // A model looks for each of its tensors once, in another order than the file's.
        let specs = tensor::stored(&self.architecture);
        let stored: HashMap<TensorId, &StoredTensor> = specs.iter().map(|spec| spec.id).zip(&self.tensors).collect();
        Model::new(self.architecture.clone(), |id| stored.get(&id).map(|tensor| tensor.to_f32()))
            .expect("the tensors of an artifact are those of its architecture")
    }

    /// The bytes of the file.
    ///
    /// # Errors
    /// Whatever [`from_bytes`](Self::from_bytes) would refuse.
    #[cfg(feature = "writer")]
    pub fn to_bytes(&self) -> Result<Vec<u8>, ArtifactError> {
        let config = config::encode(&self.architecture, &self.vocabulary)?;
        let vocabulary = vocabulary_section::encode(self.vocabulary.words(), self.architecture.vocab_size)?;
        let weights = weights::encode(&self.architecture, &self.tensors)?;
        Ok(container::encode([&config, &vocabulary, &weights.bytes]))
    }

    /// Reads a file's bytes, which may come from anywhere.
    ///
    /// # Errors
    /// Anything but the bytes of a sound artifact; never a panic, nor an allocation out of
    /// proportion to the file.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ArtifactError> {
        let [config, vocabulary, weights] = container::decode(bytes)?;
        let (architecture, pretokenizer, blank_lines) = config::decode(config)?;
        let words = vocabulary_section::decode(vocabulary, architecture.vocab_size)?;
        let vocabulary = Vocabulary::new(words, pretokenizer)?.with_blank_lines(blank_lines);
        let tensors = weights::decode(&architecture, weights)?;
        Ok(Self { architecture, vocabulary, tensors })
    }

    /// Reads a file.
    ///
    /// # Errors
    /// As [`from_bytes`](Self::from_bytes), and a file that cannot be read.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, ArtifactError> {
        let path = path.as_ref();
        let bytes = fs::read(path).map_err(|source| ArtifactError::Read { path: path.to_owned(), source })?;
        Self::from_bytes(&bytes)
    }

    /// Writes a file in one step: a failure leaves the file that was there as it was.
    ///
    /// # Errors
    /// As [`to_bytes`](Self::to_bytes), and a file that cannot be written.
    #[cfg(feature = "writer")]
    pub fn write(&self, path: impl AsRef<Path>) -> Result<(), ArtifactError> {
        let path = path.as_ref();
        let bytes = self.to_bytes()?;
        replace_file(path, &bytes).map_err(|source| ArtifactError::Write { path: path.to_owned(), source })
    }

    /// Length of the section of weights, in bytes.
    ///
    /// # Errors
    /// Tensors that are not those of the architecture, or not finite.
    #[cfg(feature = "writer")]
    pub fn weights_bytes(&self) -> Result<u64, ArtifactError> {
        Ok(weights::encode(&self.architecture, &self.tensors)?.bytes.len() as u64)
    }

    /// Where the bytes of the file go.
    ///
    /// # Errors
    /// As [`to_bytes`](Self::to_bytes).
    #[cfg(feature = "writer")]
    pub fn size_breakdown(&self) -> Result<SizeBreakdown, ArtifactError> {
        let config = config::encode(&self.architecture, &self.vocabulary)?;
        let vocabulary = vocabulary_section::encode(self.vocabulary.words(), self.architecture.vocab_size)?;
        let weights = weights::encode(&self.architecture, &self.tensors)?;
        Ok(SizeBreakdown::new(config.len() as u64, vocabulary.len() as u64, &weights.parts))
    }
}
