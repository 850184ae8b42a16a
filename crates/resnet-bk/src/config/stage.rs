//! What the stages can be told.

use super::{ModelConfig, PlanConfig};
use crate::ops::Precision;
use resnet_bk_runtime::quantization::QuantizationPolicy;
use serde::{Deserialize, Serialize};

/// One stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum StageConfig {
    /// Plain training.
    Train(TrainConfig),
    /// Quantization-aware training.
    Qat(QatConfig),
    /// Structured and magnitude pruning with training after it.
    Prune(PruneConfig),
    /// A smaller student learns from the model so far.
    Distill(DistillConfig),
    /// The same, with a student that is searched for.
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
    /// Distillation of a student that is searched for.
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

/// How the learning rate goes on after the warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LearningRateShape {
    /// Half a cosine from the peak to `final_fraction` of it.
    Cosine,
    /// It stays.
    Constant,
}

/// The optimizer's schedule in one stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Schedule {
    /// Passes over the training tokens.
    pub epochs: usize,
    /// Windows in a batch.
    pub batch_size: usize,
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Shape after the warm-up.
    pub shape: LearningRateShape,
    /// Share of the steps over which the rate rises linearly from zero.
    pub warmup: f64,
    /// Last rate over the peak (cosine).
    pub final_fraction: f64,
    /// Decoupled weight decay of matrices and tables.
    pub weight_decay: f64,
    /// Decay of the gradient's running mean.
    pub beta1: f64,
    /// Decay of its square's running mean.
    pub beta2: f64,
    /// Number format of the head's matrix products: `bf16` where the processor multiplies it in hardware, or `float32`.
    pub precision: Precision,
}

impl Default for Schedule {
    fn default() -> Self {
        Self {
            epochs: 1,
            batch_size: 20,
            learning_rate: 2e-3,
            shape: LearningRateShape::Cosine,
            warmup: 0.05,
            final_fraction: 0.05,
            weight_decay: 0.01,
            beta1: 0.9,
            beta2: 0.999,
            precision: Precision::Bf16,
        }
    }
}

/// Settings of plain training.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainConfig {
    /// The optimizer's schedule.
    pub schedule: Schedule,
    /// A fresh model, which takes the place of the one before: a teacher. The recipe's `[model]` where it says nothing. The baseline
    /// stays what it was.
    pub model: Option<ModelConfig>,
}

/// Settings of quantization-aware training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QatConfig {
    /// The optimizer's schedule.
    pub schedule: Schedule,
    /// Bits per part; the model's `quantization_bits` for the tables where it is not said.
    pub quantization: Option<QuantizationPolicy>,
    /// Windows of training text that calibrate the activations, at least 200.
    pub calibration_samples: usize,
}

impl Default for QatConfig {
    fn default() -> Self {
        Self { schedule: Schedule::default(), quantization: None, calibration_samples: 256 }
    }
}

/// Settings of pruning.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PruneConfig {
    /// The optimizer's schedule.
    pub schedule: Schedule,
    /// Which experts go.
    pub experts: ExpertPruning,
    /// Which single weights go.
    pub magnitude: Option<MagnitudePruning>,
}

/// Which experts are removed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ExpertPruning {
    /// Least share of held-out tokens that keeps an expert; the model's `prune_threshold` where it is not said.
    pub threshold: Option<f64>,
    /// Experts that stay from a point of the stage on: the most used ones.
    pub milestones: Vec<Milestone>,
}

/// A point of a progressive schedule, by step or by epoch.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Milestone {
    /// Before this step of the stage, counted from 0.
    pub step: Option<usize>,
    /// Before this epoch of the stage, counted from 0.
    pub epoch: Option<usize>,
    /// Experts of each block that stay.
    pub experts: usize,
}

/// Which weights are held at zero: a matrix's smallest.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MagnitudePruning {
    /// Those below this size.
    Threshold(f32),
    /// This share of each matrix.
    Sparsity(f32),
}

/// Settings of distillation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DistillConfig {
    /// The optimizer's schedule.
    pub schedule: Schedule,
    /// The student's sizes, relative to its teacher.
    pub student: StudentConfig,
    /// A whole configuration for the student instead; the recipe's `[model]` where it says nothing.
    pub model: Option<ModelConfig>,
    /// Quantizers of the student; its teacher's where it is not said.
    pub quantization: Option<QuantizationPolicy>,
    /// Temperature of the soft targets.
    pub temperature: f32,
    /// Weight of the soft targets; the hard ones have the rest.
    pub alpha: f32,
    /// Weight of the resolvent features of matching blocks.
    pub feature_weight: f32,
    /// Share of the stage after which the student is compressed as its teacher was.
    pub compress_at: f64,
}

impl Default for DistillConfig {
    fn default() -> Self {
        Self {
            schedule: Schedule::default(),
            student: StudentConfig::default(),
            model: None,
            quantization: None,
            temperature: 2.0,
            alpha: 0.7,
            feature_weight: 0.1,
            compress_at: 0.5,
        }
    }
}

