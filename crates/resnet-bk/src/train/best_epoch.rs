//! The choice of the epoch whose model a stage keeps.
//!
//! Epochs are compared by perplexity on the dev slice, which is not trained on. Only epochs after
//! the last change of the model's form are compared: a model before quantization or before expert
//! removal is a different model. A model larger than `schedule.weights_bytes` does not compete, or
//! of a planner's student, one larger than its budget. If all are, the last one is kept.

use super::{Stage, TRAINED_TO_END, TokenStreams, TrainError};
use crate::checkpoint::{Checkpoint, Progress};
use crate::evaluate::{evaluate_parameters, evaluate_with_usage};
use crate::export::weights_bytes;
use crate::parameters::Parameters;
use crate::ranks::Ranks;
use resnet_bk_runtime::internal::architecture::Architecture;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Relative excess over `schedule.weights_bytes` that is allowed: about the accuracy of rate
/// control.
const SIZE_TOLERANCE: f64 = 0.005;

/// File with the best epoch's model, next to the stage's checkpoint. It is removed at the end of
/// the stage.
pub(crate) const BEST_EPOCH: &str = "best-epoch.safetensors";

/// What is measured of the model after an epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EpochResult {
    /// Perplexity of the held-out text, for the report.
    pub valid: f64,
    /// Perplexity of the dev slice, for choices.
    pub dev: Option<f64>,
    /// Share of the held-out tokens that are routed to each expert, for each block.
    #[serde(default)]
    pub expert_usage: Vec<Vec<f64>>,
}

impl EpochResult {
    /// Measures a model.
    pub(super) fn measure(parameters: &Parameters, streams: &TokenStreams) -> Self {
        let (valid, expert_usage) = evaluate_with_usage(parameters, &streams.valid);
        let dev = streams.dev.as_deref().map(|tokens| evaluate_parameters(parameters, tokens).perplexity());
        Self { valid: valid.perplexity(), dev, expert_usage }
    }

    /// The mean loss of a text in nats, if its perplexity is not finite.
    pub(super) fn failure(&self) -> Option<f32> {
        [Some(self.valid), self.dev]
            .into_iter()
            .flatten()
            .find(|value| !value.is_finite())
            .map(|value| value.ln() as f32)
    }

    /// The perplexity to compare by: of the dev slice if there is one.
    fn for_choices(&self) -> f64 {
        self.dev.unwrap_or(self.valid)
    }
}

/// Whether the last epoch improved on the best earlier one by less than [`TRAINED_TO_END`]. More
/// epochs of the same schedule would then help little. Only epochs from `form_since` on (counted
/// from 0) are compared. Fewer than three of them are not enough to tell.
pub(super) fn trained_to_end(epochs: &[EpochResult], form_since: usize) -> bool {
    let [before @ .., last] = epochs.get(form_since..).unwrap_or_default() else { return false };
    if before.len() < 2 {
        return false;
    }
    let best = before.iter().map(EpochResult::for_choices).fold(f64::INFINITY, f64::min);
    1.0 - last.for_choices() / best < TRAINED_TO_END
}

/// What must be equal for two epochs to be compared: sizes, quantizers and number of pruned
/// weights.
#[derive(PartialEq)]
pub(super) struct Form {
    architecture: Architecture,
    pruned: usize,
}

impl Form {
    /// The form of a model.
    pub(super) fn of(parameters: &Parameters) -> Self {
        let masks = parameters.iter().filter_map(|parameter| parameter.mask.as_ref());
        let pruned = masks.map(|mask| mask.iter().filter(|&&keep| !keep).count()).sum();
        Self { architecture: parameters.architecture().clone(), pruned }
    }
}

/// The best epoch so far.
pub(super) struct BestEpoch {
    /// Whether the schedule asks for it.
    wanted: bool,
    /// Most bytes of the weights section.
    limit: Option<f64>,
    /// File that keeps the model across an interruption.
    file: Option<PathBuf>,
    best: Option<(usize, Parameters)>,
}

impl BestEpoch {
    /// Restores the state of an interrupted stage.
    pub(super) fn restore(
        stage: &Stage,
        checkpoint: &mut Checkpoint,
        progress: &Progress,
        ranks: &Ranks,
    ) -> Result<Self, TrainError> {
        let schedule = stage.schedule;
        let tolerated = schedule.weights_bytes.map(|bytes| (1.0 + SIZE_TOLERANCE) * bytes as f64);
        let limit = tolerated.map(|bytes| bytes.max(stage.budget.unwrap_or(0) as f64));
        let file = stage.save_to.as_ref().map(|path| path.with_file_name(BEST_EPOCH));
        let mut best = Self { wanted: schedule.keep_best_epoch, limit, file, best: None };
        match (progress.best_epoch, &best.file) {
            // The run may have been interrupted before the file was written.
            (Some(epoch), _) if epoch == progress.epochs.len() => {
                best.best = Some((epoch, checkpoint.model.parameters.averaged()));
                best.save(checkpoint, progress)?;
            }
            (Some(epoch), Some(path)) => {
                let parameters = Checkpoint::read_on(ranks, path)?.model.parameters;
                best.best = Some((epoch, parameters.averaged()));
            }
            _ => {}
        }
        Ok(best)
    }

