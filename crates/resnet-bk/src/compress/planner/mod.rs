//! The planner: which student spends a budget of bytes best.
//!
//! ```text
//! candidates within the budget -> short trials -> the best few, longer -> the best one, its table refitted to the trial's true size
//! ```
//!
//! Where the text has no more tokens than the short trials take, there are no longer ones.
//!
//! Trials learn from the teacher as the final student will, quantizers included, and are compared
//! on the dev slice, which nothing is trained on, so that the held-out text has no say in the
//! choice. The rate of a trial, its file's bytes over the predicted ones, corrects the size of the
//! final student's table; the price of its bits is steered to the rest of the way.

mod candidates;
mod size;

use super::distill::{self, Distillation};
use super::stage::{RunStage, StageContext};
use crate::checkpoint::{Checkpoint, History, ModelState, Plan, Progress};
use crate::config::{DistillConfig, ModelConfig, PlanConfig, Schedule, StageConfig};
use crate::export::weights_bytes;
use crate::observer::{Event, Observer, Silent};
use crate::summary::{PlanSummary, Trial};
use crate::train::{Stage, TokenStreams, TrainError, Trained, train};
use candidates::{Candidate, candidates, smallest};
use std::time::Instant;

/// Trials of the second round train on so many times the tokens.
const LONGER: usize = 3;
/// Least share of the budget that a student must be predicted to take for its size to be steered to
/// the budget.
const STEERED: f64 = 0.9;
/// Share of the budget that is left free, for a size is steered to about half a percent.
const MARGIN: f64 = 0.007;
/// Steps below which a size is hardly steered, and the share of the budget that is left free then:
/// what trials of small students were off by.
const SHORT: usize = 1_000;
const SHORT_MARGIN: f64 = 0.03;

impl RunStage for PlanConfig {
    fn run(&self, checkpoint: &mut Checkpoint, context: StageContext) -> Result<Trained, TrainError> {
        let StageContext { stage, streams, teacher, observer } = context;
        let (teacher, distillation) = match (teacher, &checkpoint.history.plan) {
            (Some(teacher), Some(plan)) => (teacher, plan.distillation.clone()),
            _ => {
                let budget = stage.budget.ok_or(TrainError::NoBudget)?;
                let started = Instant::now();
                let (distillation, summary) = plan(&checkpoint.model, self, stage, streams, budget, observer)?;
                let teacher = distill::begin(checkpoint, &distillation, stage);
                checkpoint.history.plan = Some(Plan { summary, distillation: distillation.clone() });
                // The choice is kept: an interruption costs no trial from here on.
                let seconds = started.elapsed().as_secs_f64();
                checkpoint.training.progress = Some(Progress { seconds, ..Progress::new(stage.number) });
                if let Some(path) = &stage.save_to {
                    checkpoint.write(path)?;
                }
                (teacher, distillation)
            }
        };
        let stage = Stage { schedule: &distillation.schedule, ..stage.clone() };
        let mut objective = Distillation::new(teacher, &distillation, stage.seed);
        train(checkpoint, &stage, streams, &mut objective, observer)
    }

    fn learns_from_previous(&self) -> bool {
        true
    }

    fn needs_budget(&self) -> bool {
        true
    }

    fn check_budget(&self, teacher: &ModelConfig, words: usize, budget: u64) -> Result<(), TrainError> {
        check_budget(self, teacher, words, budget)
    }

    fn least_streams(&self, streams: &TokenStreams) -> Result<TokenStreams, TrainError> {
        split(streams, self.trial_tokens)
    }

    fn chosen(&self, history: &History) -> Option<StageConfig> {
        history.plan.as_ref().map(|plan| StageConfig::Distill(plan.distillation.clone()))
    }
}

/// Checks, before anything is trained, that there is a student of at most `budget` bytes of weights
/// for a teacher of this configuration and a vocabulary of `words` words.
///
/// # Errors
/// [`TrainError::NoStudent`].
fn check_budget(config: &PlanConfig, teacher: &ModelConfig, words: usize, budget: u64) -> Result<(), TrainError> {
    let common = common(config, teacher, words);
    match candidates(&common, goal(budget)).is_empty() {
        true => Err(TrainError::NoStudent { budget, smallest: smallest(&common) as u64 }),
        false => Ok(()),
    }
}

