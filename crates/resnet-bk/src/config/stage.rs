//! Settings of the stages.

use super::{ModelConfig, PlanConfig};
use crate::batch::Windows;
use crate::numerics::Precision;
use resnet_bk_runtime::internal::quantization::QuantizationPolicy;
use serde::{Deserialize, Serialize};

/// One stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum StageConfig {
    /// Trains the model in float.
    Train(TrainConfig),
    /// Quantization-aware training: continues to train the model with rounded weights and
    /// activations.
    Qat(QatConfig),
    /// Removes experts and single weights, and continues to train.
    Prune(PruneConfig),
    /// Distillation: a new model, the student, learns from the previous model, the teacher.
    Distill(DistillConfig),
    /// Distillation of a student that the planner finds within the target's budget of bytes.
    Plan(PlanConfig),
}

/// The kinds of stages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StageKind {
    /// Plain training.
    Train,
    /// Quantization-aware training.
    Qat,
    /// Pruning.
    Prune,
    /// Distillation.
    Distill,
    /// Distillation of a student that the planner finds.
    Plan,
}

impl std::fmt::Display for StageKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Train => "train",
            Self::Qat => "qat",
            Self::Prune => "prune",
            Self::Distill => "distill",
            Self::Plan => "plan",
        })
    }
}

/// Learning rate after the warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LearningRateShape {
    /// Falls along half a cosine from the peak to `min_lr_ratio` times the peak.
    Cosine,
    /// Stays at the peak.
    Constant,
}

/// The optimizer's schedule in one stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Schedule {
    /// Passes over the training tokens. Without it and without `minutes` there is one.
    pub epochs: Option<usize>,
    /// Wall time of the stage in minutes, instead of `epochs`. After the first epoch, the number of
    /// epochs is computed from its time, at least 3. The checkpoint keeps it, so a resumed run has
    /// the same. The warm-up is a share of the first epoch, and the learning rate falls from the
    /// second on.
    pub minutes: Option<f64>,
    /// Windows of `n_seq` tokens in a batch of one process.
    pub batch_size: usize,
    /// Largest number of consecutive windows over which the state is carried. The training text is cut
    /// into pieces of so many windows. Consecutive batches go through `batch_size` pieces side by side,
    /// and each window begins with the state at the end of the one before; no gradient flows into it. The
    /// state is reset where new pieces begin, whose order is drawn anew for each epoch. With 1, it is reset at
    /// each window, as in evaluation. With a number beyond the length of the text, it is carried through
    /// the whole epoch, in `batch_size` streams. More than 1 needs a causal model without `positions`, and
    /// such a teacher.
    pub carry_windows: usize,
    /// Lengths in tokens of the windows over which the state is carried: at most 8, at most `carry_windows`,
    /// and none where that is 1. The windows of a piece have the lengths of the list, again and again, in a random
    /// order; a length can stand in it several times. Without it, all windows have `n_seq` tokens. The
    /// learning rate of a step is scaled by the length of its windows over that of the longest one, as
    /// in AWD-LSTM (Merity and others, arXiv 1708.02182). On a GPU each length takes the memory of a step.
    pub window_lengths: Vec<usize>,
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Learning rate after the warm-up.
    pub shape: LearningRateShape,
    /// Share of the stage's steps over which the learning rate rises linearly from zero.
    pub warmup: f64,
    /// Last learning rate over the peak (cosine).
    pub min_lr_ratio: f64,
    /// Learning rate with which the quantized phase begins, over the peak, where a `distill` or
    /// `plan` stage puts quantizers in. The float phase then falls to its own end, and the quantized
    /// phase from this rate to `min_lr_ratio` times it. Without it, one cosine spans the stage.
    pub restart: Option<f64>,
    /// Decoupled weight decay of matrices and tables; biases and norms have none.
    pub weight_decay: f64,
    /// AdamW's decay rate of the mean of gradients.
    pub beta1: f64,
    /// AdamW's decay rate of the mean of squared gradients.
    pub beta2: f64,
    /// Rate-distortion multiplier lambda, in nats of loss per token and coded bit. If weights have
    /// learned scales, lambda times their coded size is added to the loss. 1e-7 adds 0.08 nats for
    /// 100 kB. 0 for none.
    pub lambda: f64,
    /// Goal for the length of the weights section, in bytes. If weights have learned scales, a PI
    /// controller changes lambda until the section has that length. It starts from `lambda`, or
    /// from 1e-7 if that is 0.
    pub weights_bytes: Option<u64>,
    /// Whether the epoch with the lowest perplexity on the dev slice is kept instead of the last
    /// one. Models that are larger than `weights_bytes` by more than half a percent, or of a
    /// planner's student, larger than its budget, do not compete. The dev slice is the last 2 % of the training tokens, at most 50,000. It is then held
    /// out of training.
    pub keep_best_epoch: bool,
    /// Decay of averaged weights, such as 0.999; 0 for none. What is measured after an epoch, chosen
    /// and kept is then the exponential moving average of the weights. Training goes on with the
    /// weights themselves. The average begins anew when the model is quantized or pruned.
    pub average: f64,
    /// Share of the stage's steps after which averaging begins.
    pub average_from: f64,
    /// Number format of the head's matrix products in training: `bf16` if the processor multiplies
    /// it in hardware, or `float32`.
    pub precision: Precision,
}

