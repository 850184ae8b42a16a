//! A model as files that other programs read.
//!
//! ```text
//! NAME.safetensors    the tensors of `Architecture::tensors` in float32, by the paths of `TensorId`;
//!                     linear maps are [in, out]
//! config.json         Config
//! vocabulary.txt      the words, one a line, in the order of their ids
//! ```
//!
//! The values are those that the model computes with: those of an artifact are decoded.

use resnet_bk_runtime::internal::architecture::Architecture;
use resnet_bk_runtime::internal::artifact::Artifact;
use resnet_bk_runtime::internal::tokenizer::{BlankLines, Pretokenizer};
use safetensors::SafeTensorError;
use safetensors::tensor::{Dtype, TensorView};
use serde::{Deserialize, Serialize};

/// Name of the file with the configuration.
pub const CONFIG: &str = "config.json";
/// Name of the file with the words.
pub const VOCABULARY: &str = "vocabulary.txt";

/// What config.json holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// Sizes, mixer, and how the weights were quantized.
    pub architecture: Architecture,
    /// How lines are split into words.
    pub pretokenizer: Pretokenizer,
    /// Whether blank lines give a token.
    pub blank_lines: BlankLines,
}

/// The contents of the files.
#[derive(Clone, Debug, PartialEq)]
pub struct PlainFiles {
    /// The safetensors file.
    pub weights: Vec<u8>,
    /// JSON of a [`Config`].
    pub config: String,
    /// The words.
    pub vocabulary: String,
}

impl PlainFiles {
    /// The files of a model.
    ///
    /// # Errors
    /// If the weights cannot be encoded as safetensors.
    pub fn new(artifact: &Artifact) -> Result<Self, SafeTensorError> {
        let values = artifact.values();
        let tensors = artifact.architecture.tensors().into_iter().filter_map(|spec| {
            // Learned scales are part of the decoded values.
            let bytes: Vec<u8> = values.get(&spec.id)?.iter().flat_map(|value| value.to_le_bytes()).collect();
            Some((spec.id.to_string(), spec.shape, bytes))
        });
        let tensors: Vec<(String, Vec<usize>, Vec<u8>)> = tensors.collect();
        let views = tensors
            .iter()
            .map(|(name, shape, bytes)| Ok((name, TensorView::new(Dtype::F32, shape.clone(), bytes)?)))
            .collect::<Result<Vec<_>, SafeTensorError>>()?;
        let config = Config {
            architecture: artifact.architecture.clone(),
            pretokenizer: artifact.vocabulary.pretokenizer(),
            blank_lines: artifact.vocabulary.blank_lines(),
        };
        Ok(Self {
            weights: safetensors::serialize(views, None)?,
            config: serde_json::to_string_pretty(&config).expect("a configuration is plain data") + "\n",
            vocabulary: artifact.vocabulary.words().iter().flat_map(|word| [word, "\n"]).collect(),
        })
    }
}
