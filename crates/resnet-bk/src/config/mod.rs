//! Configuration of a run: the model, and the recipe that trains and compresses it.

mod corpus;
mod expand;
mod model;
mod plan;
mod recipe;
#[cfg(test)]
mod reference;
mod sources;
mod stage;
mod stage_validation;
mod target;
mod values;

pub use corpus::{CorpusConfig, Protocol};
pub use model::{ConfigError, ModelConfig, PerHead};
pub(crate) use model::{MAX_BINS, MAX_D_MODEL, MAX_HEADS};
pub use plan::PlanConfig;
pub use recipe::{Recipe, RecipeError};
pub use sources::Place;
pub use stage::{
    DistillConfig, ExpertPruning, LearningRateShape, MagnitudePruning, Milestone, PruneConfig, QatConfig, RemovalMode,
    Schedule, StageConfig, StageKind, StudentConfig, StudentInit, TrainConfig,
};
pub use target::{Against, Target, parse_loss};
