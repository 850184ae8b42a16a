//! Settings of a `plan` stage.

use super::{DistillConfig, ModelConfig, PerHead, Schedule, StudentInit};
use crate::numerics::Gradient;
use resnet_bk_runtime::internal::architecture::{Causality, Mixer};
use resnet_bk_runtime::internal::quantization::QuantizationPolicy;
use serde::{Deserialize, Serialize};

/// Distillation of a student that the planner searches for within a budget of bytes. Students begin
/// with their teacher's table and bias.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PlanConfig {
    /// The optimizer's schedule for the chosen student.
    pub schedule: Schedule,
    /// Settings that all students share, such as dropout. Sizes, frequency bins and experts are
    /// searched for.
    pub model: Option<ModelConfig>,
    /// Training tokens of a trial in the first round. A trial in the second round has three times
    /// as many, or all tokens of the text. Trials are compared on the dev slice.
    pub trial_tokens: usize,
    /// Number of trials in the second round.
    pub finalists: usize,
    /// Temperature of the soft targets.
    pub temperature: f32,
    /// Weight of the soft targets. The hard targets have weight `1 - alpha`.
    pub alpha: f32,
    /// Share of the stage after which the student is quantized.
    pub compress_at: f64,
}

impl Default for PlanConfig {
    fn default() -> Self {
        let DistillConfig { schedule, temperature, alpha, compress_at, .. } = DistillConfig::default();
        Self { schedule, model: None, trial_tokens: 150_000, finalists: 3, temperature, alpha, compress_at }
    }
}

impl PlanConfig {
    /// Configuration that all students of this teacher share: everything but the sizes.
    pub fn common(&self, teacher: &ModelConfig) -> ModelConfig {
        ModelConfig {
            mixer: Mixer::Propagator,
            causality: Causality::Causal,
            gradient: Gradient::Exact,
            // The propagator computes its matrix from its input and needs no shift.
            a0: PerHead::All(0.0),
            s: PerHead::All(1.0),
            eta: PerHead::All(0.0),
            learned_eta: false,
            top_k: 1,
            positions: false,
            tied_embeddings: true,
            ..self.model.as_ref().unwrap_or(teacher).clone()
        }
    }

    /// The configuration of one student's distillation.
    pub fn distillation(&self, schedule: Schedule, model: ModelConfig, policy: QuantizationPolicy) -> DistillConfig {
        DistillConfig {
            schedule,
            model: Some(model),
            quantization: Some(policy),
            temperature: self.temperature,
            alpha: self.alpha,
            feature_weight: 0.0,
            compress_at: self.compress_at,
            init: StudentInit::Teacher,
            ..DistillConfig::default()
        }
    }
}
