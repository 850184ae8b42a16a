//! Settings of a planned distillation.

use super::{DistillConfig, ModelConfig, PerHead, Schedule};
use crate::numerics::Gradient;
use resnet_bk_runtime::internal::architecture::{Causality, Mixer};
use resnet_bk_runtime::internal::quantization::QuantizationPolicy;
use serde::{Deserialize, Serialize};

/// A distillation whose student is searched for: its sizes and levels, under a budget of bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PlanConfig {
    /// The optimizer's schedule for the student that was chosen.
    pub schedule: Schedule,
    /// What every student has in common, such as dropout. Sizes, frequency bins and experts are
    /// searched for.
    pub model: Option<ModelConfig>,
    /// Training tokens of a trial in the first round. A trial in the second round has three times
    /// as many, as far as the text goes. Trials are compared on the dev slice.
    pub trial_tokens: usize,
    /// Number of trials in the second round.
    pub finalists: usize,
    /// Temperature of the soft targets.
    pub temperature: f32,
    /// Weight of the soft targets; the hard targets have the rest.
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
    /// What students have in common, for students of this teacher: all but their sizes.
    pub fn common(&self, teacher: &ModelConfig) -> ModelConfig {
        ModelConfig {
            mixer: Mixer::Propagator,
            causality: Causality::Causal,
            gradient: Gradient::Exact,
            // The propagator makes its matrix from its input, and needs no shift.
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

    /// The distillation of one student.
    pub fn distillation(&self, schedule: Schedule, model: ModelConfig, policy: QuantizationPolicy) -> DistillConfig {
        DistillConfig {
            schedule,
            model: Some(model),
            quantization: Some(policy),
            temperature: self.temperature,
            alpha: self.alpha,
            feature_weight: 0.0,
            compress_at: self.compress_at,
            ..DistillConfig::default()
        }
    }
}
