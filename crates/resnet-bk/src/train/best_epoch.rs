//! Which epoch's model a stage keeps.
//!
//! The epochs are judged by the perplexity of the dev slice, which nobody trains on. Only epochs whose model has the form of the last one
//! compete: a model before its quantizers went in, or before its experts went, is another one, and a model larger than
//! `schedule.weights_bytes` asks for is too large.

use super::{Stage, TRAINED_TO_END, TokenStreams, TrainError};
use crate::checkpoint::{Checkpoint, Progress};
use crate::evaluate::evaluate_parameters;
use crate::export::pack;
use crate::parameters::Parameters;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// How far a size that is steered to may be passed: about what the control of the multiplier is good for.
const SIZE_TOLERANCE: f64 = 0.005;

/// Name of the file beside a stage's checkpoint that holds its best epoch's model until the stage is done.
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
    /// Measures a checkpoint's model.
    pub(super) fn measure(checkpoint: &Checkpoint, streams: &TokenStreams) -> Self {
        let perplexity = |tokens: &[u32]| evaluate_parameters(&checkpoint.parameters, tokens).perplexity();
        Self { valid: perplexity(&streams.valid), dev: streams.dev.as_deref().map(perplexity) }
    }

    /// The perplexity that training is judged by.
    fn judge(self) -> f64 {
        self.dev.unwrap_or(self.valid)
    }
}

/// Whether the last epoch gained less than [`TRAINED_TO_END`]. One epoch alone does not show it.
pub(super) fn trained_to_end(epochs: &[Judged]) -> bool {
    let [.., before, last] = epochs else { return false };
    1.0 - last.judge() / before.judge() < TRAINED_TO_END
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
            (Some(epoch), Some(path)) => Some((epoch, Checkpoint::read(path)?.parameters)),
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
    pub(super) fn consider(&mut self, checkpoint: &Checkpoint, epochs: &[Judged]) -> Result<(), TrainError> {
        if !self.wanted {
            return Ok(());
        }
        let present = &checkpoint.parameters;
        self.best = self.best.take().filter(|(_, best)| same_form(best, present));
        if let Some(most) = self.weights_bytes
            && checkpoint.parameters.iter().any(|parameter| present.has_trained_steps(parameter))
            && pack(checkpoint)?.weights_bytes()? as f64 > (1.0 + SIZE_TOLERANCE) * most as f64
        {
            return Ok(());
        }
        let perplexity = |epoch: usize| epochs[epoch - 1].judge();
        if self.epoch().is_some_and(|best| perplexity(best) <= perplexity(epochs.len())) {
            return Ok(());
        }
        self.best = Some((epochs.len(), present.clone()));
        match &self.file {
            Some(path) => Ok(checkpoint.write(path)?),
            None => Ok(()),
        }
    }

    /// Puts the best model in the place of the last one; which epoch's it is.
    pub(super) fn put_back(self, checkpoint: &mut Checkpoint, last: usize) -> usize {
        match self.best {
            Some((epoch, parameters)) if epoch < last => {
                checkpoint.parameters = parameters;
                epoch
            }
            _ => last,
        }
    }
}

/// Whether two models have the same sizes, quantizers and share of pruned weights.
fn same_form(a: &Parameters, b: &Parameters) -> bool {
    let pruned = |parameters: &Parameters| parameters.iter().filter_map(|p| p.mask.as_deref()).map(kept).sum::<usize>();
    a.architecture() == b.architecture() && pruned(a) == pruned(b)
}

fn kept(mask: &[bool]) -> usize {
    mask.iter().filter(|&&keep| keep).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_is_trained_to_its_end_where_its_last_epoch_gained_little() {
        let epochs = |dev: &[f64]| dev.iter().map(|&dev| Judged { valid: 9.0, dev: Some(dev) }).collect::<Vec<_>>();
        assert!(trained_to_end(&epochs(&[100.0, 80.0, 79.5])));
        assert!(trained_to_end(&epochs(&[100.0, 80.0, 81.0])), "it got worse");
        assert!(!trained_to_end(&epochs(&[100.0, 80.0, 79.0])));
        assert!(!trained_to_end(&epochs(&[80.0])), "one epoch shows nothing");
        let valid = |valid: f64| Judged { valid, dev: None };
        assert!(!trained_to_end(&[valid(100.0), valid(90.0)]));
    }
}
