//! Valid ranges of a stage's fields.

use super::{
    DistillConfig, MagnitudePruning, Milestone, ModelConfig, PlanConfig, PruneConfig, QatConfig, Schedule, StageConfig,
    StudentConfig,
};
use resnet_bk_runtime::internal::architecture::Causality;
use std::fmt::Display;

/// An invalid field: its name, its value, the allowed values.
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

fn positive(field: &'static str, value: impl Copy + Display + Into<f64>) -> Result<(), Fault> {
    let number: f64 = value.into();
    require(number.is_finite() && number > 0.0, field, value, "finite and above 0")
}

fn not_negative(field: &'static str, value: impl Copy + Display + Into<f64>) -> Result<(), Fault> {
    let number: f64 = value.into();
    require(number.is_finite() && number >= 0.0, field, value, "finite and at least 0")
}

/// The bound prevents overflow in products of counts, such as the number of steps.
fn count(field: &'static str, value: usize) -> Result<(), Fault> {
    require((1..=1 << 20).contains(&value), field, value, "from 1 to 1,048,576")
}

fn soft_targets(temperature: f32, alpha: f32) -> Result<(), Fault> {
    positive("temperature", temperature)?;
    require((0.0..=1.0).contains(&alpha), "alpha", alpha, "from 0 to 1")
}

fn shown(milestone: &Milestone) -> &'static str {
    if milestone.step.is_some() { "placed by both" } else { "placed by neither" }
}

impl StageConfig {
    /// Checks every field and returns the first fault.
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

    /// Checks that a student's windows are not longer than its teacher's position embeddings.
    ///
    /// # Errors
    /// The length of the windows if it is too large.
    pub fn check_windows(&self, before: &ModelConfig) -> Result<(), usize> {
        let windows = self.model_after(before).n_seq;
        let learns = matches!(self, Self::Distill(_) | Self::Plan(_));
        if learns && before.positions && windows > before.n_seq { Err(windows) } else { Ok(()) }
    }

    /// Checks that the model after the stage, and a teacher, can carry their state from window to
    /// window, if the schedule says so. `before` is the model before the stage.
    ///
    /// # Errors
    /// What `carry_windows` must be for the first model that cannot.
    pub fn check_carry(&self, before: &ModelConfig) -> Result<(), &'static str> {
        if self.schedule().carry_windows == 1 {
            return Ok(());
        }
        let fault = |model: &ModelConfig| match (model.positions, model.causality) {
            (true, _) => Some("1 where a model has position embeddings: positions = false leaves them out"),
            (false, Causality::Bidirectional) => {
                Some("1 where a model is bidirectional: causality = \"causal\" changes that")
            }
            (false, Causality::Causal) => None,
        };
        let teacher = matches!(self, Self::Distill(_) | Self::Plan(_)).then_some(before);
        let fault = fault(&self.model_after(before)).or_else(|| teacher.and_then(fault));
        fault.map_or(Ok(()), Err)
    }
}

impl Schedule {
    fn validate(&self) -> Result<(), Fault> {
        count("epochs", self.epochs.unwrap_or(1))?;
        if let Some(minutes) = self.minutes {
            positive("minutes", minutes)?;
            require(self.epochs.is_none(), "minutes", minutes, "absent where `epochs` is given")?;
        }
        count("batch_size", self.batch_size)?;
        count("carry_windows", self.carry_windows)?;
        let lengths = &self.window_lengths;
        let most = if self.carry_windows == 1 { 0 } else { self.carry_windows.min(Self::MOST_LENGTHS) };
        let allowed = "at most 8 lengths, no more than carry_windows, and none where that is 1";
        require(lengths.len() <= most, "window_lengths", format!("{lengths:?}"), allowed)?;
        lengths.iter().try_for_each(|&length| count("window_lengths", length))?;
        positive("learning_rate", self.learning_rate)?;
        share("warmup", self.warmup)?;
        share("min_lr_ratio", self.min_lr_ratio)?;
        positive("restart", self.restart.unwrap_or(1.0))?;
        not_negative("weight_decay", self.weight_decay)?;
        below_one("beta1", self.beta1)?;
        below_one("beta2", self.beta2)?;
        not_negative("lambda", self.lambda)?;
        below_one("average", self.average)?;
        below_one("average_from", self.average_from)?;
        let bytes = self.weights_bytes.unwrap_or(1);
        require(bytes >= 1, "weights_bytes", bytes, "at least 1")
    }
}

impl QatConfig {
    fn validate(&self) -> Result<(), Fault> {
        let samples = self.calibration_samples;
        require((200..=1 << 20).contains(&samples), "calibration_samples", samples, "from 200 to 1,048,576")
    }
}

impl PruneConfig {
    fn validate(&self, model: &ModelConfig) -> Result<(), Fault> {
        share("experts.threshold", self.experts.threshold.unwrap_or(0.0))?;
        for milestone in &self.experts.milestones {
            let placed = milestone.step.is_some() != milestone.epoch.is_some();
            require(placed, "experts.milestones", shown(milestone), "placed by `step` or by `epoch`")?;
            let (experts, epoch) = (milestone.experts, milestone.epoch.unwrap_or(0));
            require(experts >= model.top_k, "experts.milestones.experts", experts, "at least top_k")?;
            require(epoch < self.schedule.least_epochs(), "experts.milestones.epoch", epoch, "before the stage's end")?;
        }
        soft_targets(self.temperature, self.alpha)?;
        share("magnitude_over", self.magnitude_over)?;
        match self.magnitude {
            Some(MagnitudePruning::Sparsity(sparsity)) => below_one("magnitude.sparsity", f64::from(sparsity)),
            Some(MagnitudePruning::Threshold(size)) => not_negative("magnitude.threshold", size),
            None => Ok(()),
        }
    }
}

impl DistillConfig {
    fn validate(&self) -> Result<(), Fault> {
        let once = self.model.is_none() || self.student == StudentConfig::default();
        require(once, "student", "given", "absent where `model` is given")?;
        soft_targets(self.temperature, self.alpha)?;
        not_negative("feature_weight", self.feature_weight)?;
        share("compress_at", self.compress_at)
    }
}

impl PlanConfig {
    fn validate(&self) -> Result<(), Fault> {
        // Later rounds use multiples of it.
        require((1..=1 << 40).contains(&self.trial_tokens), "trial_tokens", self.trial_tokens, "from 1 to 2^40")?;
        count("finalists", self.finalists)?;
        soft_targets(self.temperature, self.alpha)?;
        share("compress_at", self.compress_at)
    }
}
