//! The planner: searches for the student with the lowest perplexity within a budget of bytes.
//!
//! ```text
//! candidates within the budget
//!   -> short trials of all
//!   -> longer trials of the best few
//!   -> the best one, with its table refitted to the measured size
//! ```
//!
//! The second round is skipped if the text has no more tokens than the short trials use.
//!
//! A trial distills from the teacher like the final student, quantizers included. Trials are
//! compared on the dev slice, which no model is trained on. So the choice does not depend on the
//! reported text.
//!
//! Trials are independent, so they are spread over the ranks: candidate `i` runs on rank `i mod n`,
//! with the batch size of one rank. All ranks get all results and choose the same student. Trials
//! that are done are kept in a file, so that an interrupted search goes on where it was. A trial
//! whose training diverges is never chosen.
//!
//! The ratio of measured to predicted bytes of the best trial corrects the width of the final
//! table. Rate control of lambda then brings the size to the budget.

mod candidates;
mod search_cost;
mod size;
mod trials;

pub use search_cost::{SearchCost, search_cost};
pub(crate) use trials::TRIALS;

use super::distill::{self, Distillation};
use super::stage::{RunStage, StageContext};
use crate::checkpoint::{Checkpoint, History, ModelState, Plan, Progress};
use crate::config::{DistillConfig, ModelConfig, PlanConfig, Schedule, StageConfig};
use crate::export::weights_bytes;
use crate::observer::{Event, Muted, Observer};
use crate::ranks::Ranks;
use crate::summary::{PlanSummary, Trial};
use crate::train::{Stage, TokenStreams, TrainError, Trained, train};
use candidates::{Candidate, candidates, smallest};
use resnet_bk_runtime::internal::artifact::ArtifactError;
use std::time::Instant;
use trials::Trials;

/// Tokens of a trial in the second round, as a multiple of the first round's.
const SECOND_ROUND_FACTOR: usize = 3;
/// Rate control is used only if the student is predicted to take at least this share of the budget.
const MIN_CONTROLLED_SHARE: f64 = 0.9;
/// Share of the budget left free: rate control reaches a size to within about half a percent.
const MARGIN: f64 = 0.007;
/// With fewer steps than this, rate control has little effect. `FEW_STEPS_MARGIN` is then left
/// free; it is the error that trials of small students showed.
const FEW_STEPS: usize = 1_000;
const FEW_STEPS_MARGIN: f64 = 0.03;

impl RunStage for PlanConfig {
    fn run(&self, checkpoint: &mut Checkpoint, context: StageContext) -> Result<Trained, TrainError> {
        let StageContext { stage, streams, teacher, observer } = context;
        let (teacher, distillation) = match (teacher, &checkpoint.history.plan) {
            (Some(teacher), Some(plan)) => (teacher, plan.distillation.clone()),
            _ => {
                let budget = stage.budget.ok_or(TrainError::NoBudget)?;
                let started = Instant::now();
                let (distillation, summary) = plan(checkpoint, self, stage, streams, budget, observer)?;
                let teacher = distill::begin(checkpoint, &distillation, stage, &streams.train, observer);
                checkpoint.history.plan = Some(Plan { summary, distillation: distillation.clone() });
                // Save the choice, so that an interrupted run does not repeat the trials.
                let seconds = started.elapsed().as_secs_f64();
                checkpoint.training.progress = Some(Progress { seconds, ..Progress::new(stage.number) });
                if let Some(path) = &stage.save_to {
                    checkpoint.write_on_rank_0(path)?;
                }
                (teacher, distillation)
            }
        };
        let stage = Stage { schedule: &distillation.schedule, ..stage.clone() };
        let mut objective = Distillation::new(teacher, &distillation, stage.seed);
        train(checkpoint, &stage, streams, &mut objective, observer)
    }

    fn needs_teacher(&self) -> bool {
        true
    }

    fn needs_budget(&self) -> bool {
        true
    }

