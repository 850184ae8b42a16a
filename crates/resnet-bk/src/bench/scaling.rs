//! Time and memory of a block against the length of the sequence.
//!
//! One block of width 256 with a feed-forward part of 512, forward and backward, with as many
//! windows of `T` tokens as give at least 16,384 tokens. Memory is the peak above what is there
//! before the pass: weights, tokens and what the process holds otherwise.

use super::{Timing, measure, peak_memory};
use crate::Allocator;
use crate::config::ModelConfig;
use crate::device::{Device, DeviceError, catch};
use crate::model::{LanguageModel, Leaves, Mode};
use crate::numerics::{Gradient, Precision};
use crate::parameters::Parameters;
use crate::random::Random;
use crate::token_ids::TokenIds;
use resnet_bk_runtime::internal::architecture::Mixer;
use serde::Serialize;

/// Lengths of the sequence.
pub const LENGTHS: [usize; 6] = [128, 512, 2_048, 8_192, 32_768, 131_072];
/// Tokens of a pass, unless the sequence is longer.
const TOKENS: usize = 16_384;
/// Words of the vocabulary. Their rows are looked up; there is no head.
const WORDS: usize = 4_096;

/// One measurement.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ScalingCase {
    /// The mixer.
    pub mixer: Mixer,
    /// The device.
    pub device: String,
    /// Tokens in a sequence.
    pub length: usize,
    /// Sequences.
    pub batch: usize,
    /// Time of a pass.
    pub time: Timing,
    /// Median time, forward and backward, over the tokens.
    pub ns_per_token: f64,
    /// Peak of the memory that a pass takes, over the tokens. `None` if the system does not report
    /// it.
    pub bytes_per_token: Option<f64>,
}

/// Measures a mixer for the given lengths.
///
/// # Errors
/// [`DeviceError`] if the device fails.
pub fn bench_scaling(
    mixer: Mixer,
    lengths: &[usize],
    device: &Device,
    runs: usize,
) -> Result<Vec<ScalingCase>, DeviceError> {
    lengths.iter().map(|&length| catch(|| case(mixer, length, device, runs))).collect()
}

fn case(mixer: Mixer, length: usize, device: &Device, runs: usize) -> ScalingCase {
    let preset = if mixer == Mixer::Propagator { "memory" } else { "seed" };
    let config = ModelConfig {
        vocab_size: WORDS,
        d_model: 256,
        n_layers: 1,
        n_seq: length,
        num_experts: 1,
        top_k: 1,
        d_ff: 512,
        heads: 384,
        positions: false,
        ..ModelConfig::preset(preset).expect("a preset")
    };
    let mut parameters = Parameters::initialize(config.architecture(), 1);
    parameters.set_device(device.clone());
    let batch = TOKENS.div_ceil(length);
    let mut random = Random::new(1);
    let tokens: Vec<u32> = (0..batch * length).map(|_| random.below(WORDS as u64) as u32).collect();
    let tokens = TokenIds::from(tokens);
    let pass = || {
        let leaves = Leaves::tracked(&parameters);
        let model = LanguageModel::bind(parameters.architecture(), Gradient::Exact, &leaves);
        model.forward(&tokens, length, &mut Mode::Evaluate).hidden.backward()
    };
    if let Some(cuda) = device.cuda() {
        cuda.set_gradient_precision(Precision::Bf16);
    }
    drop(pass());
    let bytes = memory_of(device, || drop(pass()));
    let time = match device.cuda() {
        None => measure(runs, || drop(pass())),
        Some(cuda) => {
            let graph = cuda.record(|| drop(pass()));
            measure(runs, || {
                graph.launch();
                cuda.synchronize();
            })
        }
    };
    let count = (batch * length) as f64;
    ScalingCase {
        mixer,
        device: device.cuda().map_or_else(|| device.to_string(), |cuda| cuda.name().to_owned()),
        length,
        batch,
        ns_per_token: time.median_ms * 1e6 / count,
        bytes_per_token: bytes.map(|bytes| bytes as f64 / count),
        time,
    }
}

/// Peak of the memory that `body` takes, above what is held before it.
fn memory_of(device: &Device, body: impl FnOnce()) -> Option<u64> {
    if let Some(cuda) = device.cuda() {
        cuda.trim();
        let before = cuda.held_bytes();
        body();
        return Some((cuda.peak_bytes() - before) as u64);
    }
    Allocator.return_freed_memory();
    // Linux counts the peak anew after this.
    std::fs::write("/proc/self/clear_refs", "5").ok()?;
    let before = peak_memory()?;
    body();
    Some(peak_memory()?.saturating_sub(before))
}
