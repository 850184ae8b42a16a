//! Benchmark of the training step.

use super::{Timing, measure, peak_memory};
use crate::batch::Batch;
use crate::checkpoint::ModelState;
use crate::compress::CrossEntropy;
use crate::config::{ConfigError, ModelConfig, Schedule};
use crate::device::Device;
use crate::numerics::Precision;
use crate::random::Random;
use crate::train::{Optimization, Steps};
use resnet_bk_runtime::internal::tokenizer::{END_OF_LINE, Pretokenizer, UNKNOWN, Vocabulary};
use serde::Serialize;
use std::sync::Arc;

/// Time of a training step.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StepReport {
    /// Preset of the model.
    pub preset: String,
    /// Parameters of the model.
    pub parameters: usize,
    /// Windows in the batch.
    pub batch_size: usize,
    /// Tokens in a window.
    pub n_seq: usize,
    /// The device.
    pub device: String,
    /// Number of threads.
    pub threads: usize,
    /// Number format of the head's products, and the unit that computes them.
    pub head_products: &'static str,
    /// Forward, backward, clipping and optimizer.
    pub step: Timing,
    /// Tokens per second, from the median.
    pub tokens_per_second: f64,
    /// Largest resident set of the process, in bytes, if the system reports it.
    pub peak_memory: Option<u64>,
    /// Largest number of bytes of device memory that the process held, on a GPU.
    pub peak_device_memory: Option<u64>,
}

/// Times training steps of a preset on random tokens.
///
/// # Errors
/// If there is no such preset.
pub fn bench_step(preset: &str, precision: Precision, device: &Device, runs: usize) -> Result<StepReport, ConfigError> {
    let config = ModelConfig::preset(preset)?;
    let schedule = Schedule { precision, ..Schedule::default() };
    let (batch_size, n_seq, vocab_size) = (schedule.batch_size, config.n_seq, config.vocab_size);
    let mut random = Random::new(1);
    let mut tokens = || (0..batch_size * n_seq).map(|_| random.below(vocab_size as u64) as u32).collect::<Vec<u32>>();
    let batch = Batch { inputs: tokens().into(), targets: tokens().into(), batch_size, n_seq };
    let special = [UNKNOWN, END_OF_LINE].map(str::to_owned);
    let words = special.into_iter().chain((2..vocab_size).map(|word| word.to_string())).collect();
    let vocabulary = Vocabulary::new(words, Pretokenizer::Whitespace).expect("the words differ");
    let mut model = ModelState::initialize(config, Arc::new(vocabulary), 1);
    let mut number = 0;
    model.parameters.set_device(device.clone());
    let mut steps = Steps::new(device);
    // A GPU takes steps while the host goes on, so several are timed together.
    let together = if device.cuda().is_some() { 50 } else { 1 };
    let mut step = measure(runs, || {
        for _ in 0..together {
            number += 1;
            let random = Random::new(number);
            let optimization = Optimization { schedule: &schedule, rate: 1e-4, lambda: 0.0, random };
            steps.take(&mut model, &mut [], &batch, &mut CrossEntropy { precision }, &optimization);
        }
        let finite = steps.outcomes(true).iter().all(|outcome| outcome.failure().is_none());
        assert!(finite, "a small rate keeps the loss finite");
    });
    step.median_ms /= f64::from(together);
    step.fastest_ms /= f64::from(together);
    Ok(StepReport {
        preset: preset.to_owned(),
        parameters: model.parameters.architecture().parameter_count(),
        batch_size,
        n_seq,
        device: device.to_string(),
        threads: rayon::current_num_threads(),
        head_products: precision.unit(device),
        tokens_per_second: (batch_size * n_seq) as f64 / (step.median_ms * 1e-3),
        step,
        peak_memory: peak_memory(),
        peak_device_memory: device.cuda().map(|cuda| cuda.held_bytes() as u64),
    })
}
