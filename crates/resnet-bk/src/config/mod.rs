//! What a run depends on: the model's configuration, and the recipe that trains and compresses it.

mod expand;
mod model;
mod plan;
mod recipe;
mod sources;
mod stage;
mod stage_validation;
mod target;
mod values;

pub use model::{ConfigError, ModelConfig, PerHead};
pub use plan::PlanConfig;
pub use recipe::{Against, CorpusConfig, Protocol, Recipe, RecipeError, Target};
pub use sources::Place;
pub use stage::{
    DistillConfig, ExpertPruning, LearningRateShape, MagnitudePruning, Milestone, PruneConfig, QatConfig, Schedule,
    StageConfig, StageKind, StudentConfig, TrainConfig,
};
pub use target::parse_loss;
