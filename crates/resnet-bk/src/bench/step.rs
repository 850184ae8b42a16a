//! Benchmark of the training step of a recipe's stage.

use super::{Timing, peak_memory};
use crate::checkpoint::{Checkpoint, ModelState};
use crate::compress::StageContext;
use crate::config::{ModelConfig, Recipe, Schedule, StageConfig, StageKind};
use crate::device::Device;
use crate::device::cuda::KernelTime;
use crate::evaluate::{WINDOWS, evaluate_parameters};
use crate::numerics::Precision;
use crate::observer::{Event, Observer};
use crate::random::Random;
use crate::ranks::Ranks;
use crate::train::{Stage, TokenStreams, TrainError};
use resnet_bk_runtime::internal::tokenizer::{END_OF_LINE, Pretokenizer, UNKNOWN, Vocabulary};
use serde::Serialize;
use std::sync::Arc;
use std::time::Instant;

/// Steps before the timed ones. A GPU's come in groups of 64, and the first group has the recording
/// of the graph.
fn warm_up(device: &Device) -> usize {
    if device.cuda().is_some() { 64 } else { 2 }
}

/// Time of a training step.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StepReport {
    /// Kind of the stage.
    pub kind: StageKind,
    /// Parameters of the model.
    pub parameters: usize,
    /// Processes that train together.
    pub processes: usize,
    /// Windows in the batch of each process.
    pub batch_size: usize,
    /// Tokens in a window.
    pub n_seq: usize,
    /// The device.
    pub device: String,
    /// Number of threads.
    pub threads: usize,
    /// Number format of the head's products, and the unit that computes them.
    pub head_products: &'static str,
    /// Everything between two steps: batch, forward, backward, clipping and optimizer.
    pub step: Timing,
    /// Tokens per second, from the median.
    pub tokens_per_second: f64,
    /// Largest resident set of the process, in bytes, if the system reports it.
    pub peak_memory: Option<u64>,
    /// Largest number of bytes of device memory that the process held, on a GPU.
    pub peak_device_memory: Option<u64>,
    /// Times of the kernels of a step, the longest first, if they were asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub kernels: Vec<KernelTime>,
}

/// Times of the steps, in milliseconds.
struct Times {
    milliseconds: Vec<f64>,
    tokens: f64,
    warm_up: usize,
    parameters: usize,
}

impl Observer for Times {
    fn event(&mut self, event: &Event) {
        match event {
            Event::StageStarted { parameters, .. } => self.parameters = *parameters,
            Event::Step { step, tokens_per_second, .. } if *step >= self.warm_up => {
                self.milliseconds.push(1e3 * self.tokens / tokens_per_second);
            }
            _ => {}
        }
    }
}

/// The recipe of a preset's plain training.
pub fn step_recipe(preset: &str, precision: Precision) -> String {
    let precision = if precision == Precision::Bf16 { "bf16" } else { "float32" };
    format!(
        "seed = 1\n[model]\npreset = {preset:?}\n[schedule]\nprecision = \"{precision}\"\n[[stage]]\nkind = \"train\"\n"
    )
}

