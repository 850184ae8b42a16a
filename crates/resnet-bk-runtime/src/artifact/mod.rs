//! The `.rbk` file: a complete language model. Nothing that can be derived is stored.
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
//!                           end of file
//! ```
//!
//! Numbers are little-endian. Names, shapes, order and quantizers of the tensors are not stored.
//! They follow from [`Architecture::tensors`] and [`Architecture::scheme`]. Every byte is covered
//! by a checksum. Every length is compared with the file before memory is allocated for it. Reading
//! the output of [`Artifact::to_bytes`] and writing it again gives the same bytes.

#![cfg_attr(
    not(feature = "writer"),
    allow(dead_code, reason = "the code that writes a section is beside the code that reads it")
)]

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
#[cfg(feature = "rayon")]
use rayon::join;
use std::collections::HashMap;
use std::fs;
use std::path::Path;

/// Lengths of the sections of a file in bytes, in the order of the file.
///
/// # Errors
/// If the container is not valid: header, section lengths or checksums.
pub fn section_lengths(bytes: &[u8]) -> Result<[u64; 3], ArtifactError> {
    Ok(container::decode(bytes)?.map(|section| section.len() as u64))
}

/// A compressed language model.
#[derive(Clone, Debug, PartialEq)]
pub struct Artifact {
    /// Sizes, mixer and quantization.
    pub architecture: Architecture,
    /// The `V` words, and how text is split into words.
    pub vocabulary: Vocabulary,
    /// The tensors in the order of [`Architecture::tensors`]. Learned scales are not in the list:
    /// they are the scales of their tensors.
    pub tensors: Vec<StoredTensor>,
}

/// Bytes of each part of the weights section for tensors with the given values. The architecture is
/// valid.
///
/// # Errors
/// If a tensor is missing, has another number of elements, or contains NaN or infinity.
#[cfg(feature = "writer")]
pub fn weights_breakdown<'a>(
    architecture: &Architecture,
    values: impl Fn(TensorId) -> Option<&'a [f32]>,
) -> Result<SizeBreakdown, ArtifactError> {
    let coded = weights::encode(architecture, &quantized(architecture, values)?)?;
    Ok(SizeBreakdown::of_weights(&coded.parts))
}

/// Quantizes every tensor by the scheme of the architecture.
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
    /// Quantizes every tensor by the scheme of the architecture. `values` returns the values of a
    /// tensor, row-major.
    ///
    /// # Errors
    /// If the architecture is not valid, the vocabulary has another size, or a tensor is missing,
    /// has another number of elements, or contains NaN or infinity.
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

    /// The model, with every tensor decoded to float32.
    ///
    /// # Panics
    /// If the fields are such that [`to_bytes`](Self::to_bytes) returns an error.
    pub fn to_model(&self) -> Model {
        // The model asks for each tensor once, in an order that differs from the file's.
        let stored = self.stored();
        Model::new(self.architecture.clone(), |id| stored.get(&id).map(|tensor| tensor.to_f32()))
            .expect("the tensors of an artifact match its architecture")
    }

    /// The decoded values of all tensors.
    pub fn values(&self) -> HashMap<TensorId, Vec<f32>> {
        self.stored().into_iter().map(|(id, tensor)| (id, tensor.to_f32())).collect()
    }

    fn stored(&self) -> HashMap<TensorId, &StoredTensor> {
        tensor::stored(&self.architecture).iter().map(|spec| spec.id).zip(&self.tensors).collect()
    }

    /// Encodes the file, and counts its bytes by part.
    ///
    /// # Errors
    /// Everything that [`from_bytes`](Self::from_bytes) would refuse.
    #[cfg(feature = "writer")]
    pub fn encode(&self) -> Result<(Vec<u8>, SizeBreakdown), ArtifactError> {
        let config = config::encode(&self.architecture, &self.vocabulary)?;
        let (vocabulary, weights) = join(
            || vocabulary_section::encode(self.vocabulary.words(), self.architecture.vocab_size),
            || weights::encode(&self.architecture, &self.tensors),
        );
        let (vocabulary, weights) = (vocabulary?, weights?);
        let breakdown = SizeBreakdown::new(config.len() as u64, vocabulary.len() as u64, &weights.parts);
        Ok((container::encode([&config, &vocabulary, &weights.bytes]), breakdown))
    }

    /// The bytes of the file.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    #[cfg(feature = "writer")]
    pub fn to_bytes(&self) -> Result<Vec<u8>, ArtifactError> {
        Ok(self.encode()?.0)
    }

    /// Decodes a file. The bytes may come from an untrusted source.
    ///
    /// # Errors
    /// If the bytes are not a valid artifact. It never panics, and the memory that it allocates is
    /// in proportion to the file.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ArtifactError> {
        let [config, vocabulary, weights] = container::decode(bytes)?;
        let (architecture, pretokenizer, blank_lines) = config::decode(config)?;
        let (words, tensors) = join(
            || vocabulary_section::decode(vocabulary, architecture.vocab_size),
            || weights::decode(&architecture, weights),
        );
        let vocabulary = Vocabulary::new(words?, pretokenizer)?.with_blank_lines(blank_lines);
        Ok(Self { vocabulary, tensors: tensors?, architecture })
    }

    /// Reads a file.
    ///
    /// # Errors
    /// As [`from_bytes`](Self::from_bytes), and if the file cannot be read.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, ArtifactError> {
        let path = path.as_ref();
        let bytes = fs::read(path).map_err(|source| ArtifactError::Read { path: path.to_owned(), source })?;
        Self::from_bytes(&bytes)
    }

    /// Writes a file atomically: if it fails, an existing file is unchanged.
    ///
    /// # Errors
    /// As [`to_bytes`](Self::to_bytes), and if the file cannot be written.
    #[cfg(feature = "writer")]
    pub fn write(&self, path: impl AsRef<Path>) -> Result<(), ArtifactError> {
        let path = path.as_ref();
        let bytes = self.to_bytes()?;
        replace_file(path, &bytes).map_err(|source| ArtifactError::Write { path: path.to_owned(), source })
    }

    /// Length of the weights section in bytes.
    ///
    /// # Errors
    /// If the tensors do not match the architecture, or are not finite.
    #[cfg(feature = "writer")]
    pub fn weights_bytes(&self) -> Result<u64, ArtifactError> {
        Ok(weights::encode(&self.architecture, &self.tensors)?.bytes.len() as u64)
    }

    /// The size breakdown of the file: bytes by part.
    ///
    /// # Errors
    /// As [`to_bytes`](Self::to_bytes).
    #[cfg(feature = "writer")]
    pub fn size_breakdown(&self) -> Result<SizeBreakdown, ArtifactError> {
        Ok(self.encode()?.1)
    }
}

#[cfg(not(feature = "rayon"))]
fn join<A, B>(first: impl FnOnce() -> A, second: impl FnOnce() -> B) -> (A, B) {
    (first(), second())
}
