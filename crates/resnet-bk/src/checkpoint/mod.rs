//! A training checkpoint: values, configuration, vocabulary and what was done so far, in one file
//! (its format is drawn in `file.rs`).

mod agreement;
mod error;
mod file;
mod reader;
#[cfg(test)]
mod tests;

pub use error::CheckpointError;

use crate::config::{DistillConfig, MagnitudePruning, ModelConfig, QatConfig};
use crate::corpus::TextFingerprint;
use crate::environment::Environment;
use crate::parameters::{Moments, Parameter, Parameters};
use crate::summary::{PlanSummary, Removal, StageSummary};
use crate::train::Judged;
use resnet_bk_runtime::internal::tokenizer::Vocabulary;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A model, what a running stage needs besides, and what was done so far.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// The model.
    pub model: ModelState,
    /// What only an unfinished stage has.
    pub training: TrainingState,
    /// What was done so far.
    pub history: History,
}

/// A model that stages change.
#[derive(Clone, Debug)]
pub struct ModelState {
    /// Configuration of this model: a student has its own.
    pub config: ModelConfig,
    /// Values, masks, moments.
    pub parameters: Parameters,
    /// The vocabulary, shared by a teacher and its students.
    pub vocabulary: Arc<Vocabulary>,
    /// What was done to the model, for a student to repeat.
    pub compression: Compression,
}

/// What only a running stage needs.
#[derive(Clone, Debug, Default)]
pub struct TrainingState {
    /// Parameters that only the stage's loss uses.
    pub auxiliary: Vec<Parameter>,
    /// How far an unfinished stage has come.
    pub progress: Option<Progress>,
}

/// What a model has been through, and on which text.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct History {
    /// The stages so far.
    pub stages: Vec<StageSummary>,
    /// The experts removed so far.
    pub removals: Vec<Removal>,
    /// Epochs that the model has seen in all, those of the models that it was made or learned from
    /// included.
    pub epochs: usize,
    /// Whether its last epoch gained less than 1 %.
    pub trained_to_end: bool,
    /// The text that the perplexities of `stages` belong to; `None` before the first stage.
    pub text: Option<TextFingerprint>,
    /// Tokens at the end of that text's training tokens that were held out of training: the dev
    /// slice.
    pub dev_tokens: usize,
    /// What the run was trained on so far: more than one where it was gone on with elsewhere.
    pub environments: Vec<Environment>,
    /// What a planner chose.
    #[serde(default)]
    pub plan: Option<Plan>,
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
    /// First epoch, from 0, whose model had the sizes, quantizers and pruned weights of the last
    /// one.
    pub form_since: usize,
    /// The best epoch so far, from 1, whose model is in a file of its own beside this one.
    #[serde(default)]
    pub best_epoch: Option<usize>,
    /// Wall time so far, in seconds.
    pub seconds: f64,
    /// Prices of a coded bit: what has been integrated, and what is asked.
    #[serde(default)]
    pub rate_control: Option<(f64, f64)>,
}

impl Progress {
    /// A stage that begins.
    pub fn new(stage: usize) -> Self {
        Self { stage, epochs: Vec::new(), form_since: 0, best_epoch: None, seconds: 0.0, rate_control: None }
    }
}

impl ModelState {
    /// A fresh model for a vocabulary, whose size replaces the configuration's.
    pub fn initialise(config: ModelConfig, vocabulary: Arc<Vocabulary>, seed: u64) -> Self {
        let config = ModelConfig { vocab_size: vocabulary.len(), ..config };
        Self {
            parameters: Parameters::initialise(config.architecture(), seed),
            vocabulary,
            compression: Compression::default(),
            config,
        }
    }

    /// Puts a fresh model in the place of this one and returns it as it was. The vocabulary stays.
    pub fn replace(&mut self, config: ModelConfig, seed: u64) -> Self {
        let fresh = Self::initialise(config, self.vocabulary.clone(), seed);
        std::mem::replace(self, fresh)
    }
}

impl Checkpoint {
    /// A model that nothing was done to yet.
    pub fn new(model: ModelState) -> Self {
        Self { model, training: TrainingState::default(), history: History::default() }
    }

    /// Forgets what only a running stage needs.
    pub fn finish_stage(&mut self) {
        self.training = TrainingState::default();
        for parameter in self.model.parameters.as_mut_slice() {
            parameter.moments = Moments::default();
        }
    }
}
