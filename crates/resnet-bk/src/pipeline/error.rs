//! Errors of a run.

use super::text::MIN_HELD_OUT;
use crate::batch::BatchError;
use crate::checkpoint::CheckpointError;
use crate::config::{Against, StageKind};
use crate::corpus::CorpusError;
use crate::device::DeviceError;
use crate::export::LoadError;
use crate::memory::MemoryError;
use crate::ngram::NgramError;
use crate::ranks::LeaderFailed;
use crate::train::{TrainError, list_of_ranks};
use resnet_bk_runtime::internal::artifact::ArtifactError;
use std::path::PathBuf;
use thiserror::Error;

/// A run that failed. Completed work is in its folder.
#[derive(Debug, Error)]
pub enum RunError {
    /// The folder holds a run, and resuming was not requested.
    #[error("{path} already holds a run")]
    Exists {
        /// The folder.
        path: PathBuf,
    },
    /// Another process is writing to the folder.
    #[error("another run is writing to {path}")]
    Busy {
        /// The folder.
        path: PathBuf,
    },
    /// The folder is not empty and does not hold a run.
    #[error("{path} is not empty and holds no run: a run would overwrite files that are not its own")]
    NotARun {
        /// The folder.
        path: PathBuf,
    },
    /// There is no run to resume.
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
    /// A given checkpoint belongs to an unfinished stage.
    #[error("{path} is of a stage that is not finished: its figures would not be those of its record")]
    Unfinished {
        /// The checkpoint.
        path: PathBuf,
    },
    /// A planner's target is a ratio to a baseline that this run will not have.
    #[error("target.ratio is measured against {against}, but this run has no such model to plan with")]
    NoBaseline {
        /// Which baseline it is.
        against: Against,
    },
    /// A given model replaces all stages of the recipe.
    #[error(
        "the given model takes the place of the `train` stages that this recipe begins with, and no other stage is left to run"
    )]
    OnlyTraining,
    /// The run began with another model, or without one.
    #[error("the run in {path} began with another model, or with none")]
    OtherModel {
        /// The checkpoint of that run.
        path: PathBuf,
    },
    /// The held-out text is too short to measure a perplexity.
    #[error("the held-out text has {tokens} tokens: at least {MIN_HELD_OUT} are needed to measure a perplexity")]
    TinyHeldOut {
        /// Length of the text in tokens.
        tokens: usize,
    },
    /// The training text is too short to hold out a dev slice.
    #[error(
        "the training text has {tokens} tokens: the 2 % of it that choices are made by are fewer than {MIN_HELD_OUT}"
    )]
    TinyDev {
        /// Length of the text in tokens.
        tokens: usize,
    },
    /// A baseline has another vocabulary.
    #[error("the baseline {path} has {difference}: its perplexity cannot be compared with this run's")]
    OtherBaseline {
        /// The checkpoint.
        path: PathBuf,
        /// What differs.
        difference: &'static str,
    },
    /// A baseline is not a float model.
    #[error("the baseline {path} is quantized: a baseline is a float model")]
    QuantizedBaseline {
        /// The checkpoint.
        path: PathBuf,
    },
    /// The artifact's perplexity differs from that of the model it was packed from.
    #[error("the decoded artifact has perplexity {decoded}, but the model that was packed has {trained}")]
    Parity {
        /// Perplexity of the trained model.
        trained: f64,
        /// Perplexity of the decoded artifact.
        decoded: f64,
    },
    /// A teacher has fewer positions than its student's window needs.
    #[error(
        "the {kind} stage has windows of {windows} tokens, but the model that it learns from has positions for {positions}"
    )]
    Windows {
        /// Window of the student in tokens.
        windows: usize,
        /// Positions of the teacher.
        positions: usize,
        /// Kind of the stage.
        kind: StageKind,
    },
    /// A model cannot carry its state from window to window.
    #[error("the {kind} stage has schedule.carry_windows = {windows}, but it must be {allowed}")]
    Carry {
        /// The setting.
        windows: usize,
        /// What it must be for this model.
        allowed: &'static str,
        /// Kind of the stage.
        kind: StageKind,
    },
    /// Experts are to be removed after the end of the stage.
    #[error("experts.milestones of the {kind} stage has step = {step}, but the stage has {steps} steps, from 0")]
    Milestone {
        /// The milestone's step.
        step: usize,
        /// Steps of the stage.
        steps: usize,
        /// Kind of the stage.
        kind: StageKind,
    },
    /// A size is requested, but no weights have learned scales to control it.
    #[error(
        "schedule.weights_bytes is {bytes}, but no stage that asks for it has quantizers with learned scales (quantization.learned)"
    )]
    SizeOfFloats {
        /// Requested bytes.
        bytes: u64,
    },
    /// The training text is too short for a batch.
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
    /// The first stage needs a model, but there is none.
    #[error("the first stage is `{0}`, but there is no model for it to work on")]
    NothingToCompress(StageKind),
    /// A stage does not fit in memory.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// All stages are disabled in `[model]`.
    #[error("no stage is left to run: use_quantization, use_pruning and use_distillation switch them off")]
    NoStages,
    /// The vocabulary cannot be built from the text.
    #[error(transparent)]
    Corpus(#[from] CorpusError),
    /// The text is too short for n-gram baselines.
    #[error(transparent)]
    Ngrams(#[from] NgramError),
    /// A checkpoint cannot be read or written.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A given model cannot be read.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The ranks were given different runs.
    #[error("{} and rank 0 have different {what}", list_of_ranks(ranks))]
    RanksDiffer {
        /// The ranks.
        ranks: Vec<usize>,
        /// What differs.
        what: &'static str,
    },
    /// Rank 0 failed in what it does for all.
    #[error(transparent)]
    Leader(#[from] LeaderFailed),
    /// The device failed.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// A stage failed.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// The model cannot be packed.
    #[error("the model cannot be packed")]
    Artifact(#[from] ArtifactError),
}
