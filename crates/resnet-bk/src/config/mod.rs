//! What a run depends on: the model's configuration, and the recipe that trains and compresses it.

mod model;
mod recipe;

pub use model::{ConfigError, ModelConfig, PerHead};
pub use recipe::{
    CorpusConfig, DistillConfig, ExpertPruning, LearningRateShape, MagnitudePruning, Milestone, PruneConfig, QatConfig,
    Recipe, RecipeError, Schedule, StageConfig, StageKind, StudentConfig, Target, TrainConfig,
};
