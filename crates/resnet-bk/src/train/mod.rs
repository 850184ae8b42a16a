//! The one training loop. Stages differ in their [`Objective`]: the loss, and what happens to the model between steps.

mod adamw;
mod bit_price;
mod gradients;
mod schedule;
mod step;

pub use adamw::AdamW;
pub use gradients::global_norm;
pub use schedule::learning_rate;
pub use step::{Optimization, StepOutcome, optimization_step};

use crate::batch::{Batch, BatchError, Batches};
use crate::checkpoint::{Checkpoint, CheckpointError, Progress};
use crate::config::Schedule;
use crate::evaluate::evaluate_parameters;
use crate::model::{LanguageModel, Leaves, Output};
use crate::observer::{Event, Observer};
use crate::random::Random;
use bit_price::BitPrice;
use burn_tensor::Tensor;
use resnet_bk_runtime::artifact::ArtifactError;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;
use thiserror::Error;

/// Token streams of a run.
#[derive(Clone, Debug)]
pub struct TokenStreams {
    /// Trained on.
    pub train: Arc<[u32]>,
    /// Held out: measured after each epoch, and asked which experts are used.
    pub valid: Arc<[u32]>,
}

/// A training that could not go on.
#[derive(Debug, Error)]
pub enum TrainError {
    /// The loss is not a number any more.
    #[error("the loss became {loss} at step {step} of stage {stage}; a lower learning_rate or grad_clip may help")]
    Diverged {
        /// The stage, from 1.
        stage: usize,
        /// The step, from 0.
        step: usize,
        /// The loss.
        loss: f32,
    },
    /// The held-out text has no token to predict.
    #[error("the held-out text has {tokens} tokens, but at least 2 are needed")]
    NothingHeldOut {
        /// Tokens found.
        tokens: usize,
    },
    /// The training text does not make a batch.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// A checkpoint could not be written.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A planner has nothing to keep to.
    #[error("a plan needs a budget: set target.ratio or target.bytes (--target, --bytes)")]
    NoBudget,
    /// No student is small enough.
    #[error("no student fits in {budget} bytes of weights: allow more, or a smaller vocabulary (model.vocab_size)")]
    NoStudent {
        /// The budget.
        budget: u64,
    },
    /// A model could not be packed.
    #[error("the model can not be packed while it trains")]
    Artifact(#[from] ArtifactError),
}

/// What makes a stage different from plain training.
pub trait Objective {
    /// Called before every step; may change the checkpoint's parameters.
    fn before_step(&mut self, _: &mut Checkpoint, _: &mut StepContext) {}

    /// Loss of one batch, `[1]`.
    fn loss(&mut self, model: &LanguageModel, output: &Output, leaves: &Leaves, batch: &Batch) -> Tensor<1>;
}

/// What an objective sees of the loop before a step.
pub struct StepContext<'a> {
    /// The stage, from 1.
    pub stage: usize,
    /// The step, from 0.
    pub step: usize,
    /// Steps of an epoch.
    pub steps_per_epoch: usize,
    /// Steps of the stage.
    pub steps: usize,
    /// The streams.
    pub streams: &'a TokenStreams,
    /// Who is told of changes.
    pub observer: &'a mut dyn Observer,
}

/// Where and how a stage trains.
#[derive(Clone, Debug)]
pub struct Stage<'a> {
    /// Its number, from 1.
    pub number: usize,
    /// Its kind, for the record.
    pub kind: crate::config::StageKind,
    /// The optimizer's schedule.
    pub schedule: &'a Schedule,
    /// The run's seed.
    pub seed: u64,
    /// Where the checkpoint of each epoch goes; `None` keeps nothing.
    pub save_to: Option<PathBuf>,
    /// Most bytes of the weights section, for a planner.
    pub budget: Option<u64>,
}

