//! Which epoch's model a stage keeps.
//!
//! The epochs are judged by the perplexity of the dev slice, which nobody trains on. Only epochs
//! whose model has the form of the last one compete: a model before its quantizers went in, or
//! before its experts went, is another one, and a model larger than `schedule.weights_bytes` asks
//! for is too large.

use super::{Stage, TRAINED_TO_END, TokenStreams, TrainError};
use crate::checkpoint::{Checkpoint, Progress};
use crate::evaluate::evaluate_parameters;
use crate::export::weights_bytes;
use crate::parameters::Parameters;
use resnet_bk_runtime::internal::architecture::Architecture;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// How far a size that is steered to may be passed: about what the control of the multiplier is
/// good for.
const SIZE_TOLERANCE: f64 = 0.005;

/// Name of the file beside a stage's checkpoint that holds its best epoch's model until the stage
/// is done.
pub(crate) const BEST_EPOCH: &str = "best-epoch.safetensors";

/// Perplexities after an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Judged {
    /// Of the held-out text, to report.
    pub valid: f64,
    /// Of the dev slice, to choose by.
    pub dev: Option<f64>,
}

impl Judged {
    /// Measures a model.
    pub(super) fn measure(parameters: &Parameters, streams: &TokenStreams) -> Self {
        let perplexity = |tokens: &[u32]| evaluate_parameters(parameters, tokens).perplexity();
        Self { valid: perplexity(&streams.valid), dev: streams.dev.as_deref().map(perplexity) }
    }

    /// The perplexity that training is judged by.
    fn judge(self) -> f64 {
        self.dev.unwrap_or(self.valid)
    }
}

/// Whether the last epoch gained less than [`TRAINED_TO_END`] on the best one before it: more of
/// the same schedule would hardly help. Only epochs from `form_since` on are compared, counted from
/// 0; fewer than three of them do not show it.
pub(super) fn trained_to_end(epochs: &[Judged], form_since: usize) -> bool {
    let [before @ .., last] = epochs.get(form_since..).unwrap_or_default() else { return false };
    if before.len() < 2 {
        return false;
    }
    let best = before.iter().map(|epoch| epoch.judge()).fold(f64::INFINITY, f64::min);
    1.0 - last.judge() / best < TRAINED_TO_END
}

/// Sizes, quantizers and number of pruned weights of a model: epochs with other ones are not
/// compared.
#[derive(PartialEq)]
pub(super) struct Form {
    architecture: Architecture,
    pruned: usize,
}

impl Form {
    /// Of a model.
    pub(super) fn of(parameters: &Parameters) -> Self {
        let masks = parameters.iter().filter_map(|parameter| parameter.mask.as_deref());
        let pruned = masks.map(|mask| mask.iter().filter(|&&keep| !keep).count()).sum();
        Self { architecture: parameters.architecture().clone(), pruned }
    }
}

/// The best epoch so far.
pub(super) struct BestEpoch {
    /// Whether it is asked for.
    wanted: bool,
    weights_bytes: Option<u64>,
    /// Where its model is kept besides, for a run that is interrupted.
    file: Option<PathBuf>,
    best: Option<(usize, Parameters)>,
}

impl BestEpoch {
    /// As an interrupted stage left it.
    pub(super) fn restore(stage: &Stage, progress: &Progress) -> Result<Self, TrainError> {
        let file = stage.save_to.as_ref().map(|path| path.with_file_name(BEST_EPOCH));
        let best = match (progress.best_epoch, &file) {
            (Some(epoch), Some(path)) => {
                let saved = Checkpoint::read(path)?;
                // An interruption between two writes leaves the model of an epoch that is about to
                // be trained again.
                let is_its = saved.training.progress.is_some_and(|progress| progress.epochs.len() == epoch);
                is_its.then_some((epoch, saved.model.parameters))
            }
            _ => None,
        };
        let schedule = stage.schedule;
        Ok(Self { wanted: schedule.keep_best_epoch, weights_bytes: schedule.weights_bytes, file, best })
    }

    /// The best epoch, from 1.
    pub(super) fn epoch(&self) -> Option<usize> {
        self.best.as_ref().map(|(epoch, _)| *epoch)
    }

