//! The stages that compress a model: quantization-aware training, pruning, distillation.
//!
//! Each stage takes a checkpoint, its configuration and an observer, and leaves the result in the
//! checkpoint. Quantizers, masks and removed experts are part of the checkpoint, and every later
//! stage keeps them. So stages can run in any order.

pub mod calibration;
mod cross_entropy;
pub mod distill;
mod init_from_teacher;
pub mod planner;
mod principal_directions;
pub mod prune;
pub mod qat;
mod scale_initialization;
mod stage;
mod teacher;

pub use cross_entropy::CrossEntropy;
pub use init_from_teacher::{FromTeacher, init_from_teacher};
pub use stage::{RunStage, StageContext};

use crate::config::{ModelConfig, StageKind};

/// Whether the model configuration enables stages of this kind.
pub fn is_enabled(kind: StageKind, config: &ModelConfig) -> bool {
    match kind {
        StageKind::Train => true,
        StageKind::Qat => config.use_quantization,
        StageKind::Prune => config.use_pruning,
        StageKind::Distill | StageKind::Plan => config.use_distillation,
    }
}
