//! The interface between a run and its stages.

use crate::checkpoint::{Checkpoint, History, ModelState};
use crate::config::{ModelConfig, StageConfig};
use crate::observer::Observer;
use crate::train::{Stage, TokenStreams, TrainError, Trained};

/// Inputs of a stage.
pub struct StageContext<'a> {
    /// How the stage trains.
    pub stage: &'a Stage<'a>,
    /// The token streams.
    pub streams: &'a TokenStreams,
    /// The model before the stage, if the stage was interrupted and its teacher is needed.
    pub teacher: Option<ModelState>,
    /// Receives the events.
    pub observer: &'a mut dyn Observer,
}

/// A kind of stage.
pub trait RunStage {
    /// Trains the checkpoint's model. Resumes from the checkpoint's progress if there is any.
    ///
    /// # Errors
    /// [`TrainError`] if the training fails.
    fn run(&self, checkpoint: &mut Checkpoint, context: StageContext) -> Result<Trained, TrainError>;

    /// Whether the stage needs the model before it as a teacher. Resuming then needs that model
    /// too.
    fn needs_teacher(&self) -> bool {
        false
    }

    /// Whether the stage chooses its model within a budget of bytes.
    fn needs_budget(&self) -> bool {
        false
    }

    /// Checks, before any training, that a model can fit the budget.
    ///
    /// # Errors
    /// [`TrainError::NoStudent`] if none can.
    fn check_budget(&self, _teacher: &ModelConfig, _words: usize, _budget: u64) -> Result<(), TrainError> {
        Ok(())
    }

    /// Token streams of the shortest training in the stage.
    ///
    /// # Errors
    /// [`TrainError::NoDevSlice`] if the stage needs a dev slice and there is none.
    fn shortest_streams(&self, streams: &TokenStreams) -> Result<TokenStreams, TrainError> {
        Ok(streams.clone())
    }

    /// A stage that repeats the choice of this one. `None` if the stage chooses nothing.
    fn chosen(&self, _history: &History) -> Option<StageConfig> {
        None
    }
}

impl StageConfig {
    /// The implementation of this stage.
    pub fn runner(&self) -> &dyn RunStage {
        match self {
            Self::Train(config) => config,
            Self::Qat(config) => config,
            Self::Prune(config) => config,
            Self::Distill(config) => config,
            Self::Plan(config) => config,
        }
    }
}
