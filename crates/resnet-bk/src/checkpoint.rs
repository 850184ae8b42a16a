//! A model on its way: values, configuration, vocabulary and what was done so far, in one file.
//!
//! The file is a safetensors file. Tensors: the parameters by name; `mask/NAME` (U8) where weights are held at zero;
//! `first/NAME`, `second/NAME`, `steps/NAME` (optimizer moments and their steps, U64) and `auxiliary/NAME` inside an unfinished stage; `vocabulary`, the words as
//! UTF-8, one a line. Metadata: one JSON object under `resnet-bk`. It is written in one step, so an interruption leaves the last
//! good one.

use crate::config::{DistillConfig, MagnitudePruning, ModelConfig, QatConfig};
use crate::corpus::TextFingerprint;
use crate::environment::Environment;
use crate::observer::Removal;
use crate::parameters::{Moments, Parameter, Parameters};
use crate::summary::{PlanSummary, StageSummary};
use crate::train::Judged;
use resnet_bk_runtime::architecture::{Architecture, Role, TensorSpec};
use resnet_bk_runtime::architecture_validation::ArchitectureError;
use resnet_bk_runtime::atomic::write_atomically;
use resnet_bk_runtime::model::ModelError;
use resnet_bk_runtime::tokenizer::{BlankLines, Pretokenizer, Vocabulary, VocabularyError};
use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensorError, SafeTensors};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Key of the metadata.
const METADATA: &str = "resnet-bk";
/// Version of the metadata.
const VERSION: u32 = 2;

/// A model and its history.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// Configuration of this model: a student has its own.
    pub config: ModelConfig,
    /// Values, masks, moments.
    pub parameters: Parameters,
    /// Parameters that only the running stage uses.
    pub auxiliary: Vec<Parameter>,
    /// The words.
    pub vocabulary: Vocabulary,
    /// What was done to the model, for a student to repeat.
    pub compression: Compression,
    /// The stages so far.
    pub stages: Vec<StageSummary>,
    /// The experts removed so far.
    pub removals: Vec<Removal>,
    /// Epochs that the model has seen in all, those of the models that it was made or learned from included.
    pub epochs: usize,
    /// Whether its last epoch gained less than 1 %.
    pub trained_to_end: bool,
    /// The text that the perplexities of `stages` belong to; `None` before the first stage.
    pub text: Option<TextFingerprint>,
    /// What the last stage ran on.
    pub environment: Option<Environment>,
    /// What a planner chose.
    pub plan: Option<Plan>,
    /// How far an unfinished stage has come.
    pub progress: Option<Progress>,
}

/// A planner's choice.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// What it tried.
    pub summary: PlanSummary,
    /// The distillation that it chose.
    pub distillation: DistillConfig,
}

/// Compression that a model carries.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Compression {
    /// How it was quantized.
    pub quantization: Option<QatConfig>,
    /// How single weights were pruned.
    pub magnitude: Option<MagnitudePruning>,
    /// Share of training tokens below which experts were removed.
    pub expert_threshold: Option<f64>,
    /// Experts that a schedule left in each block.
    #[serde(default)]
    pub experts: Option<usize>,
}

/// Progress of an unfinished stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// The stage, from 1.
    pub stage: usize,
    /// Perplexities after each epoch that is done.
    pub epochs: Vec<Judged>,
    /// The best epoch so far, from 1, whose model is in a file of its own beside this one.
    #[serde(default)]
    pub best_epoch: Option<usize>,
    /// Wall time so far, in seconds.
    pub seconds: f64,
    /// Prices of a coded bit: what has been integrated, and what is asked.
    #[serde(default)]
    pub bit_prices: Option<(f64, f64)>,
}

impl Progress {
    /// A stage that begins.
    pub fn new(stage: usize) -> Self {
        Self { stage, epochs: Vec::new(), best_epoch: None, seconds: 0.0, bit_prices: None }
    }
}

/// A checkpoint that can not be read or written.
#[derive(Debug, Error)]
pub enum CheckpointError {
    /// The file can not be read.
    #[error("can not read the checkpoint {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file can not be written.
    #[error("can not write the checkpoint {path}; the one that was there, if any, is unchanged")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is damaged, or not a safetensors file.
    #[error("{path} is not a sound checkpoint")]
    Format {
        /// The file.
        path: PathBuf,
        /// Why.
        source: SafeTensorError,
    },
    /// The file's content does not make a model.
    #[error("{path} is not a resnet-bk checkpoint: {message}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
}

