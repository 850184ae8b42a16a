//! Training checkpoints: parameters, configuration, vocabulary and history in one file. The format
//! is described in `file.rs`.

mod agreement;
mod error;
mod file;
mod reader;
#[cfg(test)]
mod tests;

pub use error::CheckpointError;
pub(crate) use file::{METADATA, read_bytes};

use crate::config::{DistillConfig, MagnitudePruning, ModelConfig, QatConfig};
use crate::corpus::TextFingerprint;
use crate::environment::Environment;
use crate::parameters::{Parameter, Parameters};
use crate::summary::{PlanSummary, Removal, StageSummary};
use crate::train::EpochResult;
use resnet_bk_runtime::internal::tokenizer::Vocabulary;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A model, the state of an unfinished stage, and the history of the model.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// The model.
    pub model: ModelState,
    /// State of an unfinished stage.
    pub training: TrainingState,
    /// Completed stages and their results.
    pub history: History,
}

/// A model that stages change.
#[derive(Clone, Debug)]
pub struct ModelState {
    /// Configuration of this model. A student has its own.
    pub config: ModelConfig,
    /// Values, masks, optimizer moments and averages.
    pub parameters: Parameters,
    /// The vocabulary, shared by a teacher and its students.
    pub vocabulary: Arc<Vocabulary>,
    /// Compression applied so far. A student repeats it.
    pub compression: Compression,
}

/// State of an unfinished stage.
#[derive(Clone, Debug, Default)]
pub struct TrainingState {
    /// Parameters of the stage's loss that are not part of the model.
    pub auxiliary: Vec<Parameter>,
    /// Progress of the stage.
    pub progress: Option<Progress>,
}

/// The training history of a model.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct History {
    /// Completed stages.
    pub stages: Vec<StageSummary>,
    /// Removed experts.
    pub removals: Vec<Removal>,
    /// Total epochs of this model, including those of the models that it was made from or distilled
    /// from.
    pub epochs: usize,
    /// Whether the last epoch improved the perplexity by less than 1 %.
    pub trained_to_end: bool,
    /// The text of the perplexities in `stages`. `None` before the first stage.
    pub text: Option<TextFingerprint>,
    /// Length of the dev slice: tokens at the end of the training text that were not trained on.
    pub dev_tokens: usize,
    /// Environments of the run. More than one if the run was resumed in another environment.
    pub environments: Vec<Environment>,
    /// The planner's choice.
    #[serde(default)]
    pub plan: Option<Plan>,
}

impl History {
    /// How the text of the model differs from another one. `None` if it is the same.
    pub(crate) fn text_difference(&self, other: &TextFingerprint) -> Option<&'static str> {
        self.text.as_ref().map_or(Some("a text that it does not record"), |own| own.difference(other))
    }
}

/// A planner's choice.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The trials and the choice.
    pub summary: PlanSummary,
    /// Configuration of the chosen distillation.
    pub distillation: DistillConfig,
}

/// Compression that was applied to a model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Compression {
    /// Settings of quantization.
    pub quantization: Option<QatConfig>,
    /// Settings of magnitude pruning.
    pub magnitude: Option<MagnitudePruning>,
    /// Experts with a smaller share of training tokens were removed.
    pub expert_threshold: Option<f64>,
    /// Number of experts per block after the last milestone.
    #[serde(default)]
    pub experts: Option<usize>,
}

/// Progress of an unfinished stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Number of the stage, from 1.
    pub stage: usize,
    /// What was measured after each completed epoch.
    pub epochs: Vec<EpochResult>,
    /// First epoch, from 0, whose model had the sizes, quantizers and number of pruned weights of
    /// the latest one.
    pub form_since: usize,
    /// The best epoch so far, from 1. Its model is in a separate file next to this one.
    #[serde(default)]
    pub best_epoch: Option<usize>,
    /// Wall time of the stage so far, in seconds.
    pub seconds: f64,
    /// State of rate control: integral part and lambda.
    #[serde(default)]
    pub rate_control: Option<(f64, f64)>,
    /// State of rate control: logarithm of the ratio of the average's size to that of the weights.
    #[serde(default)]
    pub average_size: f64,
    /// State of rate control: bytes of the weights section at its last measurement.
    #[serde(default)]
    pub measured_bytes: Option<u64>,
    /// Number of steps in the averaged weights.
    #[serde(default)]
    pub averaged_steps: u64,
    /// Number of epochs of a schedule in minutes, once it is known.
    #[serde(default)]
    pub planned_epochs: Option<usize>,
}

impl Progress {
    /// Progress at the beginning of a stage.
    pub fn new(stage: usize) -> Self {
        Self {
            stage,
            epochs: Vec::new(),
            form_since: 0,
            best_epoch: None,
            seconds: 0.0,
            rate_control: None,
            average_size: 0.0,
            measured_bytes: None,
            averaged_steps: 0,
            planned_epochs: None,
        }
    }
}

impl ModelState {
    /// A new model for a vocabulary. `vocab_size` becomes the vocabulary's size.
    pub fn initialize(config: ModelConfig, vocabulary: Arc<Vocabulary>, seed: u64) -> Self {
        let config = ModelConfig { vocab_size: vocabulary.len(), ..config };
        Self {
            parameters: Parameters::initialize(config.architecture(), seed),
            vocabulary,
            compression: Compression::default(),
            config,
        }
    }

    /// Replaces this model by a new one and returns the old one. The vocabulary is kept.
    pub fn replace(&mut self, config: ModelConfig, seed: u64) -> Self {
        let mut fresh = Self::initialize(config, self.vocabulary.clone(), seed);
        fresh.parameters.run_like(&self.parameters);
        std::mem::replace(self, fresh)
    }
}

impl Checkpoint {
    /// A checkpoint of a model without history.
    pub fn new(model: ModelState) -> Self {
        Self { model, training: TrainingState::default(), history: History::default() }
    }

    /// Drops progress, auxiliary parameters and optimizer moments, and makes averaged weights the
    /// model's own.
    pub fn finish_stage(&mut self) {
        self.training = TrainingState::default();
        self.model.parameters = self.model.parameters.averaged();
    }
}
