//! What can end a run.

use super::text::MIN_HELD_OUT;
use crate::batch::BatchError;
use crate::checkpoint::CheckpointError;
use crate::config::{Against, StageKind};
use crate::corpus::CorpusError;
use crate::memory::MemoryError;
use crate::ngram::NgramError;
use crate::train::TrainError;
use resnet_bk_runtime::internal::artifact::ArtifactError;
use std::path::PathBuf;
use thiserror::Error;

/// A run that could not be finished. What was done is in its folder.
#[derive(Debug, Error)]
pub enum RunError {
    /// The folder holds a run, and resuming was not asked for.
    #[error("{path} already holds a run")]
    Exists {
        /// The folder.
        path: PathBuf,
    },
    /// Another process works in the folder.
    #[error("another run is writing to {path}")]
    Busy {
        /// The folder.
        path: PathBuf,
    },
    /// The folder holds something else than a run.
    #[error("{path} is not empty and holds no run: a run would overwrite files that are not its own")]
    NotARun {
        /// The folder.
        path: PathBuf,
    },
    /// There is no run to go on with.
    #[error("there is no run in {path}: there is nothing to go on with")]
    NothingToResume {
        /// The folder.
        path: PathBuf,
    },
    /// The folder holds a run of another recipe.
    #[error("{path} holds a run of another recipe: it differs from this one, so it cannot go on with it")]
    OtherRecipe {
        /// The recipe of that run.
        path: PathBuf,
    },
    /// The folder holds a run on another text.
    #[error("{path} is of {difference}: this run cannot go on with it")]
    OtherText {
        /// The checkpoint of that run.
        path: PathBuf,
        /// What differs.
        difference: &'static str,
    },
    /// A given checkpoint is one of an unfinished stage.
    #[error("{path} is of a stage that is not finished: its figures would not be those of its record")]
    Unfinished {
        /// The checkpoint.
        path: PathBuf,
    },
    /// A planner works towards a ratio to a baseline that will not be there.
    #[error("target.ratio is measured against {against}, but this run has no such model to plan with")]
    NoBaseline {
        /// Which baseline it is.
        against: Against,
    },
    /// A given model takes the place of all stages.
    #[error(
        "the given model takes the place of the `train` stages that this recipe begins with, and no other stage is left to run"
    )]
    OnlyTraining,
    /// The run began with another model, or with none.
    #[error("the run in {path} began with another model, or with none")]
    OtherModel {
        /// The checkpoint of that run.
        path: PathBuf,
    },
    /// The held-out text is too short to measure anything.
    #[error("the held-out text has {tokens} tokens: at least {MIN_HELD_OUT} are needed to measure a perplexity")]
    TinyHeldOut {
        /// Its length.
        tokens: usize,
    },
    /// The training text is too short to hold a part of it out for choices.
    #[error(
        "the training text has {tokens} tokens: the 2 % of it that choices are made by are fewer than {MIN_HELD_OUT}"
    )]
    TinyDev {
        /// Its length.
        tokens: usize,
    },
    /// A baseline speaks another vocabulary.
    #[error("the baseline {path} has {difference}: its perplexity cannot be compared with this run's")]
    OtherBaseline {
        /// The checkpoint.
        path: PathBuf,
        /// What differs.
        difference: &'static str,
    },
    /// A baseline is compressed itself.
    #[error("the baseline {path} is quantized: a baseline is a float model")]
    QuantizedBaseline {
        /// The checkpoint.
        path: PathBuf,
    },
    /// The artifact does not predict as the model that it was packed from.
    #[error("the decoded artifact has perplexity {decoded}, but the model that was packed has {trained}")]
    Parity {
        /// Perplexity in training.
        trained: f64,
        /// Perplexity of the file.
        decoded: f64,
    },
    /// A teacher has no positions for its student's windows.
    #[error(
        "the {kind} stage has windows of {windows} tokens, but the model that it learns from has positions for {positions}"
    )]
    Windows {
        /// Tokens of the student's windows.
        windows: usize,
        /// The teacher's positions.
        positions: usize,
        /// The stage.
        kind: StageKind,
    },
    /// A size is asked for that nothing will keep to.
    #[error(
        "schedule.weights_bytes is {bytes}, but no stage that asks for it has quantizers with learned scales (quantization.learned)"
    )]
    SizeOfFloats {
        /// The size.
        bytes: u64,
    },
    /// The text does not make a batch.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// A file of the run cannot be read or written.
    #[error("cannot access {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The first stage has no model to work on.
    #[error("the first stage is `{0}`, but there is no model for it to work on")]
    NothingToCompress(StageKind),
    /// A stage does not fit in memory.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// Every stage is switched off in `[model]`.
    #[error("no stage is left to run: use_quantization, use_pruning and use_distillation switch them off")]
    NoStages,
    /// The text makes no vocabulary.
    #[error(transparent)]
    Corpus(#[from] CorpusError),
    /// The text is too short for n-gram baselines.
    #[error(transparent)]
    Ngrams(#[from] NgramError),
    /// A checkpoint cannot be read or written.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A stage failed.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// The model cannot be packed.
    #[error("the model cannot be packed")]
    Artifact(#[from] ArtifactError),
}
