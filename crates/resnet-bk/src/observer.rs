//! What a run tells while it works. The library reports; progress bars, log files and silence are
//! observers.

use crate::config::StageKind;
use crate::summary::{Removal, Trial};
use serde::{Deserialize, Serialize};

/// Something that happened. Serialized, one a line, they make `metrics.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A stage begins, or goes on after an interruption.
    StageStarted {
        /// Its number, from 1.
        stage: usize,
        /// Its kind.
        kind: StageKind,
        /// Its number of epochs.
        epochs: usize,
        /// Optimizer steps of an epoch.
        steps_per_epoch: usize,
        /// The step it goes on from; 0 for a fresh start.
        first_step: usize,
        /// Trained parameters of the model that it trains.
        parameters: usize,
    },
    /// An optimizer step.
    Step {
        /// The stage's number.
        stage: usize,
        /// The step, from 0, over all epochs of the stage.
        step: usize,
        /// Mean loss over the batch, in nats per token, the stage's extra terms included.
        loss: f64,
        /// Learning rate of the step.
        learning_rate: f64,
        /// Global gradient norm before clipping.
        gradient_norm: f64,
        /// Tokens of the step over its wall time.
        tokens_per_second: f64,
    },
    /// The end of an epoch.
    EpochEnded {
        /// The stage's number.
        stage: usize,
        /// The epoch, from 1.
        epoch: usize,
        /// Mean of the epoch's step losses, in nats per token.
        train_loss: f64,
        /// Perplexity of the held-out text.
        valid_perplexity: f64,
        /// Perplexity of the dev slice, where there is one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        dev_perplexity: Option<f64>,
        /// Bytes of the weights section, as last measured, where the stage keeps to a size.
        weights_bytes: Option<u64>,
        /// Seconds since the stage began, or went on.
        seconds: f64,
    },
    /// Something that the user should know, and that stops nothing.
    Warning {
        /// One sentence.
        message: String,
    },
    /// An expert was removed.
    ExpertRemoved(Removal),
    /// Weights were set to zero for good.
    WeightsMasked {
        /// The stage's number.
        stage: usize,
        /// Share of the matrices' elements that are zero now.
        sparsity: f64,
    },
    /// Quantizers were put in.
    Quantized {
        /// The stage's number.
        stage: usize,
        /// Windows that calibrated the activations; 0 where activations stay float.
        calibration_samples: usize,
    },
    /// A planner has tried a student.
    TrialEnded {
        /// The stage's number.
        stage: usize,
        /// Its number in its round, from 1.
        trial: usize,
        /// Trials of the round.
        trials: usize,
        /// What it gave.
        result: Trial,
    },
    /// A stage is done.
    StageEnded {
        /// The stage's number.
        stage: usize,
        /// Its kind.
        kind: StageKind,
        /// Perplexity of the held-out text.
        valid_perplexity: f64,
        /// Its wall time in seconds.
        seconds: f64,
    },
}

/// Receives the events of a run.
pub trait Observer {
    /// Something happened.
    fn event(&mut self, event: &Event);
}

/// Hears everything and does nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Observer for Silent {
    fn event(&mut self, _: &Event) {}
}