impl Default for Schedule {
    fn default() -> Self {
        Self {
            epochs: None,
            minutes: None,
            batch_size: 20,
            carry_windows: 1,
            window_lengths: Vec::new(),
            learning_rate: 2e-3,
            shape: LearningRateShape::Cosine,
            warmup: 0.05,
            min_lr_ratio: 0.05,
            restart: None,
            weight_decay: 0.01,
            beta1: 0.9,
            beta2: 0.999,
            lambda: 0.0,
            weights_bytes: None,
            keep_best_epoch: false,
            average: 0.0,
            average_from: 0.5,
            precision: Precision::Bf16,
        }
    }
}

impl Schedule {
    /// Largest number of different window lengths.
    pub const MOST_LENGTHS: usize = 8;
    /// Least number of epochs of a schedule in minutes: one to measure, and two for the learning
    /// rate to fall.
    pub const LEAST_EPOCHS: usize = 3;

    /// Windows of training text for a model with windows of `n_seq` tokens.
    pub fn windows(&self, n_seq: usize) -> Windows {
        let lengths = if self.window_lengths.is_empty() { vec![n_seq] } else { self.window_lengths.clone() };
        Windows::carried(lengths, self.carry_windows)
    }

    /// Number of epochs. `None` if it follows from `minutes`.
    pub fn known_epochs(&self) -> Option<usize> {
        self.minutes.is_none().then(|| self.epochs.unwrap_or(1))
    }

    /// Number of epochs, or the least one if it follows from `minutes`.
    pub fn least_epochs(&self) -> usize {
        self.known_epochs().unwrap_or(Self::LEAST_EPOCHS)
    }
}

/// Settings of plain training.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainConfig {
    /// The optimizer's schedule.
    pub schedule: Schedule,
    /// A new model that replaces the previous one, for example a teacher. Without it, the stage
    /// continues with the previous model, and the first stage trains the recipe's `[model]`. The
    /// run's first baseline does not change.
    pub model: Option<ModelConfig>,
}

/// Settings of quantization-aware training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QatConfig {
    /// The optimizer's schedule.
    pub schedule: Schedule,
    /// Quantizers of each part of the model. Without it, tables have the model's
    /// `quantization_bits`, and everything else the defaults below.
    pub quantization: Option<QuantizationPolicy>,
    /// Windows of training text for the calibration of activation scales.
    pub calibration_samples: usize,
}

impl Default for QatConfig {
    fn default() -> Self {
        Self { schedule: Schedule::default(), quantization: None, calibration_samples: 256 }
    }
}