/// Chooses the student of a teacher, whose weights take at most `budget` bytes: the best one that
/// there is, which may be far smaller.
///
/// # Errors
/// [`TrainError`]: no student fits the budget, no dev slice is there to compare on, or a trial
/// failed.
fn plan(
    teacher: &ModelState,
    config: &PlanConfig,
    stage: &Stage,
    streams: &TokenStreams,
    budget: u64,
    observer: &mut dyn Observer,
) -> Result<(DistillConfig, PlanSummary), TrainError> {
    let words = teacher.vocabulary.len();
    check_budget(config, &teacher.config, words, budget)?;
    let goal = goal(budget);
    let mut field = candidates(&common(config, &teacher.config, words), goal);
    let mut summary = PlanSummary { budget, trials: Vec::new(), chosen: 0, predicted_bytes: 0 };
    for (round, factor) in [1, LONGER].into_iter().enumerate() {
        let trial_streams = split(streams, config.trial_tokens.saturating_mul(factor))?;
        // A text may have no more tokens: the same trials would be run again.
        if summary.trials.last().is_some_and(|trial| trial.tokens == trial_streams.train.len()) {
            break;
        }
        let first = summary.trials.len();
        let count = field.len();
        for (index, candidate) in field.iter().enumerate() {
            let trial = run_trial(teacher, config, stage, &trial_streams, candidate, round + 1)?;
            observer.event(&Event::TrialEnded {
                stage: stage.number,
                trial: index + 1,
                trials: count,
                result: trial.clone(),
            });
            summary.trials.push(trial);
        }
        let mut order: Vec<usize> = (0..count).filter(|&index| field[index].spends_budget).collect();
        let perplexity = |index: &usize| summary.trials[first + index].perplexity;
        order.sort_by(|a, b| perplexity(a).total_cmp(&perplexity(b)));
        order.truncate(config.finalists.max(1));
        summary.chosen = first + order[0];
        field = order.iter().map(|&index| field[index].clone()).collect();
    }
    let trial = &summary.trials[summary.chosen];
    let rate = trial.bytes as f64 / trial.predicted_bytes as f64;
    let window = config.schedule.batch_size * teacher.config.n_seq;
    let steps = config.schedule.epochs * streams.train.len() / window;
    let goal = if steps < SHORT { budget as f64 * (1.0 - SHORT_MARGIN) } else { goal };
    let chosen = field.swap_remove(0);
    let chosen = chosen.refit(goal / rate).unwrap_or(chosen);
    // Where not even the widest table takes the budget, there is nothing to steer.
    let unsteered = chosen.bytes() * rate;
    let steered_to = (unsteered > STEERED * goal).then_some(goal as u64);
    summary.predicted_bytes = steered_to.unwrap_or(unsteered as u64);
    let schedule = Schedule { weights_bytes: steered_to, ..config.schedule.clone() };
    Ok((config.distillation(schedule, chosen.model, chosen.policy), summary))
}

/// What a trial trains on and is measured by: the first `tokens` of the training text, and the dev
/// slice.
///
/// # Errors
/// [`TrainError::NoDevSlice`].
fn split(streams: &TokenStreams, tokens: usize) -> Result<TokenStreams, TrainError> {
    let dev = streams.dev.clone().ok_or(TrainError::NoDevSlice)?;
    let tokens = tokens.min(streams.train.len());
    Ok(TokenStreams { train: streams.train[..tokens].into(), dev: None, valid: dev })
}

/// What all students have in common.
fn common(config: &PlanConfig, teacher: &ModelConfig, words: usize) -> ModelConfig {
    ModelConfig { vocab_size: words, ..config.common(teacher) }
}

/// The bytes that a student is made for.
fn goal(budget: u64) -> f64 {
    budget as f64 * (1.0 - MARGIN)
}

fn run_trial(
    teacher: &ModelState,
    config: &PlanConfig,
    stage: &Stage,
    streams: &TokenStreams,
    candidate: &Candidate,
    round: usize,
) -> Result<Trial, TrainError> {
    let schedule = Schedule { epochs: 1, weights_bytes: None, keep_best_epoch: false, ..config.schedule.clone() };
    let distillation = config.distillation(schedule, candidate.model.clone(), candidate.policy.clone());
    let stage = Stage { schedule: &distillation.schedule, save_to: None, ..stage.clone() };
    let mut student = Checkpoint::new(teacher.clone());
    let teacher = distill::begin(&mut student, &distillation, &stage);
    let mut objective = Distillation::new(teacher, &distillation, stage.seed);
    let trained = train(&mut student, &stage, streams, &mut objective, &mut Silent)?;
    Ok(Trial {
        round,
        student: candidate.describe(),
        tokens: streams.train.len(),
        predicted_bytes: candidate.bytes() as u64,
        bytes: weights_bytes(&student.model.parameters)?,
        perplexity: trained.valid_perplexity,
    })
}