    /// Keeps the present model if it is the best one of its form.
    pub(super) fn consider(&mut self, checkpoint: &mut Checkpoint, progress: &Progress) -> Result<(), TrainError> {
        if !self.wanted {
            return Ok(());
        }
        self.best = self.best.take().filter(|(epoch, _)| *epoch > progress.form_since);
        let present = &checkpoint.model.parameters;
        if let Some(most) = self.weights_bytes
            && present.iter().any(|parameter| present.has_learned_scales(parameter))
            && weights_bytes(present)? as f64 > (1.0 + SIZE_TOLERANCE) * most as f64
        {
            return Ok(());
        }
        let epochs = &progress.epochs;
        let (last, perplexity) = (epochs.len(), |epoch: usize| epochs[epoch - 1].judge());
        // What is not a number is never the best.
        let is_better = |best: usize| perplexity(last) < perplexity(best);
        if perplexity(last).is_nan() || !self.epoch().is_none_or(is_better) {
            return Ok(());
        }
        self.best = Some((last, present.clone()));
        if let Some(path) = &self.file {
            checkpoint.training.progress = Some(progress.clone());
            checkpoint.write(path)?;
            checkpoint.training.progress = None;
        }
        Ok(())
    }

    /// Puts the best model in the place of the last one; which epoch's it is.
    pub(super) fn put_back(self, checkpoint: &mut Checkpoint, last: usize) -> usize {
        match self.best {
            Some((epoch, parameters)) if epoch < last => {
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
    fn a_stage_is_trained_to_its_end_where_its_last_epoch_gained_little() {
        let epochs = |dev: &[f64]| dev.iter().map(|&dev| Judged { valid: 9.0, dev: Some(dev) }).collect::<Vec<_>>();
        assert!(trained_to_end(&epochs(&[100.0, 80.0, 79.5]), 0));
        assert!(!trained_to_end(&epochs(&[100.0, 80.0, 79.0]), 0));
        assert!(trained_to_end(&epochs(&[100.0, 80.0, 92.0, 90.0]), 0), "the second epoch was better than the last");
        assert!(!trained_to_end(&epochs(&[100.0, 80.0, 120.0]), 2), "quantizers went in: nothing to compare with");
        assert!(!trained_to_end(&epochs(&[100.0, 80.0, 120.0, 100.0, 80.0]), 2));
        assert!(trained_to_end(&epochs(&[100.0, 80.0, 120.0, 100.0, 100.0]), 2));
        assert!(!trained_to_end(&epochs(&[80.0, 80.0]), 0), "two epochs show nothing");
        assert!(!trained_to_end(&[], 0));
        let valid = |valid: f64| Judged { valid, dev: None };
        assert!(!trained_to_end(&[valid(100.0), valid(90.0), valid(80.0)], 0));
    }

    #[test]
    fn what_is_not_a_number_is_not_the_best_epoch() {
        let vocabulary = ["<unk>", "<eos>"].map(str::to_owned).to_vec();
        let vocabulary = Vocabulary::new(vocabulary, Pretokenizer::Words).expect("sound");
        let config = ModelConfig::preset("tiny").expect("a preset");
        let mut checkpoint = Checkpoint::new(ModelState::initialise(config, Arc::new(vocabulary), 1));
        let mut best = BestEpoch { wanted: true, weights_bytes: None, file: None, best: None };
        let mut progress = Progress::new(1);
        for (dev, expected) in [(f64::NAN, None), (9.0, Some(2)), (f64::NAN, Some(2)), (9.5, Some(2)), (8.0, Some(5))] {
            progress.epochs.push(Judged { valid: 1.0, dev: Some(dev) });
            best.consider(&mut checkpoint, &progress).expect("nothing is written");
            assert_eq!(best.epoch(), expected, "{:?}", progress.epochs);
        }
        progress.form_since = 5;
        progress.epochs.push(Judged { valid: 1.0, dev: Some(50.0) });
        best.consider(&mut checkpoint, &progress).expect("nothing is written");
        assert_eq!(best.epoch(), Some(6), "a model of another form does not compete");
    }
}
