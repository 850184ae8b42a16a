//! The training step of the seed model.

use super::{Timing, measure, peak_memory};
use crate::batch::Batch;
use crate::checkpoint::ModelState;
use crate::compress::CrossEntropy;
use crate::config::{ConfigError, ModelConfig, Schedule};
use crate::numerics::Precision;
use crate::random::Random;
use crate::train::{Optimization, optimization_step};
use resnet_bk_runtime::internal::tokenizer::{END_OF_LINE, Pretokenizer, UNKNOWN, Vocabulary};
use serde::Serialize;
use std::sync::Arc;

/// What a step takes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StepReport {
    /// Preset of the model.
    pub preset: String,
    /// Its parameters.
    pub parameters: usize,
    /// Windows in the batch.
    pub batch_size: usize,
    /// Tokens in a window.
    pub n_seq: usize,
    /// Threads.
    pub threads: usize,
    /// Number format of the head's products, and what multiplies them.
    pub head_products: &'static str,
    /// Forward, backward, clipping and optimizer.
    pub step: Timing,
    /// Tokens trained on in a second, by the median.
    pub tokens_per_second: f64,
    /// Largest resident set of the process, in bytes, where the system tells.
    pub peak_memory: Option<u64>,
}

/// Times whole training steps of a preset, on random tokens.
///
/// # Errors
/// If there is no such preset.
pub fn bench_step(preset: &str, precision: Precision, runs: usize) -> Result<StepReport, ConfigError> {
    let config = ModelConfig::preset(preset)?;
    let schedule = Schedule { precision, ..Schedule::default() };
    let (batch_size, n_seq, vocab_size) = (schedule.batch_size, config.n_seq, config.vocab_size);
    let mut random = Random::new(1);
    let mut tokens = || (0..batch_size * n_seq).map(|_| random.below(vocab_size as u64) as u32).collect();
    let batch = Batch { inputs: tokens(), targets: tokens(), batch_size, n_seq };
    let special = [UNKNOWN, END_OF_LINE].map(str::to_owned);
    let words = special.into_iter().chain((2..vocab_size).map(|word| word.to_string())).collect();
    let vocabulary = Vocabulary::new(words, Pretokenizer::Whitespace).expect("the words differ");
    let mut model = ModelState::initialise(config, Arc::new(vocabulary), 1);
    let mut number = 0;
    let step = measure(runs, || {
        number += 1;
        let optimization = Optimization { schedule: &schedule, rate: 1e-4, lambda: 0.0, random: Random::new(number) };
        optimization_step(&mut model, &mut [], &batch, &mut CrossEntropy { precision }, &optimization)
            .expect("a small rate keeps the loss finite");
    });
    Ok(StepReport {
        preset: preset.to_owned(),
        parameters: model.parameters.architecture().parameter_count(),
        batch_size,
        n_seq,
        threads: rayon::current_num_threads(),
        head_products: precision.unit(),
        tokens_per_second: (batch_size * n_seq) as f64 / (step.median_ms * 1e-3),
        step,
        peak_memory: peak_memory(),
    })
}
