//! The stages that compress a model: quantization-aware training, pruning, distillation.
//!
//! Each takes a checkpoint, its settings and an observer and leaves a checkpoint behind. What a checkpoint carries (quantizers,
//! masks, removed experts) holds in every later stage, so stages run in any order.

pub mod calibration;
pub mod distill;
pub mod planner;
pub mod prune;
pub mod qat;
mod steps;
mod teacher;

use crate::checkpoint::{Checkpoint, Plan, Progress};
use crate::config::{StageConfig, StageKind};
use crate::model::{LanguageModel, Leaves, Output};
use crate::observer::Observer;
use crate::ops::{HeadLoss, Precision};
use crate::random::Random;
use crate::tape::Tensor;
use crate::train::{Objective, Stage, TokenStreams, TrainError, Trained, train};
use std::time::Instant;

/// Sets the stream of random numbers of a fresh model apart from the others of the seed.
const FRESH: u64 = 0xf5e54;

/// Runs one stage. Where `checkpoint` has progress, it goes on from there.
///
/// A `distill` or `plan` stage replaces the checkpoint's model by the student, and a `prune` stage may learn from the model as it was; to go on
/// with one that was interrupted, `teacher` is the model that is learned from.
///
/// # Errors
/// [`TrainError`].
pub fn run_stage(
    checkpoint: &mut Checkpoint,
    teacher: Option<Checkpoint>,
    config: &StageConfig,
    stage: &Stage,
    streams: &TokenStreams,
    observer: &mut dyn Observer,
) -> Result<Trained, TrainError> {
    match config {
        StageConfig::Train(config) => {
            if let (Some(model), None) = (&config.model, &checkpoint.progress) {
                let seed = Random::keyed(&[stage.seed, stage.number as u64, FRESH]).next_u64();
                checkpoint.replace_model(model.clone(), seed);
            }
            train(checkpoint, stage, streams, &mut CrossEntropy { precision: config.schedule.precision }, observer)
        }
        StageConfig::Qat(config) => {
            train(checkpoint, stage, streams, &mut qat::QuantizationAware { config, seed: stage.seed }, observer)
        }
        StageConfig::Prune(config) => {
            let before = teacher.as_ref().map_or(&checkpoint.parameters, |teacher| &teacher.parameters);
            let mut objective = prune::Pruning::new(config, before);
            train(checkpoint, stage, streams, &mut objective, observer)
        }
        StageConfig::Distill(config) => {
            let teacher = teacher.unwrap_or_else(|| distill::begin(checkpoint, config, stage));
            let mut objective = distill::Distillation::new(teacher, config, stage.seed);
            train(checkpoint, stage, streams, &mut objective, observer)
        }
        StageConfig::Plan(config) => {
            let (teacher, distillation) = match (teacher, &checkpoint.plan) {
                (Some(teacher), Some(plan)) => (teacher, plan.distillation.clone()),
                _ => {
                    let budget = stage.budget.ok_or(TrainError::NoBudget)?;
                    let started = Instant::now();
                    let (distillation, summary) = planner::plan(checkpoint, config, stage, streams, budget, observer)?;
                    let teacher = distill::begin(checkpoint, &distillation, stage);
                    checkpoint.plan = Some(Plan { summary, distillation: distillation.clone() });
                    // The choice is kept: an interruption costs no trial from here on.
                    let seconds = started.elapsed().as_secs_f64();
                    checkpoint.progress = Some(Progress { seconds, ..Progress::new(stage.number) });
                    if let Some(path) = &stage.save_to {
                        checkpoint.write(path)?;
                    }
                    (teacher, distillation)
                }
            };
            let stage = Stage { schedule: &distillation.schedule, ..stage.clone() };
            let mut objective = distill::Distillation::new(teacher, &distillation, stage.seed);
            train(checkpoint, &stage, streams, &mut objective, observer)
        }
    }
}

/// Whether the model's configuration lets stages of this kind run.
pub fn is_enabled(kind: StageKind, config: &crate::config::ModelConfig) -> bool {
    match kind {
        StageKind::Train => true,
        StageKind::Qat => config.use_quantization,
        StageKind::Prune => config.use_pruning,
        StageKind::Distill | StageKind::Plan => config.use_distillation,
    }
}

/// The plain loss of the next word.
#[derive(Clone, Copy, Debug)]
pub struct CrossEntropy {
    /// Number format of the head's products.
    pub precision: Precision,
}

impl Objective for CrossEntropy {
    fn loss(&mut self, model: &LanguageModel, output: &Output, _: &Leaves, batch: &crate::batch::Batch) -> Tensor {
        let loss = HeadLoss { targets: batch.targets.as_slice().into(), soft: None, precision: self.precision };
        model.head_loss(loss, &output.hidden)
    }
}
