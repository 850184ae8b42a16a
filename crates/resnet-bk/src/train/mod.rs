//! The training loop. All stages use it; they differ in their [`Objective`], which gives the loss
//! and may change the model between steps.

mod adamw;
mod agreement;
mod average;
mod best_epoch;
mod cuda;
mod gradients;
mod minutes;
mod rate_control;
mod schedule;
mod step;

pub use adamw::AdamW;
use adamw::decays;
pub(crate) use best_epoch::BEST_EPOCH;
pub use best_epoch::EpochResult;
pub use gradients::global_norm;
pub use minutes::QUANTIZED_COST;
pub use schedule::{Length, learning_rate};
pub use step::{Optimization, StepOutcome, Steps};

use crate::batch::{Batch, BatchError, Batches, Carried};
use crate::checkpoint::{Checkpoint, CheckpointError, ModelState, Progress};
use crate::config::Schedule;
use crate::corpus::Tokens;
use crate::device::{DeviceError, catch};
use crate::model::{LanguageModel, Leaves, Output};
use crate::observer::{Event, Observer};
use crate::random::Random;
use crate::ranks::LeaderFailed;
use crate::summary::Removal;
use crate::tape::Tensor;
use best_epoch::{BestEpoch, Form};
use minutes::FirstEpoch;
use rate_control::RateControl;
use resnet_bk_runtime::internal::artifact::ArtifactError;
use std::path::PathBuf;
use std::time::Instant;
use thiserror::Error;

/// Token streams of a run.
#[derive(Clone, Debug)]
pub struct TokenStreams {
    /// Training tokens. The usage of experts is measured on them too.
    pub train: Tokens,
    /// Dev slice, held out of the training text, for choices: the best epoch, the planner's
    /// student. `None` if nothing is chosen.
    pub dev: Option<Tokens>,
    /// Held-out text, measured after each epoch for the report. Nothing is chosen by it.
    pub valid: Tokens,
}

/// A training failure.
#[derive(Debug, Error)]
pub enum TrainError {
    /// The loss of a step is not finite, or after an epoch that of the held-out text or the dev
    /// slice.
    #[error("the loss became {loss} at step {step} of stage {stage}")]
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
    /// The training text is too short for a batch.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// A checkpoint could not be written.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The best epoch or the best student is requested, but there is no dev slice to choose by.
    #[error("schedule.keep_best_epoch and plan stages need a dev slice, but none is held out of the training text")]
    NoDevSlice,
    /// A planner has no budget.
    #[error("a plan needs a budget, but neither target.ratio nor target.bytes is set")]
    NoBudget,
    /// No student is small enough.
    #[error("no student fits in {budget} bytes of weights, the smallest takes about {smallest}")]
    NoStudent {
        /// The budget.
        budget: u64,
        /// Predicted bytes of the smallest student.
        smallest: u64,
    },
    /// Training diverged in every trial of a planner that its choice could be from.
    #[error("training diverged in all trials of stage {stage}")]
    TrialsDiverged {
        /// The stage, from 1.
        stage: usize,
    },
    /// The device failed.
    #[error("stage {stage} could not go on: {source}")]
    Device {
        /// The stage, from 1.
        stage: usize,
        /// What failed.
        source: DeviceError,
    },
    /// The ranks have different weights.
    #[error(
        "after epoch {epoch} of stage {stage}, the weights of {} differ from those of rank 0",
        list_of_ranks(ranks)
    )]
    RanksDiffer {
        /// The stage, from 1.
        stage: usize,
        /// The epoch, from 1.
        epoch: usize,
        /// The ranks.
        ranks: Vec<usize>,
    },
    /// Rank 0 failed in what it does for all.
    #[error(transparent)]
    Leader(#[from] LeaderFailed),
    /// The observer stopped the training.
    #[error("stage {stage} was stopped: what was done up to its last epoch is kept")]
    Stopped {
        /// The stage, from 1.
        stage: usize,
    },
    /// A model could not be packed.
    #[error("the model cannot be packed while it trains")]
    Artifact(#[from] ArtifactError),
}

/// `rank 1` or `ranks 1, 2`.
pub(crate) fn list_of_ranks(ranks: &[usize]) -> String {
    let numbers: Vec<String> = ranks.iter().map(usize::to_string).collect();
    format!("{} {}", if ranks.len() == 1 { "rank" } else { "ranks" }, numbers.join(", "))
}

/// What a stage adds to the training loop.
pub trait Objective {
    /// Called before every step; may change the model.
    fn before_step(&mut self, _: &mut ModelState, _: &mut StepContext) {}

    /// Share of the stage after which the objective adds quantizers, if it does.
    fn quantizes_after(&self) -> Option<f64> {
        None
    }

    /// Called before a batch whose windows begin with the initial state, if later ones go on where
    /// they end: a teacher forgets the state that it carries.
    fn reset_state(&mut self) {}

    /// Called with each batch before the model's forward pass. On a GPU, what it launches may run beside
    /// that pass.
    fn before_forward(&mut self, _: &Batch) {}

    /// Loss of one batch, `[1]`.
    fn loss(&mut self, model: &LanguageModel, output: &Output, leaves: &Leaves, batch: &Batch) -> Tensor;
}

/// What an objective can see and change before a step.
pub struct StepContext<'a> {
    /// The stage, from 1.
    pub stage: usize,
    /// The step, from 0.
    pub step: usize,
    /// Number of steps.
    pub length: Length,
    /// The token streams.
    pub streams: &'a TokenStreams,
    /// Where removed experts are recorded.
    pub removals: &'a mut Vec<Removal>,
    /// Receives the events.
    pub observer: &'a mut dyn Observer,
}