    fn check_budget(&self, teacher: &ModelConfig, words: usize, budget: u64) -> Result<(), TrainError> {
        check_budget(self, teacher, words, budget)
    }

    fn shortest_streams(&self, streams: &TokenStreams) -> Result<TokenStreams, TrainError> {
        split(streams, self.trial_tokens)
    }

    fn chosen(&self, history: &History) -> Option<StageConfig> {
        history.plan.as_ref().map(|plan| StageConfig::Distill(plan.distillation.clone()))
    }
}

/// Checks, before any training, that a student of at most `budget` bytes of weights exists for a
/// teacher of this configuration and a vocabulary of `words` words.
///
/// # Errors
/// [`TrainError::NoStudent`] if there is none.
fn check_budget(config: &PlanConfig, teacher: &ModelConfig, words: usize, budget: u64) -> Result<(), TrainError> {
    let common = common(config, teacher, words);
    match candidates(&common, goal(budget)).is_empty() {
        true => Err(TrainError::NoStudent { budget, smallest: smallest(&common) as u64 }),
        false => Ok(()),
    }
}

/// Chooses the best student of the checkpoint's model whose weights take at most `budget` bytes. It may
/// be far smaller than the budget.
///
/// # Errors
/// [`TrainError`] if no student fits the budget, if there is no dev slice to compare on, if a trial
/// fails otherwise than by divergence, or if all diverge.
fn plan(
    checkpoint: &Checkpoint,
    config: &PlanConfig,
    stage: &Stage,
    streams: &TokenStreams,
    budget: u64,
    observer: &mut dyn Observer,
) -> Result<(DistillConfig, PlanSummary), TrainError> {
    let teacher = &checkpoint.model;
    let words = teacher.vocabulary.len();
    check_budget(config, &teacher.config, words, budget)?;
    let goal = goal(budget);
    let mut pool = candidates(&common(config, &teacher.config, words), goal);
    let mut summary = PlanSummary { budget, trials: Vec::new(), chosen: 0, predicted_bytes: 0 };
    let ranks = teacher.parameters.ranks();
    let done = Trials::restore(stage, checkpoint.history.text.as_ref(), ranks)?;
    for (round, factor) in [1, SECOND_ROUND_FACTOR].into_iter().enumerate() {
        let trial_streams = split(streams, config.trial_tokens.saturating_mul(factor))?;
        // The text has no more tokens, so this round would repeat the trials of the first.
        if summary.trials.last().is_some_and(|trial| trial.tokens == trial_streams.train.len()) {
            break;
        }
        let first = summary.trials.len();
        let count = pool.len();
        for candidate in &pool {
            let tokens = trial_streams.train.len();
            let Some(trial) = done.get(summary.trials.len(), round + 1, candidate, tokens) else { break };
            summary.trials.push(trial);
        }
        // Each rank runs one trial of a turn, alone.
        for turn in pool[summary.trials.len() - first..].chunks(ranks.count()) {
            let run = |candidate| {
                run_trial(teacher, config, stage, &trial_streams, candidate, round + 1, &mut Muted(&mut *observer))
            };
            for trial in of_all_ranks(ranks, turn.get(ranks.rank()).map(run).transpose()?) {
                observer.event(&Event::TrialEnded {
                    stage: stage.number,
                    trial: summary.trials.len() - first + 1,
                    trials: count,
                    result: trial.clone(),
                });
                summary.trials.push(trial);
            }
            done.save(&summary.trials, ranks)?;
        }
        let perplexity = |index: usize| summary.trials[first + index].perplexity;
        let compared = (0..count).filter(|&index| pool[index].spends_budget);
        let mut order: Vec<(f64, usize)> = compared.filter_map(|index| Some((perplexity(index)?, index))).collect();
        order.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        order.truncate(config.finalists.max(1));
        let order: Vec<usize> = order.into_iter().map(|(_, index)| index).collect();
        let &best = order.first().ok_or(TrainError::TrialsDiverged { stage: stage.number })?;
        summary.chosen = first + best;
        pool = order.iter().map(|&index| pool[index].clone()).collect();
    }
    let trial = &summary.trials[summary.chosen];
    let correction = trial.bytes as f64 / trial.predicted_bytes as f64;
    let window = config.schedule.batch_size * ranks.count() * teacher.config.n_seq;
    let steps = config.schedule.least_epochs() * streams.train.len() / window;
    let goal = if steps < FEW_STEPS { budget as f64 * (1.0 - FEW_STEPS_MARGIN) } else { goal };
    let chosen = pool.swap_remove(0);
    let chosen = chosen.refit(goal / correction).unwrap_or(chosen);
    // If even the widest table is well below the budget, there is no size to control.
    let expected_bytes = chosen.bytes() * correction;
    let controlled_bytes = (expected_bytes > MIN_CONTROLLED_SHARE * goal).then_some(goal as u64);
    summary.predicted_bytes = controlled_bytes.unwrap_or(expected_bytes as u64);
    let schedule = Schedule { weights_bytes: controlled_bytes, ..config.schedule.clone() };
    Ok((config.distillation(schedule, chosen.model, chosen.policy), summary))
}

