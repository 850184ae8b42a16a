//! Distillation: a smaller student learns from the teacher's distribution, from the text, and from
//! the teacher's resolvent features.
//!
//! ```text
//! L = alpha tau^2 KL(teacher || student) + (1 - alpha) CE
//!     + w mean over matched blocks |P f_student - f_teacher|^2 / |f_teacher|^2
//! ```
//!
//! `P` is a learned projection if the numbers of heads differ, and the identity if they are equal.
//! Each student block is matched with the teacher block at the same relative depth.
//!
//! After `compress_at` of the steps, the student is compressed like its teacher: with the same
//! sparsity, the same expert threshold, and the same quantizers unless the configuration names
//! others.

use super::init_from_teacher::{FromTeacher, init_from_teacher};
use super::stage::{RunStage, StageContext};
use super::teacher::Teacher;
use super::{prune, qat};
use crate::batch::Batch;
use crate::buffer::Buffer;
use crate::checkpoint::{Checkpoint, Compression, ModelState, TrainingState};
use crate::config::{DistillConfig, ModelConfig, QatConfig, RemovalMode, StudentInit};
use crate::model::{LanguageModel, Leaves, Output};
use crate::observer::{Event, Observer};
use crate::ops::{self, HeadLoss};
use crate::parameters::Parameter;
use crate::random::Random;
use crate::ranks::Ranks;
use crate::tape::Tensor;
use crate::train::{Objective, Stage, StepContext, TrainError, Trained, train};
use resnet_bk_runtime::internal::tensor_id::ModelTensor;
use resnet_bk_runtime::internal::tensor_spec::{Role, TensorSpec};

/// Key of the random streams that initialize the student and the projections.
const STUDENT: u64 = 0x57d;

/// Objective of a `distill` stage.
#[derive(Debug)]
pub struct Distillation<'a> {
    config: &'a DistillConfig,
    seed: u64,
    compression: Compression,
    teacher: Teacher,
    /// The teacher's forward pass on the batch of the step, if it was launched before the student's.
    taught: Option<Output>,
    /// The ranks that train the student.
    ranks: Ranks,
}

/// Puts a new student into the checkpoint and returns the teacher that the checkpoint held before.
/// `tokens` are the training text.
pub fn begin(
    checkpoint: &mut Checkpoint,
    config: &DistillConfig,
    stage: &Stage,
    tokens: &[u32],
    observer: &mut dyn Observer,
) -> ModelState {
    let teacher = &checkpoint.model;
    let student = config.student_config(&teacher.config);
    let seed = Random::keyed(&[stage.seed, stage.number as u64, STUDENT]).next_u64();
    let auxiliary = if config.feature_weight > 0.0 { projections(teacher, &student, seed) } else { Vec::new() };
    checkpoint.training = TrainingState { auxiliary, progress: None };
    let teacher = checkpoint.model.replace(student, seed);
    if config.init == StudentInit::Teacher {
        let FromTeacher { energy, blocks } = init_from_teacher(&mut checkpoint.model, &teacher, tokens);
        observer.event(&Event::BegunFromTeacher { stage: stage.number, kind: stage.kind, energy, blocks });
    }
    teacher
}

/// The teacher block that matches a student block: the one at the same relative depth, counted so
/// that the last blocks match.
pub(super) fn matching_block(student_block: usize, student_layers: usize, teacher_layers: usize) -> usize {
    ((student_block + 1) * teacher_layers).div_ceil(student_layers).min(teacher_layers) - 1
}

/// One feature projection per student block; empty if the numbers of heads are equal.
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
    /// An objective with a frozen `teacher`, whose ranks train the student.
    pub fn new(teacher: ModelState, config: &'a DistillConfig, seed: u64) -> Self {
        let ranks = teacher.parameters.ranks().clone();
        let (compression, teacher) = (teacher.compression, Teacher::new(&teacher.parameters));
        Self { config, seed, teacher, taught: None, compression, ranks }
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

    /// Adds the feature loss: the squared distance of the features over the teacher's mean square,
    /// averaged over the blocks.
    fn add_feature_loss(&self, loss: &Tensor, student: &Output, teacher: &Output, leaves: &Leaves) -> Tensor {
        let (count, teacher_count) = (student.layers.len(), teacher.layers.len());
        let target = |block: usize| &teacher.layers[matching_block(block, count, teacher_count)].features;
        // The teacher's mean squares are those of the global batch: one exchange for all blocks.
        let mut mean_squares: Vec<Buffer> = (0..count).map(|block| ops::mean_square(target(block))).collect();
        self.ranks.average(&mut mean_squares);
        let distances = student.layers.iter().zip(mean_squares).enumerate().map(|(block, (layer, mean_square))| {
            let target = target(block);
            let projected = match layer.features.columns() == target.columns() {
                true => layer.features.clone(),
                false => ops::project(&layer.features, &leaves.tensor(ModelTensor::FeatureProjection(block))),
            };
            ops::feature_distance(&projected, target, mean_square)
        });
        let total = distances.reduce(|sum, block| ops::add_penalty(&sum, &block, 1.0));
        ops::add_penalty(loss, &total.expect("a model has a block"), self.config.feature_weight / count as f32)
    }
}

impl Objective for Distillation<'_> {
    fn before_step(&mut self, model: &mut ModelState, context: &mut StepContext) {
        // With `compress_at = 1` the last step compresses: every student is compressed.
        if context.length.step_after(self.config.compress_at) == Some(context.step) {
            self.compress_like_teacher(model, context);
        }
    }

    fn quantizes_after(&self) -> Option<f64> {
        let quantizes = self.config.quantization.is_some() || self.compression.quantization.is_some();
        quantizes.then_some(self.config.compress_at)
    }

    fn reset_state(&mut self) {
        self.teacher.reset_state();
    }

    fn before_forward(&mut self, batch: &Batch) {
        self.taught = Some(self.teacher.forward_beside(batch));
    }

    fn loss(&mut self, model: &LanguageModel, output: &Output, leaves: &Leaves, batch: &Batch) -> Tensor {
        let teacher = self.taught.take().unwrap_or_else(|| self.teacher.forward(batch));
        self.teacher.join();
        let soft = self.teacher.soft_targets(&teacher, self.config.temperature, self.config.alpha);
        let loss =
            HeadLoss { targets: batch.targets.clone(), soft: Some(soft), precision: self.config.schedule.precision };
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
        let teacher = teacher.unwrap_or_else(|| begin(checkpoint, self, stage, &streams.train, observer));
        let mut objective = Distillation::new(teacher, self, stage.seed);
        train(checkpoint, stage, streams, &mut objective, observer)
    }

    fn needs_teacher(&self) -> bool {
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