/// Settings of pruning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PruneConfig {
    /// The optimizer's schedule.
    pub schedule: Schedule,
    /// Which experts are removed.
    pub experts: ExpertPruning,
    /// Which single weights are held at zero: the smallest of each matrix.
    pub magnitude: Option<MagnitudePruning>,
    /// Share of the stage over which the sparsity rises along a cubic; 0 prunes at once.
    pub magnitude_over: f64,
    /// Temperature of the soft targets.
    pub temperature: f32,
    /// Weight of the soft targets, which come from the model before the stage; 0 for none. The hard
    /// targets have weight `1 - alpha`.
    pub alpha: f32,
}

impl Default for PruneConfig {
    fn default() -> Self {
        Self {
            schedule: Schedule::default(),
            experts: ExpertPruning::default(),
            magnitude: None,
            magnitude_over: 0.0,
            temperature: 2.0,
            alpha: 0.0,
        }
    }
}

/// Which experts are removed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ExpertPruning {
    /// An expert with a smaller share of the training tokens is removed. Without it, the model's
    /// `prune_threshold` is used.
    pub threshold: Option<f64>,
    /// Removal mode: what happens to the weights of a removed expert.
    pub removal: RemovalMode,
    /// Numbers of experts that each block keeps from some point of the stage on. The most used
    /// experts are kept.
    pub milestones: Vec<Milestone>,
}

/// Removal mode: what happens to the weights of a removed expert.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RemovalMode {
    /// They are dropped.
    #[default]
    Drop,
    /// They are averaged into the most similar expert, unit by unit.
    Merge,
}

/// A point of a pruning schedule, given by step or by epoch.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Milestone {
    /// Before this step of the stage, counted from 0. A milestone has either `step` or `epoch`.
    pub step: Option<usize>,
    /// Before this epoch of the stage, counted from 0; below `schedule.epochs`, or 3
    /// with `schedule.minutes`.
    pub epoch: Option<usize>,
    /// Experts that each block keeps, at least `top_k`.
    pub experts: usize,
}

/// Which weights are held at zero: the smallest of each matrix.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MagnitudePruning {
    /// Weights whose magnitude is below this, at least 0.
    Threshold(f32),
    /// This share of each matrix, at least 0 and below 1.
    Sparsity(f32),
}

/// Settings of distillation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DistillConfig {
    /// The optimizer's schedule.
    pub schedule: Schedule,
    /// Sizes of the student relative to its teacher. Cannot be combined with `model`.
    pub student: StudentConfig,
    /// A complete configuration of the student, instead of `student`.
    pub model: Option<ModelConfig>,
    /// What the student's parameters begin with.
    pub init: StudentInit,
    /// Quantizers of the student. Without it, the student has its teacher's.
    pub quantization: Option<QuantizationPolicy>,
    /// Temperature of the soft targets.
    pub temperature: f32,
    /// Weight of the soft targets. The hard targets have weight `1 - alpha`.
    pub alpha: f32,
    /// Weight of the feature loss: the squared difference of the resolvent features of student and
    /// teacher in matching blocks, relative to the teacher's square; 0 for none.
    pub feature_weight: f32,
    /// Share of the stage after which the student is pruned like its teacher, and quantized like it
    /// or by `quantization`.
    pub compress_at: f64,
}

impl Default for DistillConfig {
    fn default() -> Self {
        Self {
            schedule: Schedule::default(),
            student: StudentConfig::default(),
            model: None,
            init: StudentInit::default(),
            quantization: None,
            temperature: 2.0,
            alpha: 0.7,
            feature_weight: 0.1,
            compress_at: 0.5,
        }
    }
}

/// What a student's parameters begin with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StudentInit {
    /// Random numbers.
    #[default]
    Random,
    /// The best approximation of the teacher's table that the student's bins allow, the teacher's
    /// bias, and the teacher's blocks where all of their sizes are equal.
    Teacher,
}