/// The trials of a turn, in the order of the ranks.
fn of_all_ranks(ranks: &Ranks, own: Option<Trial>) -> Vec<Trial> {
    if ranks.are_alone() {
        return own.into_iter().collect();
    }
    let received = ranks.gather(serde_json::to_vec(&own).expect("a trial is plain data"));
    let of_rank =
        |bytes: &Vec<u8>| serde_json::from_slice::<Option<Trial>>(bytes).expect("every rank sends its trial, if any");
    received.iter().filter_map(of_rank).collect()
}

/// Tokens of a trial: it trains on the first `tokens` of the training text and is measured on the
/// dev slice.
///
/// # Errors
/// [`TrainError::NoDevSlice`] if there is no dev slice.
fn split(streams: &TokenStreams, tokens: usize) -> Result<TokenStreams, TrainError> {
    let dev = streams.dev.clone().ok_or(TrainError::NoDevSlice)?;
    let tokens = tokens.min(streams.train.len());
    Ok(TokenStreams { train: streams.train[..tokens].into(), dev: None, valid: dev })
}

/// The configuration that all students share.
fn common(config: &PlanConfig, teacher: &ModelConfig, words: usize) -> ModelConfig {
    ModelConfig { vocab_size: words, ..config.common(teacher) }
}

/// Bytes to aim for: the budget less its margin.
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
    observer: &mut Muted,
) -> Result<Trial, TrainError> {
    let schedule = Schedule {
        epochs: Some(1),
        minutes: None,
        weights_bytes: None,
        keep_best_epoch: false,
        ..config.schedule.clone()
    };
    let distillation = config.distillation(schedule, candidate.model.clone(), candidate.policy.clone());
    let stage = Stage { schedule: &distillation.schedule, save_to: None, ..stage.clone() };
    let mut student = Checkpoint::new(teacher.clone());
    student.model.parameters.set_ranks(Ranks::alone());
    let teacher = distill::begin(&mut student, &distillation, &stage, &streams.train, observer);
    let mut objective = Distillation::new(teacher, &distillation, stage.seed);
    let predicted_bytes = candidate.bytes() as u64;
    let trained = train(&mut student, &stage, streams, &mut objective, observer)
        .and_then(|trained| Ok((weights_bytes(&student.model.parameters)?, Some(trained.valid_perplexity))));
    let (bytes, perplexity) = match trained {
        // Values or scales that are not finite cannot be packed.
        Err(
            TrainError::Diverged { .. }
            | TrainError::Artifact(ArtifactError::NonFinite { .. } | ArtifactError::Scale { .. }),
        ) => (predicted_bytes, None),
        trained => trained?,
    };
    let (student, tokens) = (candidate.describe(), streams.train.len());
    Ok(Trial { round, student, tokens, predicted_bytes, bytes, perplexity })
}
