//! The events of a run. The library only reports events. Observers show progress bars, write log
//! files, or do nothing.

mod metrics;
mod numbers;
mod run_log;
mod tensorboard;

pub use metrics::METRICS;
use metrics::MetricsLog;
pub use run_log::{IncompleteLog, RunLog};
pub use tensorboard::TENSORBOARD;

use crate::config::StageKind;
use crate::summary::{Removal, Trial};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// An event. Serialized events, one per line, make up `metrics.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A stage begins or is resumed.
    StageStarted {
        /// Number of the stage, from 1.
        stage: usize,
        /// Kind of the stage.
        kind: StageKind,
        /// Number of epochs, or the least one while `minutes` is given.
        epochs: usize,
        /// Minutes of the stage, if the number of epochs will follow from the time of the first one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        minutes: Option<f64>,
        /// Optimizer steps per epoch.
        steps_per_epoch: usize,
        /// The first step of this session; 0 unless resumed.
        first_step: usize,
        /// Number of trained parameters.
        parameters: usize,
    },
    /// An optimizer step.
    Step {
        /// The stage's number.
        stage: usize,
        /// The step, from 0, over all epochs of the stage.
        step: usize,
        /// Mean loss of the batch, in nats per token, including the stage's extra terms.
        loss: f64,
        /// Learning rate of the step.
        learning_rate: f64,
        /// Global gradient norm before clipping.
        gradient_norm: f64,
        /// Tokens per second of wall time in this step.
        tokens_per_second: f64,
    },
    /// The first epoch of a schedule in minutes has shown how many there will be.
    EpochsPlanned {
        /// The stage's number.
        stage: usize,
        /// Number of epochs, with the first.
        epochs: usize,
        /// Expected wall time of an epoch in float, in seconds.
        seconds_per_epoch: f64,
    },
    /// An epoch has ended.
    EpochEnded {
        /// The stage's number.
        stage: usize,
        /// The epoch, from 1.
        epoch: usize,
        /// Mean of the epoch's step losses, in nats per token.
        train_loss: f64,
        /// Perplexity of the held-out text.
        valid_perplexity: f64,
        /// Perplexity of the dev slice, if there is one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        dev_perplexity: Option<f64>,
        /// Bytes of the weights section at the last measurement, if the stage has a goal in bytes.
        weights_bytes: Option<u64>,
        /// Wall time of the stage so far, in seconds.
        seconds: f64,
    },
    /// The model after an epoch: the averaged one, where weights are averaged.
    ModelMeasured {
        /// The stage's number.
        stage: usize,
        /// The epoch, from 1.
        epoch: usize,
        /// Share of the matrices' elements that are pruned.
        sparsity: f64,
        /// Number of experts of each block.
        experts: Vec<usize>,
        /// Share of the held-out tokens that are routed to each expert, for each block. A block's
        /// shares add up to `top_k`.
        expert_usage: Vec<Vec<f64>>,
        /// Mean scale of each quantized tensor, by the tensor's name.
        scales: BTreeMap<String, f64>,
        /// Rate-distortion multiplier, in nats of loss per token and coded bit.
        lambda: f64,
    },
    /// The bytes of the model's parts, if it were packed after a stage.
    SizeMeasured {
        /// The stage's number.
        stage: usize,
        /// Bytes of each part of the weights section.
        bytes: BTreeMap<String, u64>,
    },
    /// A warning to the user; the run continues.
    Warning {
        /// One sentence.
        message: String,
    },
    /// An expert was removed.
    ExpertRemoved(Removal),
    /// Weights were pruned.
    WeightsMasked {
        /// The stage's number.
        stage: usize,
        /// Share of the matrices' elements that are now pruned.
        sparsity: f64,
    },
    /// Quantizers were added.
    Quantized {
        /// The stage's number.
        stage: usize,
        /// Windows used to calibrate the activations; 0 if activations stay float.
        calibration_samples: usize,
    },
    /// A new student has begun with parts of its teacher.
    BegunFromTeacher {
        /// The stage's number.
        stage: usize,
        /// Kind of the stage.
        kind: StageKind,
        /// Share of the energy of the teacher's rows that the student's rows keep, each word
        /// weighted by its count.
        energy: f64,
        /// Number of the student's blocks that are copies of the teacher's.
        blocks: usize,
    },
    /// A trial of the planner has ended.
    TrialEnded {
        /// The stage's number.
        stage: usize,
        /// Number of the trial in its round, from 1.
        trial: usize,
        /// Trials in the round.
        trials: usize,
        /// Result of the trial.
        result: Trial,
    },
    /// A stage has ended.
    StageEnded {
        /// The stage's number.
        stage: usize,
        /// Kind of the stage.
        kind: StageKind,
        /// Perplexity of the held-out text.
        valid_perplexity: f64,
        /// Wall time of the stage in seconds.
        seconds: f64,
    },
}

/// Receives the events of a run.
pub trait Observer {
    /// Called for every event.
    fn event(&mut self, event: &Event);

    /// Whether training should stop. Asked before every step. A run of several ranks cannot be
    /// stopped this way: the other ranks would wait for this one.
    fn stops(&mut self) -> bool {
        false
    }
}

/// Passes every event to all observers, in order. Any of them stops the training.
pub struct Fanout<'a>(pub Vec<&'a mut dyn Observer>);

impl Observer for Fanout<'_> {
    fn event(&mut self, event: &Event) {
        for observer in &mut self.0 {
            observer.event(event);
        }
    }

    fn stops(&mut self) -> bool {
        self.0.iter_mut().any(|observer| observer.stops())
    }
}

/// Ignores the events of a part of a run, which its observer can stop.
pub(crate) struct Muted<'a>(pub(crate) &'a mut dyn Observer);

impl Observer for Muted<'_> {
    fn event(&mut self, _: &Event) {}

    fn stops(&mut self) -> bool {
        self.0.stops()
    }
}

/// Ignores all events.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Observer for Silent {
    fn event(&mut self, _: &Event) {}
}

/// Keeps all events.
impl Observer for Vec<Event> {
    fn event(&mut self, event: &Event) {
        self.push(event.clone());
    }
}
