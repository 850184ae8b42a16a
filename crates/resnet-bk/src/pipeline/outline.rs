//! What a run's stages will be: their models, steps and budgets, and checks that every one can run.

use super::{Run, RunError};
use crate::batch::Batches;
use crate::config::{ModelConfig, PruneConfig, StageConfig, StageKind};
use crate::train::Length;

/// A stage before it runs.
pub(super) struct StageOutline<'a> {
    /// Its settings.
    pub(super) config: &'a StageConfig,
    /// The model before it.
    pub(super) before: ModelConfig,
    /// The model after it; of a planner's student, only what all candidates share.
    pub(super) after: ModelConfig,
    /// Optimizer steps per epoch.
    pub(super) steps_per_epoch: usize,
    /// Most bytes of a planner's student.
    pub(super) budget: Option<u64>,
}

impl StageOutline<'_> {
    /// Float32 bytes of the model, if the stage trains one that a target can refer to.
    pub(super) fn trained_bytes(&self) -> Option<u64> {
        (self.config.kind() == StageKind::Train).then(|| 4 * self.after.architecture().parameter_count() as u64)
    }
}

impl Run<'_> {
    /// Checks that every stage can run. An error later would waste the training before it.
    pub(super) fn outline<'a>(&self, stages: &[&'a StageConfig]) -> Result<Vec<StageOutline<'a>>, RunError> {
        let words = self.checkpoint.model.vocabulary.len();
        let mut model = self.checkpoint.model.config.clone();
        let quantization = self.checkpoint.model.parameters.architecture().quantization.as_ref();
        let mut has_learned_scales = quantization.is_some_and(|policy| policy.learned.is_some());
        let (mut requested, mut is_controlled) = (None, false);
        let mut outline: Vec<StageOutline> = Vec::new();
        for &stage in stages {
            has_learned_scales = stage.has_learned_scales(has_learned_scales);
            if let Some(bytes) = stage.schedule().weights_bytes {
                requested = Some(bytes);
                is_controlled |= has_learned_scales;
            }
            stage.check_windows(&model).map_err(|windows| RunError::Windows {
                windows,
                positions: model.n_seq,
                kind: stage.kind(),
            })?;
            stage.check_carry(&model).map_err(|allowed| RunError::Carry {
                windows: stage.schedule().carry_windows,
                allowed,
                kind: stage.kind(),
            })?;
            let trained: Vec<u64> = outline.iter().filter_map(StageOutline::trained_bytes).collect();
            let budget = match stage.runner().needs_budget() {
                true => self.check_budget(stage.runner(), &model, &trained)?,
                false => None,
            };
            let after = ModelConfig { vocab_size: words, ..stage.model_after(&model) };
            let least = stage.runner().shortest_streams(&self.text.streams)?;
            let batch_size = stage.schedule().batch_size;
            let windows = stage.schedule().windows(after.n_seq);
            Batches::of_windows(least.train, &windows, batch_size, 0, 0)?;
            let all = self.text.streams.train.clone();
            let batches = Batches::of_windows(all, &windows, batch_size * self.request.ranks.count(), 0, 0)?;
            check_milestones(stage, batches.steps())?;
            let before = std::mem::replace(&mut model, after.clone());
            outline.push(StageOutline { config: stage, before, after, steps_per_epoch: batches.steps(), budget });
        }
        match requested {
            Some(bytes) if !is_controlled => Err(RunError::SizeOfFloats { bytes }),
            _ => Ok(outline),
        }
    }
}

/// Checks that no experts are to be removed after the end of the stage.
fn check_milestones(stage: &StageConfig, steps_per_epoch: usize) -> Result<(), RunError> {
    let StageConfig::Prune(PruneConfig { schedule, experts, .. }) = stage else { return Ok(()) };
    // How many epochs fit into minutes is not known yet.
    let Some(steps) = Length::new(schedule, steps_per_epoch, None).steps() else { return Ok(()) };
    match experts.milestones.iter().filter_map(|milestone| milestone.step).find(|&step| step >= steps) {
        Some(step) => Err(RunError::Milestone { step, steps, kind: stage.kind() }),
        None => Ok(()),
    }
}