/// Trains a checkpoint's model for one stage, going on from the checkpoint's progress if it has any.
///
/// After each epoch the held-out text is measured and the checkpoint saved. At the end the checkpoint has neither progress nor
/// optimizer moments left. Returns the valid perplexity after the last epoch.
///
/// # Errors
/// [`TrainError`]: a text too short, a loss that is not finite, a disk that is full.
pub fn train(
    checkpoint: &mut Checkpoint,
    stage: &Stage,
    streams: &TokenStreams,
    objective: &mut dyn Objective,
    observer: &mut dyn Observer,
) -> Result<f64, TrainError> {
    if streams.valid.len() < 2 {
        return Err(TrainError::NothingHeldOut { tokens: streams.valid.len() });
    }
    let schedule = stage.schedule;
    let key = [stage.seed, stage.number as u64];
    let shuffle_seed = Random::keyed(&key).next_u64();
    let n_seq = checkpoint.config.n_seq;
    let batches =
        |epoch: usize| Batches::new(streams.train.clone(), n_seq, schedule.batch_size, shuffle_seed, epoch as u64);
    let steps_per_epoch = batches(0)?.steps();
    let steps = schedule.epochs * steps_per_epoch;
    let progress = checkpoint.progress.take().unwrap_or_else(|| Progress::new(stage.number));
    let first_epoch = progress.epochs_done;
    let mut bit_price = BitPrice::new(schedule, steps);
    if let Some(prices) = progress.bit_prices {
        bit_price.restore(prices);
    }
    let mut seconds_before = progress.seconds;
    observer.event(&Event::StageStarted {
        stage: stage.number,
        kind: stage.kind,
        epochs: schedule.epochs,
        steps_per_epoch,
        first_step: first_epoch * steps_per_epoch,
        parameters: checkpoint.parameters.architecture().parameter_count(),
    });
    let mut clock = Instant::now();
    let mut valid_perplexity = None;
    for epoch in first_epoch..schedule.epochs {
        let mut total = 0.0;
        for (offset, batch) in batches(epoch)?.ahead().enumerate() {
            let step = epoch * steps_per_epoch + offset;
            let started = Instant::now();
            let mut context =
                StepContext { stage: stage.number, step, steps_per_epoch, steps, streams, observer: &mut *observer };
            objective.before_step(checkpoint, &mut context);
            let optimization = Optimization {
                schedule,
                rate: learning_rate(schedule, step, steps),
                bit_price: bit_price.for_step(checkpoint, step).map_err(|error| match error {
                    ArtifactError::NonFinite { .. } | ArtifactError::Scale { .. } => {
                        TrainError::Diverged { stage: stage.number, step, loss: f32::NAN }
                    }
                    error => TrainError::Artifact(error),
                })?,
                random: Random::keyed(&[key[0], key[1], step as u64 + 1]),
            };
            let StepOutcome { loss, gradient_norm } =
                optimization_step(checkpoint, &batch, objective, &optimization)
                    .map_err(|loss| TrainError::Diverged { stage: stage.number, step, loss })?;
            total += f64::from(loss);
            observer.event(&Event::Step {
                stage: stage.number,
                step,
                loss: f64::from(loss),
                learning_rate: optimization.rate,
                gradient_norm,
                tokens_per_second: batch.inputs.len() as f64 / started.elapsed().as_secs_f64(),
            });
        }
        let perplexity = evaluate_parameters(&checkpoint.parameters, &streams.valid).perplexity();
        valid_perplexity = Some(perplexity);
        let seconds = seconds_before + clock.elapsed().as_secs_f64();
        observer.event(&Event::EpochEnded {
            stage: stage.number,
            epoch: epoch + 1,
            train_loss: total / steps_per_epoch as f64,
            valid_perplexity: perplexity,
            weights_bytes: bit_price.bytes(),
            seconds,
        });
        if let Some(path) = &stage.save_to {
            checkpoint.progress = Some(Progress {
                stage: stage.number,
                epochs_done: epoch + 1,
                seconds,
                bit_prices: Some(bit_price.state()),
            });
            checkpoint.write(path)?;
            checkpoint.progress = None;
        }
        (seconds_before, clock) = (seconds, Instant::now());
    }
    checkpoint.finish_stage();
    // A run that was interrupted between its last epoch and the stage's end trains no epoch.
    Ok(valid_perplexity.unwrap_or_else(|| evaluate_parameters(&checkpoint.parameters, &streams.valid).perplexity()))
}