    /// The best epoch, counted from 1.
    pub(super) fn epoch(&self) -> Option<usize> {
        self.best.as_ref().map(|(epoch, _)| *epoch)
    }

    /// Keeps the current model if it is the best one of its form.
    pub(super) fn consider(&mut self, checkpoint: &Checkpoint, progress: &Progress) -> Result<(), TrainError> {
        if !self.wanted {
            return Ok(());
        }
        self.best = self.best.take().filter(|(epoch, _)| *epoch > progress.form_since);
        let current = checkpoint.model.parameters.averaged();
        if let Some(limit) = self.limit
            && current.iter().any(|parameter| current.has_learned_scales(parameter))
            && weights_bytes(&current)? as f64 > limit
        {
            return Ok(());
        }
        let epochs = &progress.epochs;
        let (last, perplexity) = (epochs.len(), |epoch: usize| epochs[epoch - 1].for_choices());
        if self.epoch().is_none_or(|best| perplexity(last) < perplexity(best)) {
            self.best = Some((last, current));
        }
        Ok(())
    }

    /// Writes the file if the last epoch is the best one. The stage's checkpoint must have been
    /// written before: until then, the file belongs to the epoch that the old checkpoint names.
    pub(super) fn save(&self, checkpoint: &mut Checkpoint, progress: &Progress) -> Result<(), TrainError> {
        if let Some(path) = &self.file
            && self.epoch() == Some(progress.epochs.len())
        {
            checkpoint.write_progress(path, progress)?;
        }
        Ok(())
    }

    /// Puts the best model back into the checkpoint and returns its epoch.
    pub(super) fn restore_best(self, checkpoint: &mut Checkpoint, last: usize) -> usize {
        match self.best {
            Some((epoch, mut parameters)) if epoch < last => {
                parameters.run_like(&checkpoint.model.parameters);
                checkpoint.model.parameters = parameters;
                epoch
            }
            _ => last,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::ModelState;
    use crate::config::ModelConfig;
    use resnet_bk_runtime::internal::tokenizer::{Pretokenizer, Vocabulary};
    use std::sync::Arc;

    #[test]
    fn a_stage_is_trained_to_its_end_if_its_last_epoch_improved_little() {
        let result = |valid: f64, dev: Option<f64>| EpochResult { valid, dev, expert_usage: vec![] };
        let epochs = |dev: &[f64]| dev.iter().map(|&dev| result(9.0, Some(dev))).collect::<Vec<_>>();
        assert!(trained_to_end(&epochs(&[100.0, 80.0, 79.5]), 0));
        assert!(!trained_to_end(&epochs(&[100.0, 80.0, 79.0]), 0));
        assert!(trained_to_end(&epochs(&[100.0, 80.0, 92.0, 90.0]), 0), "the second epoch was better than the last");
        assert!(!trained_to_end(&epochs(&[100.0, 80.0, 120.0]), 2), "quantizers went in: nothing to compare with");
        assert!(!trained_to_end(&epochs(&[100.0, 80.0, 120.0, 100.0, 80.0]), 2));
        assert!(trained_to_end(&epochs(&[100.0, 80.0, 120.0, 100.0, 100.0]), 2));
        assert!(!trained_to_end(&epochs(&[80.0, 80.0]), 0), "two epochs show nothing");
        assert!(!trained_to_end(&[], 0));
        let valid = |valid: f64| result(valid, None);
        assert!(!trained_to_end(&[valid(100.0), valid(90.0), valid(80.0)], 0));
    }

    #[test]
    fn an_epoch_without_a_finite_perplexity_failed() {
        let failure = |valid: f64, dev: Option<f64>| EpochResult { valid, dev, expert_usage: vec![] }.failure();
        assert_eq!((failure(9.0, None), failure(9.0, Some(1e300))), (None, None));
        assert_eq!(
            (failure(f64::INFINITY, None), failure(9.0, Some(f64::INFINITY))),
            (Some(f32::INFINITY), Some(f32::INFINITY))
        );
        assert!(failure(f64::NAN, Some(9.0)).is_some_and(f32::is_nan));
    }

    #[test]
    fn the_best_epoch_has_the_form_of_the_last() {
        let vocabulary = ["<unk>", "<eos>"].map(str::to_owned).to_vec();
        let vocabulary = Vocabulary::new(vocabulary, Pretokenizer::Words).expect("a valid vocabulary");
        let config = ModelConfig::preset("tiny").expect("a preset");
        let checkpoint = Checkpoint::new(ModelState::initialize(config, Arc::new(vocabulary), 1));
        let mut best = BestEpoch { wanted: true, limit: None, file: None, best: None };
        let mut progress = Progress::new(1);
        for (dev, expected) in [(9.0, Some(1)), (9.5, Some(1)), (8.0, Some(3))] {
            progress.epochs.push(EpochResult { valid: 1.0, dev: Some(dev), expert_usage: vec![] });
            best.consider(&checkpoint, &progress).expect("there is no limit");
            assert_eq!(best.epoch(), expected, "{:?}", progress.epochs);
        }
        progress.form_since = 3;
        progress.epochs.push(EpochResult { valid: 1.0, dev: Some(50.0), expert_usage: vec![] });
        best.consider(&checkpoint, &progress).expect("there is no limit");
        assert_eq!(best.epoch(), Some(4), "a model of another form does not compete");
    }
}
