//! What can be wrong with an artifact. Every error carries the values that a user needs to find the
//! cause.

use super::section::Section;
use crate::architecture_validation::ArchitectureError;
use crate::coding::CodingError;
use crate::tokenizer::VocabularyError;
use std::fmt;
use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// An artifact that cannot be read, made or written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ArtifactError {
    /// The magic number is missing.
    #[error("not an artifact: starts with {}{}", Hex(start), Guess(*looks_like))]
    NotAnArtifact {
        /// The first bytes, at most eight.
        start: Vec<u8>,
        /// What the bytes are instead, where it shows.
        looks_like: Option<&'static str>,
    },
    /// Written by a later program.
    #[error("artifact format {found} is newer than the supported format {supported}")]
    NewerFormat {
        /// Format of the file.
        found: u16,
        /// Newest format that this program reads.
        supported: u16,
    },
    /// A format version from before this program's.
    #[error("artifact format {found} is not read by this program")]
    UnknownFormat {
        /// Format of the file.
        found: u16,
    },
    /// A section ends after the file does.
    #[error("the {section} is cut short: it needs {needed} bytes, but {available} are left in the file")]
    Truncated {
        /// The section.
        section: Section,
        /// Its length, in bytes.
        needed: u64,
        /// Bytes from its start to the end of the file.
        available: u64,
    },
    /// Bytes were changed after writing.
    #[error("the {section} is damaged: its checksum is {computed:08x}, but {stored:08x} was stored")]
    Checksum {
        /// The section.
        section: Section,
        /// CRC-32 in the file.
        stored: u32,
        /// CRC-32 of the bytes.
        computed: u32,
    },
    /// The section table is not that of the format.
    #[error("the section table has {field} {found}, but must have {expected}")]
    SectionTable {
        /// Which field.
        field: &'static str,
        /// Its value.
        found: u16,
        /// The value that the format has there.
        expected: u16,
    },
    /// Bytes that belong to nothing.
    #[error("{bytes} bytes are left over after the {section}")]
    TrailingBytes {
        /// The section that should have ended there.
        section: Section,
        /// How many bytes.
        bytes: u64,
    },
    /// The config is not the JSON it should be.
    #[error("the config is not valid")]
    Config(#[source] serde_json::Error),
    /// The config describes a model that cannot be built.
    #[error("the architecture is not valid")]
    Architecture(#[from] ArchitectureError),
    /// The vocabulary and the architecture disagree.
    #[error("the vocabulary has {found} words, but the architecture has {expected}")]
    VocabularySize {
        /// Words of the vocabulary.
        found: usize,
        /// `vocab_size` of the architecture.
        expected: usize,
    },
    /// The bytes of an entropy-coded section are not what an encoder wrote.
    #[error("the {section} cannot be decoded")]
    Coding {
        /// The section.
        section: Section,
        /// Why.
        source: CodingError,
    },
    /// The words do not make a vocabulary.
    #[error("the vocabulary is not valid")]
    Vocabulary(#[from] VocabularyError),
    /// A word that is not UTF-8.
    #[error("word {index} of the vocabulary is {fault}")]
    Word {
        /// Id of the word.
        index: usize,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// The number of tensors is not that of the architecture.
    #[error("the artifact has {found} tensors, but the architecture has {expected}")]
    TensorCount {
        /// Tensors given.
        found: usize,
        /// Tensors of the architecture.
        expected: usize,
    },
    /// No values were given for a tensor.
    #[error("tensor {tensor} is missing")]
    MissingTensor {
        /// Its name.
        tensor: String,
    },
    /// A tensor's elements or scales are too few or too many.
    #[error("tensor {tensor} has {found} {what}, but its shape needs {expected}")]
    TensorLength {
        /// Its name.
        tensor: String,
        /// `elements`, `codes` or `scales`.
        what: &'static str,
        /// How many there are.
        found: usize,
        /// How many its shape needs.
        expected: usize,
    },
    /// A tensor is stored in another way than the architecture's quantization says.
    #[error("tensor {tensor} is stored as {found}, but the architecture says {expected}")]
    WrongScheme {
        /// Its name.
        tensor: String,
        /// How it is stored.
        found: String,
        /// How it should be.
        expected: String,
    },
    /// A value is NaN or infinite.
    #[error("tensor {tensor} holds {value} at index {index}")]
    NonFinite {
        /// Its name.
        tensor: String,
        /// Row-major index.
        index: usize,
        /// The value.
        value: f32,
    },
    /// A scale is NaN, infinite or negative.
    #[error("tensor {tensor} has the scale {value} for group {group}")]
    Scale {
        /// Its name.
        tensor: String,
        /// Index of the group.
        group: usize,
        /// The scale.
        value: f32,
    },
    /// A code lies outside its range.
    #[error("tensor {tensor} has the code {code} at index {index}, outside ±{qmax}")]
    Code {
        /// Its name.
        tensor: String,
        /// Row-major index.
        index: usize,
        /// The code.
        code: i16,
        /// Largest code of the tensor's scheme.
        qmax: i16,
    },
    /// The coded weights are too short to be a trained model's.
    #[error("{bytes} bytes of weights cannot hold {elements} numbers of a trained model")]
    Expansion {
        /// Elements of all tensors.
        elements: u64,
        /// Bytes of the section.
        bytes: u64,
    },
    /// The coded bytes are not those of the tensors.
    #[error("tensor {tensor} cannot be decoded")]
    TensorCoding {
        /// Its name.
        tensor: String,
        /// What is wrong with the bytes.
        source: CodingError,
    },
    /// The file could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file could not be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("nothing");
        }
        for (index, byte) in self.0.iter().enumerate() {
            write!(f, "{}{byte:02x}", if index == 0 { "" } else { " " })?;
        }
        Ok(())
    }
}

struct Guess(Option<&'static str>);

impl fmt::Display for Guess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |guess| write!(f, ", which looks like {guess}"))
    }
}