/// Sizes of a student. Missing ones are derived from the teacher.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StudentConfig {
    /// Width. Without it, half the teacher's.
    pub d_model: Option<usize>,
    /// Number of blocks. Without it, half the teacher's.
    pub n_layers: Option<usize>,
    /// Experts of a block. Without it, two.
    pub num_experts: Option<usize>,
    /// Hidden width of an expert. Without it, twice the student's width.
    pub d_ff: Option<usize>,
    /// Resolvent heads. Without it, the teacher's number.
    pub heads: Option<usize>,
    /// Whether the head shares the embedding table. Without it, as in the teacher.
    pub tied_embeddings: Option<bool>,
}

impl StudentConfig {
    /// The student's configuration.
    pub fn of(&self, teacher: &ModelConfig) -> ModelConfig {
        let d_model = self.d_model.unwrap_or(teacher.d_model.div_ceil(2));
        let num_experts = self.num_experts.unwrap_or(2);
        ModelConfig {
            d_model,
            n_layers: self.n_layers.unwrap_or(teacher.n_layers.div_ceil(2)),
            num_experts,
            top_k: teacher.top_k.min(num_experts),
            d_ff: self.d_ff.unwrap_or(2 * d_model),
            heads: self.heads.unwrap_or(teacher.heads),
            tied_embeddings: self.tied_embeddings.unwrap_or(teacher.tied_embeddings),
            ..teacher.clone()
        }
    }
}

impl DistillConfig {
    /// The student's configuration.
    pub fn student_config(&self, teacher: &ModelConfig) -> ModelConfig {
        self.model.clone().unwrap_or_else(|| self.student.of(teacher))
    }
}

impl StageConfig {
    /// Kind of the stage.
    pub fn kind(&self) -> StageKind {
        match self {
            Self::Train(_) => StageKind::Train,
            Self::Qat(_) => StageKind::Qat,
            Self::Prune(_) => StageKind::Prune,
            Self::Distill(_) => StageKind::Distill,
            Self::Plan(_) => StageKind::Plan,
        }
    }

    /// Configuration of the model after the stage, given the one before it.
    pub fn model_after(&self, before: &ModelConfig) -> ModelConfig {
        match self {
            Self::Train(config) => config.model.as_ref().unwrap_or(before).clone(),
            Self::Qat(_) | Self::Prune(_) => before.clone(),
            Self::Distill(config) => config.student_config(before),
            Self::Plan(config) => config.common(before),
        }
    }

    /// Whether the stage replaces the model by a new one.
    pub fn has_own_model(&self) -> bool {
        match self {
            Self::Train(config) => config.model.is_some(),
            Self::Qat(_) | Self::Prune(_) => false,
            Self::Distill(_) | Self::Plan(_) => true,
        }
    }

    /// Whether the model has learned scales at the end of the stage, given whether it had them
    /// before.
    pub fn has_learned_scales(&self, before: bool) -> bool {
        let policy = match self {
            Self::Train(_) => return before && !self.has_own_model(),
            Self::Prune(_) => return before,
            Self::Distill(config) if config.quantization.is_none() => return before,
            Self::Distill(config) => config.quantization.as_ref(),
            Self::Qat(config) => config.quantization.as_ref(),
            Self::Plan(_) => return true,
        };
        policy.is_some_and(|policy| policy.learned.is_some())
    }

    /// Whether the stage chooses something on the dev slice.
    pub fn needs_dev_slice(&self) -> bool {
        self.schedule().keep_best_epoch || self.kind() == StageKind::Plan
    }

    /// The optimizer's schedule.
    pub fn schedule(&self) -> &Schedule {
        match self {
            Self::Train(config) => &config.schedule,
            Self::Qat(config) => &config.schedule,
            Self::Prune(config) => &config.schedule,
            Self::Distill(config) => &config.schedule,
            Self::Plan(config) => &config.schedule,
        }
    }
}