/// How a stage trains.
#[derive(Clone, Debug)]
pub struct Stage<'a> {
    /// Number of the stage, from 1.
    pub number: usize,
    /// Kind of the stage, for reports.
    pub kind: crate::config::StageKind,
    /// Schedule of the optimizer.
    pub schedule: &'a Schedule,
    /// Seed of the run.
    pub seed: u64,
    /// File for the checkpoint after each epoch. `None` writes nothing.
    pub save_to: Option<PathBuf>,
    /// Largest weights section in bytes, for a planner.
    pub budget: Option<u64>,
}

/// Result of a stage's training.
#[derive(Clone, Debug, PartialEq)]
pub struct Trained {
    /// Perplexity of the kept model on the held-out text.
    pub valid_perplexity: f64,
    /// Perplexity of the kept model on the dev slice, if there is one.
    pub dev_perplexity: Option<f64>,
    /// Share of the held-out tokens that the kept model routes to each expert, for each block.
    pub expert_usage: Vec<Vec<f64>>,
    /// Epochs of the stage.
    pub epochs: usize,
    /// Epoch whose model was kept, from 1.
    pub kept_epoch: usize,
    /// Whether the last epoch brought little improvement; see [`TRAINED_TO_END`].
    pub trained_to_end: bool,
}

/// A stage is trained to its end if its last epoch lowered the best earlier perplexity by less than
/// this share. This holds for the stage's own schedule: with a decaying learning rate, the last
/// epochs gain less in any case.
pub const TRAINED_TO_END: f64 = 0.01;

/// Trains the checkpoint's model for one stage. Resumes from the checkpoint's progress if there is
/// any.
///
/// The model's ranks train it together: the batch size of the schedule is each rank's, and losses are
/// means over all ranks. All ranks return the same result.
///
/// After each epoch it measures the held-out text and the dev slice and saves the checkpoint. Once
/// weights are averaged, the averaged model is measured, chosen and kept. With
/// `keep_best_epoch` it keeps the model of the epoch with the lowest perplexity on the dev slice,
/// otherwise the last one. At the end the checkpoint has no progress and no optimizer moments.
///
/// # Errors
/// [`TrainError`] if the text is too short, the loss is not finite, the device fails, or the
/// checkpoint cannot be written.
pub fn train(
    checkpoint: &mut Checkpoint,
    stage: &Stage,
    streams: &TokenStreams,
    objective: &mut dyn Objective,
    observer: &mut dyn Observer,
) -> Result<Trained, TrainError> {
    catch(|| run(checkpoint, stage, streams, objective, observer))
        .map_err(|source| TrainError::Device { stage: stage.number, source })?
}