/// Times `runs` training steps of stage `number` (from 1) of a recipe on random tokens. Earlier
/// stages do not run; the models that they make have random values. `with_kernels` also times the
/// kernels of one more step, on a GPU. All ranks must call this.
///
/// # Errors
/// [`TrainError`] if the stage cannot run.
///
/// # Panics
/// If there is no such stage.
pub fn bench_step(
    recipe: &Recipe,
    number: usize,
    device: &Device,
    ranks: &Ranks,
    runs: usize,
    with_kernels: bool,
) -> Result<StepReport, TrainError> {
    let config = &recipe.stages[number - 1];
    let before =
        recipe.stages[..number - 1].iter().fold(recipe.model.clone(), |model, stage| stage.model_after(&model));
    // Windows of several lengths are timed by the longest.
    let n_seq = config.schedule().windows(config.model_after(&before).n_seq).longest();
    let schedule = Schedule {
        epochs: Some(1),
        minutes: None,
        weights_bytes: None,
        keep_best_epoch: false,
        window_lengths: vec![n_seq],
        ..config.schedule().clone()
    };
    let model = untrained(&before, recipe.seed, device, ranks);
    let (window, warm_up) = (ranks.count() * schedule.batch_size * n_seq, warm_up(device));
    let tokens = |count: usize| random_tokens(count, before.vocab_size);
    let streams =
        TokenStreams { train: tokens((warm_up + runs + 1) * window).into(), dev: None, valid: tokens(2).into() };
    let stage =
        Stage { number, kind: config.kind(), schedule: &schedule, seed: recipe.seed, save_to: None, budget: None };
    let mut times = Times { milliseconds: Vec::new(), tokens: window as f64, warm_up, parameters: 0 };
    let run = |times: &mut Times| {
        let context = StageContext { stage: &stage, streams: &streams, teacher: None, observer: times };
        config.runner().run(&mut Checkpoint::new(model.clone()), context)
    };
    run(&mut times)?;
    let peak_device_memory = device.cuda().map(|cuda| cuda.peak_bytes() as u64);
    let mut kernels = Vec::new();
    if let (Some(cuda), true) = (device.cuda(), with_kernels) {
        cuda.start_profile();
        run(&mut Times { milliseconds: Vec::new(), tokens: 0.0, warm_up: 0, parameters: 0 })?;
        kernels = cuda.finish_profile();
    }
    times.milliseconds.sort_by(f64::total_cmp);
    let count = times.milliseconds.len();
    let step = Timing { median_ms: times.milliseconds[count / 2], fastest_ms: times.milliseconds[0], runs: count };
    Ok(StepReport {
        kind: config.kind(),
        parameters: times.parameters,
        processes: ranks.count(),
        batch_size: schedule.batch_size,
        n_seq,
        device: device.to_string(),
        threads: rayon::current_num_threads(),
        head_products: schedule.precision.unit(device),
        tokens_per_second: window as f64 / (step.median_ms * 1e-3),
        step,
        peak_memory: peak_memory(),
        peak_device_memory,
        kernels,
    })
}

/// Evaluated tokens per second of a model with random values. All ranks must call this.
pub fn bench_evaluation(model: &ModelConfig, seed: u64, device: &Device, ranks: &Ranks) -> f64 {
    let model = untrained(model, seed, device, ranks);
    let tokens = random_tokens(ranks.count() * WINDOWS * model.config.n_seq + 1, model.config.vocab_size);
    // The first evaluation compiles and allocates.
    evaluate_parameters(&model.parameters, &tokens);
    let start = Instant::now();
    let evaluation = evaluate_parameters(&model.parameters, &tokens);
    evaluation.tokens as f64 / start.elapsed().as_secs_f64()
}

/// A model with random values, whose words are numbers.
fn untrained(config: &ModelConfig, seed: u64, device: &Device, ranks: &Ranks) -> ModelState {
    let special = [UNKNOWN, END_OF_LINE].map(str::to_owned);
    let words = special.into_iter().chain((2..config.vocab_size).map(|word| word.to_string())).collect();
    let vocabulary = Vocabulary::new(words, Pretokenizer::Whitespace).expect("the words differ");
    let mut model = ModelState::initialize(config.clone(), Arc::new(vocabulary), seed);
    model.parameters.set_device(device.clone());
    model.parameters.set_ranks(ranks.clone());
    model
}

fn random_tokens(count: usize, words: usize) -> Vec<u32> {
    let mut random = Random::new(1);
    (0..count).map(|_| random.below(words as u64) as u32).collect()
}

/// Whether [`bench_step`] can time a stage: a planner's stage has no single kind of step.
pub fn has_steps(config: &StageConfig) -> bool {
    config.kind() != StageKind::Plan
}
