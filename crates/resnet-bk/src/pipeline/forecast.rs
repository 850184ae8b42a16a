//! A forecast of a run: its stages, their time from a few real steps on the run's device, memory and
//! sizes. It trains nothing and writes nothing.
//!
//! ```text
//! time   steps x time of a step x slowdown by quantizers
//!        + epochs x tokens to evaluate x time of evaluating a token
//! ```
//!
//! A stage's step is timed on random tokens and weights, without quantizers (those of `qat` stages are
//! timed with them). A planner's trials and student are timed on the candidate with the most parameters.
//! n-gram baselines, packing and the report are not counted.

use super::outline::StageOutline;
use super::work::{is_quantized_after, quantized_share, slowdown};
use super::{Ready, Run, RunError, RunRequest};
use crate::bench::{bench_evaluation, bench_step};
use crate::compress::planner::search_cost;
use crate::config::{ModelConfig, PlanConfig, Recipe, Schedule, StageConfig, StageKind, StudentInit, Target};
use crate::device::{Device, catch};
use crate::memory;
use crate::observer::Observer;
use crate::summary::CorpusSummary;
use resnet_bk_runtime::internal::quantization::QuantizationPolicy;
use serde::Serialize;

/// Timed steps of a stage on the host. A GPU's come in groups of 64.
const RUNS: usize = 5;
const RUNS_OF_GPU: usize = 64;

/// What a run will be. Its JSON keys are a stable interface.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Forecast {
    /// The text.
    pub corpus: CorpusSummary,
    /// Where the models train.
    pub device: String,
    /// Processes that train together.
    pub processes: usize,
    /// One entry per stage, in order.
    pub stages: Vec<StageForecast>,
    /// The goals of the run.
    pub target: Target,
    /// Most bytes of the weights section that the goals in bytes or as a ratio allow. `None` without
    /// such a goal, or where its baseline is not known yet.
    pub target_weights_bytes: Option<u64>,
    /// Predicted time of all stages, in seconds.
    pub seconds: f64,
    /// Memory that the largest stage needs at least, in bytes.
    pub memory_bytes: u64,
    /// Memory that is available, in bytes, if the system reports it.
    pub available_bytes: Option<u64>,
    /// Warnings that the run would begin with.
    pub warnings: Vec<String>,
}

/// What a stage will be.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StageForecast {
    /// Number of the stage, from 1.
    pub stage: usize,
    /// Kind of the stage.
    pub kind: StageKind,
    /// Epochs; predicted where the recipe gives minutes.
    pub epochs: usize,
    /// Minutes that the recipe gives.
    pub minutes: Option<f64>,
    /// Optimizer steps.
    pub steps: usize,
    /// Tokens of all steps together.
    pub tokens: usize,
    /// A planner's trials; 0 in other stages.
    pub trials: usize,
    /// Tokens of the trials together.
    pub trial_tokens: usize,
    /// Parameters of the model after the stage, if no expert is removed; of a planner, those of its largest
    /// candidate.
    pub parameters: usize,
    /// Four bytes for each of them.
    pub float32_bytes: u64,
    /// Bytes of the weights section that the stage aims for: `schedule.weights_bytes`, or the planner's
    /// budget.
    pub weights_bytes: Option<u64>,
    /// Memory that the stage needs at least, in bytes.
    pub memory_bytes: u64,
    /// Most bytes of device memory while steps were timed, on a GPU.
    pub device_bytes: Option<u64>,
    /// Measured time of a step, in milliseconds.
    pub step_ms: f64,
    /// Predicted time of the stage, in seconds.
    pub seconds: f64,
}

/// Forecasts a run. All ranks of the request must call this with equal recipes and texts. It checks
/// what the run would check, and takes a few steps of each stage on the run's device.
///
/// # Errors
/// As [`run`](super::run): what would be refused is refused here too.
pub fn forecast(request: &RunRequest, observer: &mut dyn Observer) -> Result<Forecast, RunError> {
    catch(|| forecast_stages(request, observer))?
}

fn forecast_stages(request: &RunRequest, observer: &mut dyn Observer) -> Result<Forecast, RunError> {
    let Ready { run, outline, .. } = super::ready(request, observer)?;
    let mut is_quantized = run.checkpoint.model.parameters.architecture().quantization.is_some();
    let mut stages = Vec::new();
    for (index, stage) in outline.iter().enumerate() {
        let number = run.candidates.inherited() + index + 1;
        stages.push(run.forecast_stage(number, stage, is_quantized)?);
        is_quantized = is_quantized_after(stage.config, is_quantized);
    }
    let trained: Vec<u64> = outline.iter().filter_map(StageOutline::trained_bytes).collect();
    let last = outline.last().map_or(&run.checkpoint.model.config, |stage| &stage.after);
    Ok(Forecast {
        device: request.device.to_string(),
        processes: request.ranks.count(),
        target: request.recipe.target,
        target_weights_bytes: run.expected_budget(last, &trained)?,
        seconds: stages.iter().map(|stage| stage.seconds).sum(),
        memory_bytes: stages.iter().map(|stage| stage.memory_bytes).max().unwrap_or(0),
        available_bytes: memory::available(),
        stages,
        corpus: run.text.summary,
        warnings: run.warnings,
    })
}