fn run(
    checkpoint: &mut Checkpoint,
    stage: &Stage,
    streams: &TokenStreams,
    objective: &mut dyn Objective,
    observer: &mut dyn Observer,
) -> Result<Trained, TrainError> {
    if streams.valid.len() < 2 {
        return Err(TrainError::NothingHeldOut { tokens: streams.valid.len() });
    }
    let schedule = stage.schedule;
    if schedule.keep_best_epoch && streams.dev.is_none() {
        return Err(TrainError::NoDevSlice);
    }
    let key = [stage.seed, stage.number as u64];
    let shuffle_seed = Random::keyed(&key).next_u64();
    let windows = schedule.windows(checkpoint.model.config.n_seq);
    // Each rank has its part of every batch.
    let ranks = checkpoint.model.parameters.ranks().clone();
    let batch_size = schedule.batch_size * ranks.count();
    let batches = |epoch: usize| {
        let all = Batches::of_windows(streams.train.clone(), &windows, batch_size, shuffle_seed, epoch as u64)?;
        Ok::<_, BatchError>(all.of_rank(&ranks))
    };
    let steps_per_epoch = batches(0)?.steps();
    let mut progress = checkpoint.training.progress.take().unwrap_or_else(|| Progress::new(stage.number));
    let mut length = Length::new(schedule, steps_per_epoch, progress.planned_epochs);
    let first_epoch = progress.epochs.len();
    let quantizes_after = objective.quantizes_after();
    let mut rate_control = RateControl::new(schedule);
    if let Some(state) = progress.rate_control {
        rate_control.restore(state, progress.average_size, progress.measured_bytes);
    }
    let mut best = BestEpoch::restore(stage, checkpoint, &progress, &ranks)?;
    let mut form = Form::of(&checkpoint.model.parameters);
    let mut seconds_before = progress.seconds;
    observer.event(&Event::StageStarted {
        stage: stage.number,
        kind: stage.kind,
        epochs: length.epochs.unwrap_or(Schedule::LEAST_EPOCHS),
        minutes: if length.epochs.is_none() { schedule.minutes } else { None },
        steps_per_epoch,
        first_step: first_epoch * steps_per_epoch,
        parameters: checkpoint.model.parameters.architecture().parameter_count(),
    });
    // Values or scales that are not finite cannot be packed.
    let unpacked = |step: usize| {
        move |error: ArtifactError| match error {
            ArtifactError::NonFinite { .. } | ArtifactError::Scale { .. } => {
                TrainError::Diverged { stage: stage.number, step, loss: f32::NAN }
            }
            error => TrainError::Artifact(error),
        }
    };
    let mut clock = Instant::now();
    let mut runner = Steps::new(checkpoint.model.parameters.device());
    let mut first_timed = length.epochs.is_none().then(|| FirstEpoch::begin(steps_per_epoch));
    let mut epoch = first_epoch;
    while length.epochs.is_none_or(|epochs| epoch < epochs) {
        // Losses and numbers of windows, each weighted by the window's share of the longest one.
        let (mut total, mut weights) = (0.0, 0.0);
        // Learning rates and weights of the steps whose outcomes are not known yet.
        let mut pending = Vec::new();
        let mut started = Instant::now();
        for (offset, batch) in batches(epoch)?.ahead().enumerate() {
            if observer.stops() {
                return Err(TrainError::Stopped { stage: stage.number });
            }
            let step = epoch * steps_per_epoch + offset;
            let mut context = StepContext {
                stage: stage.number,
                step,
                length,
                streams,
                removals: &mut checkpoint.history.removals,
                observer: &mut *observer,
            };
            objective.before_step(&mut checkpoint.model, &mut context);
            let weight = batch.n_seq as f64 / windows.longest() as f64;
            let rate = weight * learning_rate(schedule, step, length, quantizes_after);
            let optimization = Optimization {
                schedule,
                rate,
                lambda: rate_control
                    .for_step(&checkpoint.model.parameters, step, rate, length)
                    .map_err(unpacked(step))?,
                average: average::share(
                    schedule,
                    length.step_after(schedule.average_from).is_some_and(|from| step >= from),
                    &mut checkpoint.model.parameters,
                    &mut progress.averaged_steps,
                ),
                random: Random::keyed(&[key[0], key[1], step as u64 + 1]),
            };
            if batch.carried == Carried::Begin {
                objective.reset_state();
            }
            runner.take(&mut checkpoint.model, &mut checkpoint.training.auxiliary, &batch, objective, &optimization);
            pending.push((optimization.rate, weight));
            let done = offset + 1;
            let is_middle = first_timed.as_ref().is_some_and(|timed| timed.is_middle(done));
            let outcomes = runner.outcomes(is_middle || done == steps_per_epoch);
            if outcomes.is_empty() {
                continue;
            }
            let tokens =
                (batch_size * windows.longest()) as f64 * pending.iter().map(|(_, weight)| weight).sum::<f64>();
            let (first, seconds) = (step + 1 - outcomes.len(), started.elapsed().as_secs_f64());
            for (step, (outcome, (learning_rate, weight))) in (first..).zip(outcomes.into_iter().zip(pending.drain(..)))
            {
                if let Some(loss) = outcome.failure() {
                    return Err(TrainError::Diverged { stage: stage.number, step, loss });
                }
                total += weight * f64::from(outcome.loss);
                weights += weight;
                observer.event(&Event::Step {
                    stage: stage.number,
                    step,
                    loss: f64::from(outcome.loss),
                    learning_rate,
                    gradient_norm: outcome.gradient_norm,
                    tokens_per_second: tokens / seconds,
                });
            }
            if let Some(timed) = &mut first_timed {
                timed.done(done);
            }
            started = Instant::now();
        }
        rate_control.settle().map_err(unpacked((epoch + 1) * steps_per_epoch - 1))?;
        agreement::check(checkpoint, stage.number, epoch + 1)?;
        let averaged = checkpoint.model.parameters.averaged();
        let result = EpochResult::measure(&averaged, streams);
        if let Some(loss) = result.failure() {
            return Err(TrainError::Diverged { stage: stage.number, step: (epoch + 1) * steps_per_epoch - 1, loss });
        }
        let measured = Event::ModelMeasured {
            stage: stage.number,
            epoch: epoch + 1,
            sparsity: averaged.sparsity(),
            experts: averaged.architecture().experts.clone(),
            expert_usage: result.expert_usage.clone(),
            scales: averaged.mean_scales(),
            lambda: rate_control.lambda(),
        };
        drop(averaged);
        progress.epochs.push(result.clone());
        let current = Form::of(&checkpoint.model.parameters);
        if current != form {
            (form, progress.form_since) = (current, epoch);
        }
        best.consider(checkpoint, &progress)?;
        if let Some(timed) = first_timed.take() {
            // The clock of rank 0 decides.
            let (epochs, seconds_per_epoch) =
                ranks.share_result(|| Ok::<_, LeaderFailed>(timed.plan(schedule, quantizes_after)))?;
            progress.planned_epochs = Some(epochs);
            length = Length::new(schedule, steps_per_epoch, Some(epochs));
            observer.event(&Event::EpochsPlanned { stage: stage.number, epochs, seconds_per_epoch });
        }
        progress.seconds = seconds_before + clock.elapsed().as_secs_f64();
        progress.rate_control = Some(rate_control.state());
        progress.average_size = rate_control.ratio();
        progress.measured_bytes = rate_control.bytes();
        progress.best_epoch = best.epoch();
        observer.event(&Event::EpochEnded {
            stage: stage.number,
            epoch: epoch + 1,
            train_loss: total / weights,
            valid_perplexity: result.valid,
            dev_perplexity: result.dev,
            weights_bytes: rate_control.bytes(),
            seconds: progress.seconds,
        });
        observer.event(&measured);
        if let Some(path) = &stage.save_to {
            checkpoint.write_progress(path, &progress)?;
            best.save(checkpoint, &progress)?;
        }
        (seconds_before, clock) = (progress.seconds, Instant::now());
        epoch += 1;
    }
    let epochs = progress.epochs.len();
    let kept_epoch = best.restore_best(checkpoint, epochs);
    checkpoint.finish_stage();
    let trained_to_end = best_epoch::trained_to_end(&progress.epochs, progress.form_since);
    let kept = progress.epochs.swap_remove(kept_epoch - 1);
    Ok(Trained {
        valid_perplexity: kept.valid,
        dev_perplexity: kept.dev,
        expert_usage: kept.expert_usage,
        epochs,
        kept_epoch,
        trained_to_end,
    })
}
