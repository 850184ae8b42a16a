//! Errors of artifacts. Each carries the values that a user needs to find the cause.

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
        /// The probable kind of the file, if it is recognized.
        looks_like: Option<&'static str>,
    },
    /// The file was written by a newer program.
    #[error("artifact format {found} is newer than the supported format {supported}")]
    NewerFormat {
        /// Format of the file.
        found: u16,
        /// Newest format that this program reads.
        supported: u16,
    },
    /// The format version is older than any that this program reads.
    #[error("artifact format {found} is not supported")]
    UnknownFormat {
        /// Format of the file.
        found: u16,
    },
    /// The file ends before a section does.
    #[error("the {section} is truncated: it needs {needed} bytes, but the file has {available} left")]
    Truncated {
        /// The section.
        section: Section,
        /// Its length, in bytes.
        needed: u64,
        /// Bytes from its start to the end of the file.
        available: u64,
    },
    /// A checksum does not match: bytes were changed after writing.
    #[error("the {section} is damaged: its checksum is {computed:08x}, but {stored:08x} was stored")]
    Checksum {
        /// The section.
        section: Section,
        /// CRC-32 in the file.
        stored: u32,
        /// CRC-32 of the bytes.
        computed: u32,
    },
    /// A field of the section table does not have the value that the format requires.
    #[error("{field} in the section table is {found}, but must be {expected}")]
    SectionTable {
        /// Which field.
        field: &'static str,
        /// Its value.
        found: u16,
        /// The value that the format requires.
        expected: u16,
    },
    /// There are bytes after the last section.
    #[error("{bytes} extra bytes after the {section}")]
    TrailingBytes {
        /// The section after which the file should end.
        section: Section,
        /// How many bytes.
        bytes: u64,
    },
    /// The config is not the JSON that the format requires.
    #[error("the config is not valid")]
    Config(#[source] serde_json::Error),
    /// The config describes a model that cannot be built.
    #[error("the architecture is not valid")]
    Architecture(#[from] ArchitectureError),
    /// The size of the vocabulary differs from the architecture.
    #[error("the vocabulary has {found} words, but the architecture has {expected}")]
    VocabularySize {
        /// Number of words in the vocabulary.
        found: usize,
        /// `vocab_size` of the architecture.
        expected: usize,
    },
    /// An entropy-coded section cannot be decoded.
    #[error("the {section} cannot be decoded")]
    Coding {
        /// The section.
        section: Section,
        /// Why.
        source: CodingError,
    },
    /// The list of words is not a valid vocabulary.
    #[error("the vocabulary is not valid")]
    Vocabulary(#[from] VocabularyError),
    /// A word is not UTF-8, or too long.
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
    /// A tensor has the wrong number of elements, codes or scales.
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
    /// The stored form of a tensor differs from what the quantization of the architecture requires.
    #[error("tensor {tensor} is stored as {found}, but the architecture requires {expected}")]
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
    /// The weights section is too short for the number of elements of a trained model.
    #[error("{bytes} bytes of weights are too few for {elements} elements of a trained model")]
    Expansion {
        /// Elements of all tensors.
        elements: u64,
        /// Bytes of the section.
        bytes: u64,
    },
    /// The coded bytes of a tensor cannot be decoded.
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