impl Run<'_> {
    fn forecast_stage(
        &self,
        number: usize,
        outline: &StageOutline,
        is_quantized: bool,
    ) -> Result<StageForecast, RunError> {
        let RunRequest { recipe, device, ranks, .. } = self.request;
        let StageOutline { config, before, after, steps_per_epoch, budget } = outline;
        let streams = &self.text.streams;
        let (words, schedule) = (self.checkpoint.model.vocabulary.len(), config.schedule());
        let search = match (config, budget) {
            (StageConfig::Plan(plan), Some(budget)) => {
                search_cost(plan, before, words, *budget, streams.train.len()).map(|cost| (plan, cost))
            }
            _ => None,
        };
        let student = search.as_ref().map_or(after, |(_, cost)| &cost.student);
        let timed = match (&search, config) {
            (Some((plan, _)), _) => timed_student(plan, student, schedule),
            (None, config) => without_quantizers(config),
        };
        let one_stage = Recipe { model: before.clone(), stages: vec![timed], ..recipe.clone() };
        let runs = if matches!(device, Device::Cpu) { RUNS } else { RUNS_OF_GPU };
        let step = bench_step(&one_stage, 1, device, ranks, runs, false)?;
        let evaluated_per_second = bench_evaluation(student, recipe.seed, device, ranks);
        let (trials, trial_tokens) = search.as_ref().map_or((0, 0), |(_, cost)| (cost.trials, cost.tokens));
        let dev_tokens = streams.dev.as_ref().map_or(0, |dev| dev.len());
        // A `qat` stage was timed with its quantizers.
        let is_timed_quantized = config.kind() == StageKind::Qat;
        let quantized = if is_timed_quantized { 0.0 } else { quantized_share(config, is_quantized) };
        let windows = schedule.windows(student.n_seq);
        // Steps were timed with the longest windows.
        let share = windows.mean() / windows.longest() as f64;
        let of_steps = |steps: f64| steps * share * step.step.median_ms / 1e3 * slowdown(quantized);
        let evaluation = (streams.valid.len() + dev_tokens) as f64 / evaluated_per_second;
        let window = schedule.batch_size as f64 * windows.mean();
        let of_trials = of_steps(trial_tokens as f64 / window) + (trials * dev_tokens) as f64 / evaluated_per_second;
        let of_epoch = of_steps(*steps_per_epoch as f64) + evaluation;
        let predicted = |minutes: f64| ((60.0 * minutes / of_epoch) as usize).max(Schedule::LEAST_EPOCHS);
        let epochs = schedule.known_epochs().unwrap_or_else(|| predicted(schedule.minutes.unwrap_or(0.0)));
        let steps = epochs * steps_per_epoch;
        let parameters = student.architecture().parameter_count();
        let teacher = (config.kind() != StageKind::Train).then_some(before);
        Ok(StageForecast {
            stage: number,
            kind: config.kind(),
            epochs,
            minutes: schedule.minutes,
            steps,
            tokens: (steps as f64 * window) as usize * ranks.count(),
            trials,
            trial_tokens,
            parameters,
            float32_bytes: 4 * parameters as u64,
            weights_bytes: budget.or(schedule.weights_bytes),
            memory_bytes: memory::training_bytes(student, teacher, schedule),
            device_bytes: step.peak_device_memory,
            step_ms: step.step.median_ms,
            // Each rank runs trials of its own.
            seconds: epochs as f64 * of_epoch + of_trials / ranks.count() as f64,
        })
    }
}

/// A stage whose steps are timed without quantizers, and without what happens once.
fn without_quantizers(config: &StageConfig) -> StageConfig {
    match config {
        StageConfig::Distill(distill) => {
            let mut distill = distill.clone();
            (distill.init, distill.quantization, distill.compress_at) = (StudentInit::Random, None, 1.0);
            StageConfig::Distill(distill)
        }
        config => config.clone(),
    }
}

/// The distillation of a planner's student, to be timed.
fn timed_student(plan: &PlanConfig, student: &ModelConfig, schedule: &Schedule) -> StageConfig {
    let distill = plan.distillation(schedule.clone(), student.clone(), QuantizationPolicy::default());
    without_quantizers(&StageConfig::Distill(distill))
}