/// What is wrong inside a file, before its name is known.
#[derive(Debug, Error)]
enum ContentError {
    #[error("it has no `{METADATA}` metadata")]
    NoMetadata,
    #[error("its version is {0}, newer than the supported {VERSION}: update resnet-bk")]
    Newer(u32),
    #[error(
        "its version is {0}, older than the supported {VERSION}: train it again, or use the resnet-bk that wrote it"
    )]
    Older(u32),
    #[error("metadata: {0}")]
    Metadata(#[from] serde_json::Error),
    #[error(transparent)]
    Architecture(#[from] ArchitectureError),
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error("tensor {0} is not float32")]
    Type(String),
    #[error("tensor {name} has a non-finite value at {index}")]
    NonFinite { name: String, index: usize },
    #[error("the vocabulary is missing or not UTF-8")]
    Words,
    #[error("the vocabulary has {found} words, the model {expected}")]
    VocabularySize { found: usize, expected: usize },
    #[error(transparent)]
    Vocabulary(#[from] VocabularyError),
}

#[derive(Serialize, Deserialize)]
struct Metadata {
    version: u32,
    config: ModelConfig,
    architecture: Architecture,
    pretokenizer: Pretokenizer,
    #[serde(default)]
    blank_lines: BlankLines,
    compression: Compression,
    stages: Vec<StageSummary>,
    removals: Vec<Removal>,
    epochs: usize,
    trained_to_end: bool,
    text: Option<TextFingerprint>,
    environment: Option<Environment>,
    #[serde(default)]
    plan: Option<Plan>,
    progress: Option<Progress>,
}

impl Checkpoint {
    /// A fresh model for a vocabulary, whose size replaces the configuration's.
    pub fn initialise(config: ModelConfig, vocabulary: Vocabulary, seed: u64) -> Self {
        let config = ModelConfig { vocab_size: vocabulary.len(), ..config };
        Self {
            parameters: Parameters::initialise(config.architecture(), seed),
            auxiliary: Vec::new(),
            vocabulary,
            compression: Compression::default(),
            stages: Vec::new(),
            removals: Vec::new(),
            epochs: 0,
            trained_to_end: false,
            text: None,
            environment: None,
            plan: None,
            progress: None,
            config,
        }
    }

    /// Puts a fresh model in the place of this one and returns it as it was. The words and the record of stages stay.
    pub fn replace_model(&mut self, config: ModelConfig, seed: u64) -> Self {
        let fresh = Self {
            stages: self.stages.clone(),
            removals: self.removals.clone(),
            epochs: self.epochs,
            trained_to_end: self.trained_to_end,
            text: self.text.clone(),
            environment: self.environment.clone(),
            plan: self.plan.clone(),
            ..Self::initialise(config, self.vocabulary.clone(), seed)
        };
        std::mem::replace(self, fresh)
    }

    /// Forgets what only a running stage needs.
    pub fn finish_stage(&mut self) {
        self.progress = None;
        self.auxiliary.clear();
        for parameter in self.parameters.as_mut_slice() {
            parameter.moments = Moments::default();
        }
    }

    /// Writes the file in one step.
    ///
    /// # Errors
    /// [`CheckpointError::Write`]; a file that was there is unchanged.
    pub fn write(&self, path: &Path) -> Result<(), CheckpointError> {
        let written = self.to_bytes().and_then(|bytes| {
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder)?;
            }
            write_atomically(path, &bytes)
        });
        written.map_err(|source| CheckpointError::Write { path: path.to_owned(), source })
    }

    /// Reads a file.
    ///
    /// # Errors
    /// [`CheckpointError`]: a file that is missing, damaged, or no checkpoint.
    pub fn read(path: &Path) -> Result<Self, CheckpointError> {
        let bytes = std::fs::read(path).map_err(|source| CheckpointError::Read { path: path.to_owned(), source })?;
        let format = |source| CheckpointError::Format { path: path.to_owned(), source };
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(format)?;
        let tensors = SafeTensors::deserialize(&bytes).map_err(format)?;
        Self::from_tensors(&tensors, header.metadata().as_ref())
            .map_err(|error| CheckpointError::Content { path: path.to_owned(), message: error.to_string() })
    }

    fn to_bytes(&self) -> std::io::Result<Vec<u8>> {
        let metadata = Metadata {
            version: VERSION,
            config: self.config.clone(),
            architecture: self.parameters.architecture().clone(),
            pretokenizer: self.vocabulary.pretokenizer(),
            blank_lines: self.vocabulary.blank_lines(),
            compression: self.compression.clone(),
            stages: self.stages.clone(),
            removals: self.removals.clone(),
            epochs: self.epochs,
            trained_to_end: self.trained_to_end,
            text: self.text.clone(),
            environment: self.environment.clone(),
            plan: self.plan.clone(),
            progress: self.progress.clone(),
        };
        let mut tensors: Vec<(String, Dtype, Vec<usize>, Vec<u8>)> = Vec::new();
        let mut push = |prefix: &str, parameter: &Parameter| {
            let spec = &parameter.spec;
            let mut float = |kind: &str, values: &[f32]| {
                let bytes = values.iter().flat_map(|x| x.to_le_bytes()).collect();
                tensors.push((format!("{kind}{}", spec.name), Dtype::F32, spec.shape.clone(), bytes));
            };
            float(prefix, &parameter.values);
            if self.progress.is_some() && !parameter.moments.first.is_empty() {
                float(&format!("first/{prefix}"), &parameter.moments.first);
                float(&format!("second/{prefix}"), &parameter.moments.second);
                let steps = parameter.moments.steps.to_le_bytes().to_vec();
                tensors.push((format!("steps/{prefix}{}", spec.name), Dtype::U64, vec![1], steps));
            }
            if let Some(mask) = &parameter.mask {
                let bytes = mask.iter().map(|&keep| u8::from(keep)).collect();
                tensors.push((format!("mask/{}", spec.name), Dtype::U8, spec.shape.clone(), bytes));
            }
        };
        self.parameters.iter().for_each(|parameter| push("", parameter));
        self.auxiliary.iter().for_each(|parameter| push("auxiliary/", parameter));
        let words = self.vocabulary.words().join("\n").into_bytes();
        tensors.push(("vocabulary".to_owned(), Dtype::U8, vec![words.len()], words));
        let views = tensors
            .iter()
            .map(|(name, dtype, shape, bytes)| Ok((name, TensorView::new(*dtype, shape.clone(), bytes)?)))
            .collect::<Result<Vec<_>, SafeTensorError>>()
            .map_err(std::io::Error::other)?;
        let json = serde_json::to_string(&metadata)?;
        safetensors::serialize(views, Some(HashMap::from([(METADATA.to_owned(), json)]))).map_err(std::io::Error::other)
    }

    fn from_tensors(tensors: &SafeTensors, metadata: Option<&HashMap<String, String>>) -> Result<Self, ContentError> {
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let json = metadata.and_then(|map| map.get(METADATA)).ok_or(ContentError::NoMetadata)?;
        let Version { version } = serde_json::from_str(json)?;
        if version > VERSION {
            return Err(ContentError::Newer(version));
        }
        if version < VERSION {
            return Err(ContentError::Older(version));
        }
        let metadata: Metadata = serde_json::from_str(json)?;
        metadata.architecture.validate()?;
        let mut failure = None;
        let parameters = Parameters::from_found(metadata.architecture, |spec| {
            read_parameter(tensors, "", spec).unwrap_or_else(|error| {
                failure.get_or_insert(error);
                None
            })
        });
        if let Some(error) = failure {
            return Err(error);
        }
        let parameters = parameters?;
        let mut auxiliary = Vec::new();
        for name in tensors.names() {
            let Some(name) = name.strip_prefix("auxiliary/") else { continue };
            let shape =
                tensors.tensor(&format!("auxiliary/{name}")).map(|view| view.shape().to_vec()).unwrap_or_default();
            let spec = TensorSpec { name: name.to_owned(), shape, role: Role::Mixer };
            auxiliary.extend(read_parameter(tensors, "auxiliary/", &spec)?);
        }
        // The file's order is its own; the trainer's is by name.
        auxiliary.sort_by(|a: &Parameter, b: &Parameter| a.spec.name.cmp(&b.spec.name));
        let words = tensors.tensor("vocabulary").ok().and_then(|view| String::from_utf8(view.data().to_vec()).ok());
        let words: Vec<String> = words.ok_or(ContentError::Words)?.split('\n').map(str::to_owned).collect();
        let expected = parameters.architecture().vocab_size;
        if words.len() != expected {
            return Err(ContentError::VocabularySize { found: words.len(), expected });
        }
        Ok(Self {
            vocabulary: Vocabulary::new(words, metadata.pretokenizer)?.with_blank_lines(metadata.blank_lines),
            config: metadata.config,
            parameters,
            auxiliary,
            compression: metadata.compression,
            stages: metadata.stages,
            removals: metadata.removals,
            epochs: metadata.epochs,
            trained_to_end: metadata.trained_to_end,
            text: metadata.text,
            environment: metadata.environment,
            plan: metadata.plan,
            progress: metadata.progress,
        })
    }
}