/// Sizes of a student; what is not said follows from the teacher.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StudentConfig {
    /// Width; half the teacher's.
    pub d_model: Option<usize>,
    /// Blocks; half the teacher's.
    pub n_layers: Option<usize>,
    /// Experts; two.
    pub num_experts: Option<usize>,
    /// Expert width; twice the student's width.
    pub d_ff: Option<usize>,
    /// Heads; the teacher's.
    pub heads: Option<usize>,
    /// Whether the head shares the table; as the teacher's.
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
    /// Which kind it is.
    pub fn kind(&self) -> StageKind {
        match self {
            Self::Train(_) => StageKind::Train,
            Self::Qat(_) => StageKind::Qat,
            Self::Prune(_) => StageKind::Prune,
            Self::Distill(_) => StageKind::Distill,
            Self::Plan(_) => StageKind::Plan,
        }
    }

    /// The configuration of the fresh model that it brings.
    pub fn model(&self) -> Option<&ModelConfig> {
        match self {
            Self::Train(config) => config.model.as_ref(),
            Self::Distill(config) => config.model.as_ref(),
            Self::Qat(_) | Self::Prune(_) | Self::Plan(_) => None,
        }
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

impl StageConfig {
    /// Checks every field; a wrong one comes back with its value and what it may hold.
    pub(super) fn validate(&self, model: &ModelConfig) -> Result<(), (&'static str, String, &'static str)> {
        let share = |x: f64| (0.0..=1.0).contains(&x);
        let schedule = self.schedule();
        let mut rules = vec![
            (schedule.epochs >= 1, "epochs", schedule.epochs.to_string(), "at least 1"),
            (schedule.batch_size >= 1, "batch_size", schedule.batch_size.to_string(), "at least 1"),
            (schedule.learning_rate > 0.0, "learning_rate", schedule.learning_rate.to_string(), "above 0"),
            (share(schedule.warmup), "warmup", schedule.warmup.to_string(), "from 0 to 1"),
            (share(schedule.final_fraction), "final_fraction", schedule.final_fraction.to_string(), "from 0 to 1"),
            (schedule.weight_decay >= 0.0, "weight_decay", schedule.weight_decay.to_string(), "at least 0"),
            (
                share(schedule.beta1) && schedule.beta1 < 1.0,
                "beta1",
                schedule.beta1.to_string(),
                "at least 0 and below 1",
            ),
            (
                share(schedule.beta2) && schedule.beta2 < 1.0,
                "beta2",
                schedule.beta2.to_string(),
                "at least 0 and below 1",
            ),
        ];
        match self {
            Self::Train(_) => {}
            Self::Qat(qat) => rules.push((
                qat.calibration_samples >= 200,
                "calibration_samples",
                qat.calibration_samples.to_string(),
                "at least 200",
            )),
            Self::Prune(prune) => {
                let threshold = prune.experts.threshold.unwrap_or(0.0);
                rules.push((share(threshold), "experts.threshold", threshold.to_string(), "from 0 to 1"));
                for milestone in &prune.experts.milestones {
                    let placed = milestone.step.is_some() != milestone.epoch.is_some();
                    rules.push((
                        placed,
                        "experts.milestones",
                        format!("{milestone:?}"),
                        "placed by `step` or by `epoch`",
                    ));
                    let experts = milestone.experts;
                    rules.push((
                        experts >= model.top_k,
                        "experts.milestones.experts",
                        experts.to_string(),
                        "at least top_k",
                    ));
                    let epoch = milestone.epoch.unwrap_or(0);
                    rules.push((
                        epoch < schedule.epochs,
                        "experts.milestones.epoch",
                        epoch.to_string(),
                        "before the stage's end",
                    ));
                }
                match prune.magnitude {
                    Some(MagnitudePruning::Sparsity(s)) => {
                        rules.push((
                            (0.0..1.0).contains(&s),
                            "magnitude.sparsity",
                            s.to_string(),
                            "at least 0 and below 1",
                        ));
                    }
                    Some(MagnitudePruning::Threshold(t)) => {
                        rules.push((t >= 0.0, "magnitude.threshold", t.to_string(), "at least 0"));
                    }
                    None => {}
                }
            }
            Self::Distill(distill) => {
                let sizes = &distill.student;
                let once = distill.model.is_none() || *sizes == StudentConfig::default();
                rules.push((once, "student", format!("{sizes:?}"), "absent where `model` is given"));
                rules.push((distill.temperature > 0.0, "temperature", distill.temperature.to_string(), "above 0"));
                rules.push((share(f64::from(distill.alpha)), "alpha", distill.alpha.to_string(), "from 0 to 1"));
                rules.push((
                    distill.feature_weight >= 0.0,
                    "feature_weight",
                    distill.feature_weight.to_string(),
                    "at least 0",
                ));
                rules.push((share(distill.compress_at), "compress_at", distill.compress_at.to_string(), "from 0 to 1"));
            }
            Self::Plan(plan) => {
                rules.push((plan.trial_tokens > 0, "trial_tokens", plan.trial_tokens.to_string(), "at least 1"));
                rules.push((plan.finalists > 0, "finalists", plan.finalists.to_string(), "at least 1"));
                rules.push((plan.temperature > 0.0, "temperature", plan.temperature.to_string(), "above 0"));
                rules.push((share(f64::from(plan.alpha)), "alpha", plan.alpha.to_string(), "from 0 to 1"));
                rules.push((share(plan.compress_at), "compress_at", plan.compress_at.to_string(), "from 0 to 1"));
            }
        }
        rules.into_iter().find(|rule| !rule.0).map_or(Ok(()), |(_, field, value, allowed)| Err((field, value, allowed)))
    }
}
