//! What a stage's fields may hold.

use super::{
    DistillConfig, MagnitudePruning, ModelConfig, PlanConfig, PruneConfig, QatConfig, Schedule, StageConfig,
    StudentConfig,
};
use std::fmt::Display;

/// A field that holds something else than it may: its name, its value, what it may hold.
pub(super) type Fault = (&'static str, String, &'static str);

fn require(holds: bool, field: &'static str, value: impl Display, allowed: &'static str) -> Result<(), Fault> {
    if holds { Ok(()) } else { Err((field, value.to_string(), allowed)) }
}

fn share(field: &'static str, value: f64) -> Result<(), Fault> {
    require((0.0..=1.0).contains(&value), field, value, "from 0 to 1")
}

fn below_one(field: &'static str, value: f64) -> Result<(), Fault> {
    require((0.0..1.0).contains(&value), field, value, "at least 0 and below 1")
}

fn soft_targets(temperature: f32, alpha: f32) -> Result<(), Fault> {
    require(temperature > 0.0, "temperature", temperature, "above 0")?;
    require((0.0..=1.0).contains(&alpha), "alpha", alpha, "from 0 to 1")
}

impl StageConfig {
    /// Checks every field; the first fault.
    pub(super) fn validate(&self, model: &ModelConfig) -> Result<(), Fault> {
        self.schedule().validate()?;
        match self {
            Self::Train(_) => Ok(()),
            Self::Qat(qat) => qat.validate(),
            Self::Prune(prune) => prune.validate(model),
            Self::Distill(distill) => distill.validate(),
            Self::Plan(plan) => plan.validate(),
        }
    }
}

impl Schedule {
    fn validate(&self) -> Result<(), Fault> {
        require(self.epochs >= 1, "epochs", self.epochs, "at least 1")?;
        require(self.batch_size >= 1, "batch_size", self.batch_size, "at least 1")?;
        require(self.learning_rate > 0.0, "learning_rate", self.learning_rate, "above 0")?;
        share("warmup", self.warmup)?;
        share("final_fraction", self.final_fraction)?;
        require(self.weight_decay >= 0.0, "weight_decay", self.weight_decay, "at least 0")?;
        below_one("beta1", self.beta1)?;
        below_one("beta2", self.beta2)?;
        require(self.bit_price >= 0.0, "bit_price", self.bit_price, "at least 0")?;
        let bytes = self.weights_bytes.unwrap_or(1);
        require(bytes >= 1, "weights_bytes", bytes, "at least 1")
    }
}

impl QatConfig {
    fn validate(&self) -> Result<(), Fault> {
        require(self.calibration_samples >= 200, "calibration_samples", self.calibration_samples, "at least 200")
    }
}

impl PruneConfig {
    fn validate(&self, model: &ModelConfig) -> Result<(), Fault> {
        share("experts.threshold", self.experts.threshold.unwrap_or(0.0))?;
        for milestone in &self.experts.milestones {
            let placed = milestone.step.is_some() != milestone.epoch.is_some();
            require(placed, "experts.milestones", format!("{milestone:?}"), "placed by `step` or by `epoch`")?;
            let (experts, epoch) = (milestone.experts, milestone.epoch.unwrap_or(0));
            require(experts >= model.top_k, "experts.milestones.experts", experts, "at least top_k")?;
            require(epoch < self.schedule.epochs, "experts.milestones.epoch", epoch, "before the stage's end")?;
        }
        soft_targets(self.temperature, self.alpha)?;
        share("magnitude_over", self.magnitude_over)?;
        match self.magnitude {
            Some(MagnitudePruning::Sparsity(sparsity)) => below_one("magnitude.sparsity", f64::from(sparsity)),
            Some(MagnitudePruning::Threshold(size)) => require(size >= 0.0, "magnitude.threshold", size, "at least 0"),
            None => Ok(()),
        }
    }
}

impl DistillConfig {
    fn validate(&self) -> Result<(), Fault> {
        let once = self.model.is_none() || self.student == StudentConfig::default();
        require(once, "student", format!("{:?}", self.student), "absent where `model` is given")?;
        soft_targets(self.temperature, self.alpha)?;
        require(self.feature_weight >= 0.0, "feature_weight", self.feature_weight, "at least 0")?;
        share("compress_at", self.compress_at)
    }
}

impl PlanConfig {
    fn validate(&self) -> Result<(), Fault> {
        require(self.trial_tokens > 0, "trial_tokens", self.trial_tokens, "at least 1")?;
        require(self.finalists > 0, "finalists", self.finalists, "at least 1")?;
        soft_targets(self.temperature, self.alpha)?;
        share("compress_at", self.compress_at)
    }
}