/// One parameter with its mask and moments; `None` where the file does not have it.
fn read_parameter(tensors: &SafeTensors, prefix: &str, spec: &TensorSpec) -> Result<Option<Parameter>, ContentError> {
    let float = |name: String| -> Result<Option<Vec<f32>>, ContentError> {
        let Ok(view) = tensors.tensor(&name) else { return Ok(None) };
        if view.dtype() != Dtype::F32 {
            return Err(ContentError::Type(name));
        }
        let values: Vec<f32> = view.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        match values.iter().position(|x| !x.is_finite()) {
            Some(index) => Err(ContentError::NonFinite { name, index }),
            None => Ok(Some(values)),
        }
    };
    let Some(values) = float(format!("{prefix}{}", spec.name))? else { return Ok(None) };
    let moments = Moments {
        first: float(format!("first/{prefix}{}", spec.name))?.unwrap_or_default(),
        second: float(format!("second/{prefix}{}", spec.name))?.unwrap_or_default(),
        steps: tensors
            .tensor(&format!("steps/{prefix}{}", spec.name))
            .ok()
            .and_then(|view| view.data().try_into().ok())
            .map_or(0, u64::from_le_bytes),
    };
    let mask = tensors.tensor(&format!("mask/{}", spec.name)).ok();
    let mask = mask.map(|view| view.data().iter().map(|&keep| keep != 0).collect::<Vec<bool>>());
    Ok(Some(Parameter { spec: spec.clone(), values, mask, moments }))
}
