//! The stages that compress a model: quantization-aware training, pruning, distillation.
//!
//! Each takes a checkpoint, its settings and an observer and leaves a checkpoint behind. What a
//! checkpoint carries (quantizers, masks, removed experts) holds in every later stage, so stages
//! run in any order.

pub mod calibration;
mod cross_entropy;
pub mod distill;
pub mod planner;
pub mod prune;
pub mod qat;
mod scale_initialization;
mod stage;
mod teacher;

pub use cross_entropy::CrossEntropy;
pub use stage::{RunStage, StageContext};

use crate::config::{ModelConfig, StageKind};

/// Whether the model's configuration lets stages of this kind run.
pub fn is_enabled(kind: StageKind, config: &ModelConfig) -> bool {
    match kind {
        StageKind::Train => true,
        StageKind::Qat => config.use_quantization,
        StageKind::Prune => config.use_pruning,
        StageKind::Distill | StageKind::Plan => config.use_distillation,
    }
}
