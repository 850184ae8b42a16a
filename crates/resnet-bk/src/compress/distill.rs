//! Distillation: a smaller student learns the teacher's distribution, the text, and the teacher's
//! resolvent features.
//!
//! ```text
//! L = alpha tau^2 KL(teacher || student) + (1 - alpha) CE + w sum over matched blocks |P f_student - f_teacher|^2 / |f_teacher|^2
//! ```
//!
//! `P` is a learned projection where the numbers of heads differ, the identity where they agree.
//! Block `i` of `n` students matches the teacher's block at the same relative depth. A part of the
//! way through, the student is compressed as its teacher was: the same quantizers unless it has its
//! own, the same sparsity, the same bar for experts.

use super::stage::{RunStage, StageContext};
use super::teacher::Teacher;
use super::{prune, qat};
use crate::batch::Batch;
use crate::checkpoint::{Checkpoint, Compression, ModelState, TrainingState};
use crate::config::{DistillConfig, ModelConfig, QatConfig, RemovalMode};
use crate::model::{LanguageModel, Leaves, Output};
use crate::ops::{self, HeadLoss};
use crate::parameters::Parameter;
use crate::random::Random;
use crate::tape::Tensor;
use crate::train::{Objective, Stage, StepContext, TrainError, Trained, train};
use resnet_bk_runtime::internal::tensor_id::ModelTensor;
use resnet_bk_runtime::internal::tensor_spec::{Role, TensorSpec};

/// Sets the streams of random numbers of student and projections apart from the others of the seed.
const STUDENT: u64 = 0x57d;

/// The stage's objective.
#[derive(Debug)]
pub struct Distillation<'a> {
    config: &'a DistillConfig,
    seed: u64,
    compression: Compression,
    teacher: Teacher,
}

/// Puts a fresh student in the checkpoint and returns the teacher that it held.
pub fn begin(checkpoint: &mut Checkpoint, config: &DistillConfig, stage: &Stage) -> ModelState {
    let teacher = &checkpoint.model;
    let student = config.student_config(&teacher.config);
    let seed = Random::keyed(&[stage.seed, stage.number as u64, STUDENT]).next_u64();
    let auxiliary = if config.feature_weight > 0.0 { projections(teacher, &student, seed) } else { Vec::new() };
    checkpoint.training = TrainingState { auxiliary, progress: None };
    checkpoint.model.replace(student, seed)
}

/// The teacher's block that matches a student's: the same relative depth, counted from the end of
/// each.
fn matching_block(student_block: usize, student_layers: usize, teacher_layers: usize) -> usize {
    ((student_block + 1) * teacher_layers).div_ceil(student_layers).min(teacher_layers) - 1
}

/// One projection of features a student block, none where the numbers of heads agree.
fn projections(teacher: &ModelState, student: &ModelConfig, seed: u64) -> Vec<Parameter> {
    let (from, to) = (2 * student.heads, 2 * teacher.config.heads);
    if from == to {
        return Vec::new();
    }
    let projection = |block: usize| {
        let mut random = Random::keyed(&[seed, STUDENT, block as u64]);
        let spec =
            TensorSpec { id: ModelTensor::FeatureProjection(block).into(), shape: vec![from, to], role: Role::Mixer };
        let values: Vec<f32> = (0..from * to).map(|_| random.normal() / (from as f32).sqrt()).collect();
        Parameter::new(spec, values)
    };
    (0..student.n_layers).map(projection).collect()
}

impl<'a> Distillation<'a> {
    /// Learning from `teacher`, whose values do not change.
    pub fn new(teacher: ModelState, config: &'a DistillConfig, seed: u64) -> Self {
        Self { config, seed, teacher: Teacher::new(&teacher.parameters), compression: teacher.compression }
    }

    fn compress_like_teacher(&self, model: &mut ModelState, context: &mut StepContext) {
        let compression = &self.compression;
        if let Some(threshold) = compression.expert_threshold {
            prune::remove_unused_experts(model, threshold, RemovalMode::Drop, context);
        }
        if let Some(experts) = compression.experts {
            prune::keep_most_used_experts(model, experts, RemovalMode::Drop, context);
        }
        if let Some(magnitude) = compression.magnitude {
            prune::mask_small_weights(model, magnitude, context);
        }
        let own = self
            .config
            .quantization
            .clone()
            .map(|policy| QatConfig { quantization: Some(policy), ..QatConfig::default() });
        if let Some(config) = own.as_ref().or(compression.quantization.as_ref()) {
            qat::quantize(model, config, self.seed, context);
        }
    }

    /// Adds the mean over the matched blocks of the distance of features, relative to the teacher's
    /// mean square.
    fn add_feature_loss(&self, loss: &Tensor, student: &Output, teacher: &Output, leaves: &Leaves) -> Tensor {
        let (count, teacher_count) = (student.layers.len(), teacher.layers.len());
        let distances = student.layers.iter().enumerate().map(|(block, layer)| {
            let target = &teacher.layers[matching_block(block, count, teacher_count)].features;
            let projected = match layer.features.columns() == target.columns() {
                true => layer.features.clone(),
                false => ops::project(&layer.features, &leaves.tensor(ModelTensor::FeatureProjection(block))),
            };
            ops::feature_distance(&projected, target.values())
        });
        let total = distances.reduce(|sum, block| ops::add_penalty(&sum, &block, 1.0));
        ops::add_penalty(loss, &total.expect("a model has a block"), self.config.feature_weight / count as f32)
    }
}

impl Objective for Distillation<'_> {
    fn before_step(&mut self, model: &mut ModelState, context: &mut StepContext) {
        // With compress_at = 1 it is compressed before the last step, so that every student is.
        let at = (self.config.compress_at * context.steps as f64) as usize;
        if context.step == at.min(context.steps - 1) {
            self.compress_like_teacher(model, context);
        }
    }

    fn loss(&mut self, model: &LanguageModel, output: &Output, leaves: &Leaves, batch: &Batch) -> Tensor {
        let teacher = self.teacher.forward(batch);
        let soft = self.teacher.soft_targets(&teacher, self.config.temperature, self.config.alpha);
        let loss = HeadLoss {
            targets: batch.targets.as_slice().into(),
            soft: Some(soft),
            precision: self.config.schedule.precision,
        };
        let loss = model.head_loss(loss, &output.hidden);
        match self.config.feature_weight > 0.0 {
            true => self.add_feature_loss(&loss, output, &teacher, leaves),
            false => loss,
        }
    }
}

impl RunStage for DistillConfig {
    fn run(&self, checkpoint: &mut Checkpoint, context: StageContext) -> Result<Trained, TrainError> {
        let StageContext { stage, streams, teacher, observer } = context;
        let teacher = teacher.unwrap_or_else(|| begin(checkpoint, self, stage));
        let mut objective = Distillation::new(teacher, self, stage.seed);
        train(checkpoint, stage, streams, &mut objective, observer)
    }

    fn learns_from_previous(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_match_at_the_same_relative_depth() {
        assert_eq!([0, 1].map(|block| matching_block(block, 2, 4)), [1, 3]);
        assert_eq!([0, 1, 2, 3].map(|block| matching_block(block, 4, 4)), [0, 1, 2, 3]);
        assert_eq!([0, 1, 2].map(|block| matching_block(block, 3, 4)), [1, 2, 3]);
        assert_eq!([0, 1, 2].map(|block| matching_block(block, 3, 1)), [0, 0, 0]);
    }
}
