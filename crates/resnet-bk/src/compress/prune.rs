//! Pruning: experts that few tokens use are removed, small weights are held at zero, and the model trains on.

use super::CrossEntropy;
use crate::batch::Batch;
use crate::checkpoint::Checkpoint;
use crate::config::{MagnitudePruning, PruneConfig};
use crate::evaluate::expert_usage;
use crate::model::{LanguageModel, Leaves, Output};
use crate::observer::{Event, Removal};
use crate::parameters::Parameter;
use crate::train::{Objective, StepContext};
use burn_tensor::Tensor;
use resnet_bk_runtime::architecture::Role;

/// The stage's objective.
#[derive(Clone, Debug)]
pub struct Pruning<'a> {
    /// Its settings.
    pub config: &'a PruneConfig,
}

impl Objective for Pruning<'_> {
    fn before_step(&mut self, checkpoint: &mut Checkpoint, context: &mut StepContext) {
        if context.step == 0 {
            let threshold = self.config.experts.threshold.unwrap_or(checkpoint.config.prune_threshold);
            remove_unused_experts(checkpoint, threshold, context);
            if let Some(magnitude) = self.config.magnitude {
                mask_small_weights(checkpoint, magnitude, context);
            }
        }
        for milestone in &self.config.experts.milestones {
            let at = milestone.step.or(milestone.epoch.map(|epoch| epoch * context.steps_per_epoch));
            if at == Some(context.step) {
                keep_most_used_experts(checkpoint, milestone.experts, context);
            }
        }
    }

    fn loss(&mut self, model: &LanguageModel, output: &Output, leaves: &Leaves, batch: &Batch) -> Tensor<1> {
        CrossEntropy { precision: self.config.schedule.precision }.loss(model, output, leaves, batch)
    }
}

/// Removes the experts that fewer than `threshold` of the held-out tokens go through, but never below `top_k` of a block.
pub fn remove_unused_experts(checkpoint: &mut Checkpoint, threshold: f64, context: &mut StepContext) {
    let reason = format!("used by less than {} % of held-out tokens", threshold * 100.0);
    remove_while(checkpoint, context, &reason, |usage, _| usage < threshold);
    checkpoint.compression.expert_threshold = Some(threshold);
}

/// Leaves the `keep` most used experts in each block, but never fewer than `top_k`.
pub fn keep_most_used_experts(checkpoint: &mut Checkpoint, keep: usize, context: &mut StepContext) {
    let reason = format!("least used, schedule keeps {keep}");
    remove_while(checkpoint, context, &reason, |_, experts| experts > keep);
    checkpoint.compression.experts = Some(keep);
}

/// Removes each block's least used expert as long as `goes(its share of held-out tokens, experts left)`.
///
/// After a removal the held-out tokens are routed anew: the ones that lost their expert use another.
fn remove_while(
    checkpoint: &mut Checkpoint,
    context: &mut StepContext,
    reason: &str,
    goes: impl Fn(f64, usize) -> bool,
) {
    loop {
        let architecture = checkpoint.parameters.architecture();
        let top_k = architecture.top_k;
        let may_shrink = |experts: usize| experts > top_k.max(1);
        if !architecture.experts.iter().any(|&experts| may_shrink(experts)) {
            return;
        }
        let usage = expert_usage(&checkpoint.parameters, &context.streams.valid);
        let mut removed = false;
        for (block, (expert, usage)) in usage.iter().map(|usage| least_used(usage)).enumerate() {
            let experts = checkpoint.parameters.architecture().experts[block];
            if may_shrink(experts) && goes(usage, experts) {
                checkpoint.parameters = checkpoint.parameters.clone().remove_expert(block, expert);
                let removal = Removal {
                    stage: context.stage,
                    step: context.step,
                    block,
                    expert,
                    usage,
                    reason: reason.to_owned(),
                };
                context.observer.event(&Event::ExpertRemoved(removal.clone()));
                checkpoint.removals.push(removal);
                removed = true;
            }
        }
        if !removed {
            return;
        }
    }
}

/// A block's least used expert and its share.
fn least_used(usage: &[f64]) -> (usize, f64) {
    let least = usage.iter().copied().enumerate().min_by(|(_, a), (_, b)| a.total_cmp(b));
    least.expect("a block has an expert")
}

/// Masks the smallest weights of every matrix and table; weights that were masked before stay so.
pub fn mask_small_weights(checkpoint: &mut Checkpoint, magnitude: MagnitudePruning, context: &mut StepContext) {
    let (mut masked, mut total) = (0, 0);
    for parameter in checkpoint.parameters.as_mut_slice() {
        if is_matrix(parameter.spec.role) {
            mask(parameter, magnitude);
            let mask = parameter.mask.as_ref().expect("it was just set");
            masked += mask.iter().filter(|keep| !**keep).count();
            total += mask.len();
        }
    }
    checkpoint.compression.magnitude = Some(magnitude);
    context.observer.event(&Event::WeightsMasked { stage: context.stage, sparsity: masked as f64 / total as f64 });
}

fn is_matrix(role: Role) -> bool {
    matches!(role, Role::Embedding | Role::Projection | Role::Head | Role::Expert | Role::Router | Role::Mixer)
}

fn mask(parameter: &mut Parameter, magnitude: MagnitudePruning) {
    let threshold = match magnitude {
        MagnitudePruning::Threshold(threshold) => threshold,
        MagnitudePruning::Sparsity(sparsity) => {
            let mut sizes: Vec<f32> = parameter.values.iter().map(|x| x.abs()).collect();
            let cut = (f64::from(sparsity) * sizes.len() as f64) as usize;
            let (_, threshold, _) = sizes.select_nth_unstable_by(cut.min(parameter.values.len() - 1), f32::total_cmp);
            *threshold
        }
    };
    let old = parameter.mask.take();
    let kept = |(i, x): (usize, &f32)| x.abs() >= threshold && old.as_ref().is_none_or(|mask| mask[i]);
    parameter.mask = Some(parameter.values.iter().enumerate().map(kept).collect());
    parameter.apply_mask();
}
