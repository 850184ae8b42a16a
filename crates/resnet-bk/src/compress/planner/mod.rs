//! The planner: which student spends a budget of bytes best.
//!
//! ```text
//! candidates within the budget -> short trials -> the best few, longer -> the best one, its table refitted to the trial's true size
//! ```
//!
//! Where the text has no more tokens than the short trials take, there are no longer ones.
//!
//! Trials learn from the teacher as the final student will, quantizers included, and are compared on the dev slice, which nothing is
//! trained on, so that the held-out text has no say in the choice. The rate of a trial, its file's bytes over the
//! predicted ones, corrects the size of the final student's table; the price of its bits is steered to the rest of the way.

mod candidates;
mod size;

use super::distill::{self, Distillation};
use crate::checkpoint::Checkpoint;
use crate::config::{DistillConfig, ModelConfig, PlanConfig, Schedule};
use crate::export::pack;
use crate::observer::{Event, Observer, Silent};
use crate::summary::{PlanSummary, Trial};
use crate::train::{Stage, TokenStreams, TrainError, train};
use candidates::{Candidate, candidates, smallest};

/// Trials of the second round train on so many times the tokens.
const LONGER: usize = 3;
/// Least share of the budget that a student must be predicted to take for its size to be steered to the budget.
const STEERED: f64 = 0.9;
/// Share of the budget that is left free, for a size is steered to about half a percent.
const MARGIN: f64 = 0.007;
/// Steps below which a size is hardly steered, and the share of the budget that is left free then: what trials of small students were off by.
const SHORT: usize = 1_000;
const SHORT_MARGIN: f64 = 0.03;

/// Checks, before anything is trained, that there is a student of at most `budget` bytes of weights for a teacher of this configuration and
/// a vocabulary of `words` words.
///
/// # Errors
/// [`TrainError::NoStudent`].
pub fn check_budget(config: &PlanConfig, teacher: &ModelConfig, words: usize, budget: u64) -> Result<(), TrainError> {
    let common = common(config, teacher, words);
    match candidates(&common, goal(budget)).is_empty() {
        true => Err(TrainError::NoStudent { budget, smallest: smallest(&common) as u64 }),
        false => Ok(()),
    }
}

/// Chooses the student of a teacher, whose weights take at most `budget` bytes: the best one that there is, which may be far smaller.
///
/// # Errors
/// [`TrainError`]: no student fits the budget, no dev slice is there to compare on, or a trial failed.
pub fn plan(
    teacher: &Checkpoint,
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

/// What a trial trains on and is measured by: the first `tokens` of the training text, and the dev slice.
///
/// # Errors
/// [`TrainError::NoDevSlice`].
pub fn split(streams: &TokenStreams, tokens: usize) -> Result<TokenStreams, TrainError> {
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
    teacher: &Checkpoint,
    config: &PlanConfig,
    stage: &Stage,
    streams: &TokenStreams,
    candidate: &Candidate,
    round: usize,
) -> Result<Trial, TrainError> {
    let schedule = Schedule { epochs: 1, weights_bytes: None, keep_best_epoch: false, ..config.schedule.clone() };
    let distillation = config.distillation(schedule, candidate.model.clone(), candidate.policy.clone());
    let stage = Stage { schedule: &distillation.schedule, save_to: None, ..stage.clone() };
    let mut student = teacher.clone();
    let teacher = distill::begin(&mut student, &distillation, &stage);
    let mut objective = Distillation::new(teacher, &distillation, stage.seed);
    let trained = train(&mut student, &stage, streams, &mut objective, &mut Silent)?;
    Ok(Trial {
        round,
        student: candidate.describe(),
        tokens: streams.train.len(),
        predicted_bytes: candidate.bytes() as u64,
        bytes: pack(&student)?.weights_bytes()?,
        perplexity: trained.valid_perplexity,
    })
}
