//! Pruning: removes or merges rarely used experts, holds small weights at zero, and trains on. The
//! model before the stage can be the teacher of this training.

mod magnitude;
mod merge;

pub(crate) use magnitude::keep_mask;
pub use magnitude::mask_small_weights;

use super::stage::{RunStage, StageContext};
use super::teacher::Teacher;
use crate::batch::Batch;
use crate::checkpoint::{Checkpoint, ModelState};
use crate::config::{PruneConfig, RemovalMode};
use crate::evaluate::expert_usage;
use crate::model::{LanguageModel, Leaves, Output};
use crate::observer::Event;
use crate::ops::HeadLoss;
use crate::parameters::Parameters;
use crate::summary::Removal;
use crate::tape::Tensor;
use crate::train::{Objective, StepContext, TrainError, Trained, train};

/// Training tokens that are routed to measure the usage of experts. A share of 5 % then has a
/// standard error of 0.05 percentage points.
const USAGE_TOKENS: usize = 200_000;

/// Objective of a `prune` stage.
#[derive(Debug)]
pub struct Pruning<'a> {
    config: &'a PruneConfig,
    teacher: Option<Teacher>,
}

impl<'a> Pruning<'a> {
    /// An objective for a stage that started from the parameters `before`.
    pub fn new(config: &'a PruneConfig, before: &Parameters) -> Self {
        Self { config, teacher: (config.alpha > 0.0).then(|| Teacher::new(before)) }
    }
}

impl Objective for Pruning<'_> {
    fn before_step(&mut self, model: &mut ModelState, context: &mut StepContext) {
        let experts = &self.config.experts;
        let mode = experts.removal;
        if context.step == 0 {
            let threshold = experts.threshold.unwrap_or(model.config.prune_threshold);
            remove_unused_experts(model, threshold, mode, context);
        }
        if let Some(magnitude) = self.config.magnitude {
            magnitude::follow_schedule(model, magnitude, self.config.magnitude_over, context);
        }
        for milestone in &experts.milestones {
            let at = milestone.step.or(milestone.epoch.map(|epoch| epoch * context.length.steps_per_epoch));
            if at == Some(context.step) {
                keep_most_used_experts(model, milestone.experts, mode, context);
            }
        }
    }

    fn reset_state(&mut self) {
        if let Some(teacher) = &mut self.teacher {
            teacher.reset_state();
        }
    }

    fn loss(&mut self, model: &LanguageModel, output: &Output, _: &Leaves, batch: &Batch) -> Tensor {
        let PruneConfig { schedule, temperature, alpha, .. } = self.config;
        let soft = self.teacher.as_mut().map(|teacher| {
            let output = teacher.forward(batch);
            teacher.soft_targets(&output, *temperature, *alpha)
        });
        let loss = HeadLoss { targets: batch.targets.clone(), soft, precision: schedule.precision };
        model.head_loss(loss, &output.hidden)
    }
}

impl RunStage for PruneConfig {
    fn run(&self, checkpoint: &mut Checkpoint, context: StageContext) -> Result<Trained, TrainError> {
        let StageContext { stage, streams, teacher, observer } = context;
        let before = teacher.as_ref().unwrap_or(&checkpoint.model);
        let mut objective = Pruning::new(self, &before.parameters);
        train(checkpoint, stage, streams, &mut objective, observer)
    }

    fn needs_teacher(&self) -> bool {
        true
    }
}

/// Removes the experts whose share of training tokens is below `threshold`. Each block keeps at
/// least `top_k` experts.
pub fn remove_unused_experts(model: &mut ModelState, threshold: f64, mode: RemovalMode, context: &mut StepContext) {
    let reason = format!("used by less than {} % of training tokens", threshold * 100.0);
    remove_while(model, context, &reason, mode, |usage, _| usage < threshold);
    model.compression.expert_threshold = Some(threshold);
}

/// Keeps the `keep` most used experts of each block, but at least `top_k`.
pub fn keep_most_used_experts(model: &mut ModelState, keep: usize, mode: RemovalMode, context: &mut StepContext) {
    let reason = format!("least used, schedule keeps {keep}");
    remove_while(model, context, &reason, mode, |_, experts| experts > keep);
    model.compression.experts = Some(keep);
}

/// Removes each block's least used expert while `should_remove(share of training tokens, experts
/// left)` holds.
///
/// After each removal the usage is measured again, because tokens of the removed expert now use
/// another one.
fn remove_while(
    model: &mut ModelState,
    context: &mut StepContext,
    reason: &str,
    mode: RemovalMode,
    should_remove: impl Fn(f64, usize) -> bool,
) {
    loop {
        let architecture = model.parameters.architecture();
        let top_k = architecture.top_k;
        let may_shrink = |experts: usize| experts > top_k.max(1);
        if !architecture.experts.iter().any(|&experts| may_shrink(experts)) {
            return;
        }
        let usage = expert_usage(&model.parameters, usage_sample(&context.streams.train));
        let mut removed = false;
        for (block, shares) in usage.iter().enumerate() {
            let (expert, usage) = least_used(shares);
            let experts = model.parameters.architecture().experts[block];
            if may_shrink(experts) && should_remove(usage, experts) {
                let numbers = numbers_at_the_beginning(context.removals, context.stage, block, experts);
                let merged_into = match mode {
                    RemovalMode::Drop => None,
                    RemovalMode::Merge => Some(merge::merge(&mut model.parameters, block, expert, shares)),
                };
                model.parameters = model.parameters.clone().remove_expert(block, expert);
                let removal = Removal {
                    stage: context.stage,
                    step: context.step,
                    block,
                    expert: numbers[expert],
                    usage,
                    merged_into: merged_into.map(|other| numbers[other]),
                    reason: reason.to_owned(),
                };
                context.observer.event(&Event::ExpertRemoved(removal.clone()));
                context.removals.push(removal);
                removed = true;
            }
        }
        if !removed {
            return;
        }
    }
}

/// The numbers that a block's experts had at the beginning of the stage, in their present order.
fn numbers_at_the_beginning(removals: &[Removal], stage: usize, block: usize, experts: usize) -> Vec<usize> {
    let of_block = removals.iter().filter(|removal| (removal.stage, removal.block) == (stage, block));
    let removed: Vec<usize> = of_block.map(|removal| removal.expert).collect();
    (0..experts + removed.len()).filter(|number| !removed.contains(number)).collect()
}

/// Training tokens for measuring usage: the first [`USAGE_TOKENS`].
fn usage_sample(train: &[u32]) -> &[u32] {
    &train[..train.len().min(USAGE_TOKENS)]
}

/// Index and share of a block's least used expert.
fn least_used(usage: &[f64]) -> (usize, f64) {
    let least = usage.iter().copied().enumerate().min_by(|(_, a), (_, b)| a.total_cmp(b));
    least.expect("a block has an expert")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn experts_keep_their_numbers_until_the_end_of_a_stage() {
        let removal = |stage: usize, block: usize, expert: usize| Removal {
            stage,
            step: 0,
            block,
            expert,
            usage: 0.1,
            merged_into: None,
            reason: String::new(),
        };
        let removals = [removal(2, 0, 0), removal(3, 0, 1), removal(3, 1, 2), removal(3, 0, 3)];
        assert_eq!(numbers_at_the_beginning(&removals, 3, 0, 4), [0, 2, 4, 5]);
        assert_eq!(numbers_at_the_beginning(&removals, 4, 0, 4), [0, 1, 2, 3]);
    }
}
