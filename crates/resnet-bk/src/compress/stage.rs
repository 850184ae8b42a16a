//! What a run asks of a stage, whatever its kind.

use crate::checkpoint::{Checkpoint, History, ModelState};
use crate::config::{ModelConfig, StageConfig};
use crate::observer::Observer;
use crate::train::{Stage, TokenStreams, TrainError, Trained};

/// What a stage runs with.
pub struct StageContext<'a> {
    /// Where and how it trains.
    pub stage: &'a Stage<'a>,
    /// The tokens.
    pub streams: &'a TokenStreams,
    /// The model that an interrupted stage learned from.
    pub teacher: Option<ModelState>,
    /// Who is told.
    pub observer: &'a mut dyn Observer,
}

/// A kind of stage.
pub trait RunStage {
    /// Changes the checkpoint's model, going on from the checkpoint's progress if it has any.
    ///
    /// # Errors
    /// [`TrainError`].
    fn run(&self, checkpoint: &mut Checkpoint, context: StageContext) -> Result<Trained, TrainError>;

    /// Whether the model before the stage is learned from, and so is needed to go on with the
    /// stage.
    fn learns_from_previous(&self) -> bool {
        false
    }

    /// Whether it chooses its model by a budget of bytes.
    fn needs_budget(&self) -> bool {
        false
    }

    /// Checks, before anything is trained, that the budget can be kept to.
    ///
    /// # Errors
    /// [`TrainError::NoStudent`].
    fn check_budget(&self, _teacher: &ModelConfig, _words: usize, _budget: u64) -> Result<(), TrainError> {
        Ok(())
    }

    /// The tokens of the shortest training that it does.
    ///
    /// # Errors
    /// [`TrainError::NoDevSlice`].
    fn least_streams(&self, streams: &TokenStreams) -> Result<TokenStreams, TrainError> {
        Ok(streams.clone())
    }

    /// The stage that would do again what this one chose to do; `None` where it chooses nothing.
    fn chosen(&self, _history: &History) -> Option<StageConfig> {
        None
    }
}

impl StageConfig {
    /// What runs it.
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
