//! Benchmarks of the kernels that dominate a training step, compared with the machine's limits.

use super::{Timing, measure};
use crate::device::Device;
use crate::kernels::{LeftBackward, left_backward};
use crate::numerics::Precision;
use crate::ops::{FrozenHead, HeadLoss, SoftTargets, causal, loss_and_gradients};
use crate::random::Random;
use rayon::prelude::*;
use resnet_bk_runtime::internal::embedding::TableLayout;
use resnet_bk_runtime::internal::head::Head;
use resnet_bk_runtime::internal::kernels::lanes::Strips;
use resnet_bk_runtime::internal::kernels::{Matrix, Threads, Write, left_ratios, matmul};
use resnet_bk_runtime::internal::resolvent::Chain;
use serde::Serialize;
use std::sync::Arc;

/// Tokens, width and vocabulary of the seed model's head.
const HEAD: (usize, usize, usize) = (2_560, 64, 30_000);
/// Width of the student in the distillation case.
const STUDENT: usize = 32;
/// Rows of the square matrix product that measures the float32 rate.
const SQUARE: usize = 2_048;
/// Bytes of the copy that measures the memory bandwidth: far more than the caches hold.
const COPY: usize = 1 << 28;
/// Float32 numbers read and written per element of the resolvent. Forward reads v and writes Re g
/// and Im g; backward reads g and its gradient and writes the gradient of v.
const RESOLVENT_TRAFFIC: usize = 3 + 5;

/// Times of the kernels.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct KernelReport {
    /// Number of threads.
    pub threads: usize,
    /// Rate of a large float32 product, in GFLOP/s.
    pub sgemm_gflops: f64,
    /// The head's losses.
    pub head: Vec<HeadCase>,
    /// The resolvent.
    pub resolvent: Vec<ResolventCase>,
}

/// Forward and backward of one of the head's losses.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HeadCase {
    /// `cross_entropy` or `distillation`.
    pub loss: &'static str,
    /// Number format of the products, and the unit that computes them.
    pub head_products: &'static str,
    /// Tokens.
    pub tokens: usize,
    /// Width.
    pub width: usize,
    /// Words of the vocabulary.
    pub words: usize,
    /// Time of its products at the rate of the large float32 product, in milliseconds. Logits are
    /// counted once.
    pub float32_floor_ms: f64,
    /// Measured time.
    pub time: Timing,
    /// Median over `float32_floor_ms`.
    pub over_floor: f64,
}

/// Forward and backward of the causal resolvent, into reused buffers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ResolventCase {
    /// Sequences.
    pub batch: usize,
    /// Resolvent heads.
    pub heads: usize,
    /// Tokens in a sequence.
    pub length: usize,
    /// Whether few long sequences are split into stretches.
    pub stretches: Stretches,
    /// Measured time.
    pub time: Timing,
    /// Median time per element.
    pub ns_per_element: f64,
    /// Bytes read and written per second by a large copy, in GB/s: the mean of one copy before and
    /// one after.
    pub copy_gbps: f64,
    /// Bytes moved per second, over those of the copy.
    pub share_of_copy: f64,
}

/// Whether few long sequences are split into stretches that run in parallel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Stretches {
    /// Where this uses more lanes.
    Allowed,
    /// Never, and on one thread: the plain recurrence.
    Never,
}

/// Times the kernels.
pub fn bench_kernels(runs: usize) -> KernelReport {
    let sgemm_gflops = sgemm_gflops(runs);
    let mut head = Vec::new();
    for precision in [Precision::Bf16, Precision::Float32] {
        head.push(head_case(false, precision, sgemm_gflops, runs));
        head.push(head_case(true, precision, sgemm_gflops, runs));
    }
    let together = [(20, 1, 128), (32, 1, 1_024), (64, 1, 16_384), (1, 64, 16_384), (20, 64, 1_024), (1_024, 1, 1_024)];
    let alone = [1_000, 10_000, 100_000, 1_000_000].map(|length| (1, 1, length));
    let allowed = together.into_iter().chain(alone).map(|shape| (shape, Stretches::Allowed));
    let mut copy = LargeCopy::new();
    let resolvent = allowed
        .chain(alone.map(|shape| (shape, Stretches::Never)))
        .map(|(shape, stretches)| resolvent_case(shape, stretches, &mut copy, runs))
        .collect();
    KernelReport { threads: rayon::current_num_threads(), sgemm_gflops, head, resolvent }
}

fn normal(n: usize, salt: u64, scale: f32) -> Vec<f32> {
    let mut random = Random::new(salt);
    (0..n).map(|_| scale * random.normal()).collect()
}

fn sgemm_gflops(runs: usize) -> f64 {
    let (a, b) = (normal(SQUARE * SQUARE, 1, 1.0), normal(SQUARE * SQUARE, 2, 1.0));
    let mut out = vec![0.0; SQUARE * SQUARE];
    let [a, b] = [&a, &b].map(|x| Matrix::new(x, SQUARE, SQUARE));
    let time = measure(runs, || matmul(&mut out, Write::Overwrite, a, b, Threads::All));
    2.0 * (SQUARE as f64).powi(3) / (time.median_ms * 1e6)
}

/// A large copy in memory.
struct LargeCopy {
    from: Vec<f32>,
    to: Vec<f32>,
}

impl LargeCopy {
    fn new() -> Self {
        Self { from: vec![1.0; COPY / 4], to: vec![0.0; COPY / 4] }
    }

    /// Bytes read and written, in GB/s.
    fn gbps(&mut self, runs: usize) -> f64 {
        let chunk = self.from.len() / rayon::current_num_threads() / 4;
        let time = measure(runs, || {
            let parts = self.to.par_chunks_mut(chunk).zip(self.from.par_chunks(chunk));
            parts.for_each(|(to, from)| to.copy_from_slice(from));
        });
        2.0 * COPY as f64 / (time.median_ms * 1e6)
    }
}

fn head_case(soft: bool, precision: Precision, sgemm_gflops: f64, runs: usize) -> HeadCase {
    let (tokens, teacher_width, words) = HEAD;
    let width = if soft { STUDENT } else { teacher_width };
    let hidden = normal(tokens * width, 1, 1.0);
    let (table, bias) = (normal(words * width, 2, 0.3), normal(words, 3, 1.0));
    let mut random = Random::new(4);
    let loss = HeadLoss {
        targets: (0..tokens).map(|_| random.below(words as u64) as u32).collect::<Vec<u32>>().into(),
        soft: soft.then(|| SoftTargets {
            hidden: normal(tokens * teacher_width, 5, 1.0).into(),
            head: Arc::new(FrozenHead {
                layout: TableLayout::full(words, teacher_width),
                table: normal(words * teacher_width, 6, 0.3).into(),
                bias: normal(words, 7, 1.0).into(),
            }),
            temperature: 2.0,
            alpha: 0.7,
        }),
        precision,
    };
    let layout = TableLayout::full(words, width);
    let time = measure(runs, || {
        std::hint::black_box(loss_and_gradients(&loss, &hidden, &Head::new(&layout, &table, &bias)));
    });
    // Logits, and gradients of hidden states and table; also the teacher's logits.
    let widths = 3 * width + if soft { teacher_width } else { 0 };
    let float32_floor_ms = 2.0 * (tokens * words * widths) as f64 / (sgemm_gflops * 1e6);
    HeadCase {
        loss: if soft { "distillation" } else { "cross_entropy" },
        head_products: precision.unit(&Device::Cpu),
        tokens,
        width,
        words,
        float32_floor_ms,
        over_floor: time.median_ms / float32_floor_ms,
        time,
    }
}

fn resolvent_case(
    (batch, heads, length): (usize, usize, usize),
    stretches: Stretches,
    copy: &mut LargeCopy,
    runs: usize,
) -> ResolventCase {
    let elements = batch * heads * length;
    let potential = normal(elements, 1, 1.0);
    let gradient = normal(2 * elements, 2, 1.0);
    let (diagonal, hopping, eta) = (vec![-2.0; heads], vec![1.0; heads], vec![1.0; heads]);
    let chain = Chain { diagonal: &diagonal, hopping: &hopping, eta: &eta };
    let (mut features, mut dv) = (vec![0.0; 2 * elements], vec![0.0; elements]);
    // Repeat short runs, so that they are long enough for the clock.
    let repeats = (1 << 18) / elements + 1;
    let copy_before = copy.gbps(runs.div_ceil(4));
    let states = vec![0.0; 2 * batch * heads];
    let mut time = measure(runs, || {
        for _ in 0..repeats {
            if stretches == Stretches::Allowed {
                causal::forward(chain, length, &potential, &states, &mut features);
                std::hint::black_box(causal::backward(&hopping, length, &features, &gradient, &mut dv));
            } else {
                let strips = Strips { length, heads };
                left_ratios(&potential, strips, chain, &states, &mut features);
                let input = LeftBackward { strips, hopping: &hopping, ratios: &features, gradient: &gradient };
                std::hint::black_box(left_backward(input, &mut vec![(0.0, 0.0); batch * heads], &mut dv));
            }
        }
    });
    time.median_ms /= repeats as f64;
    time.fastest_ms /= repeats as f64;
    let copy_gbps = (copy_before + copy.gbps(runs.div_ceil(4))) / 2.0;
    let bytes = (4 * RESOLVENT_TRAFFIC * elements) as f64;
    ResolventCase {
        batch,
        heads,
        length,
        stretches,
        ns_per_element: time.median_ms * 1e6 / elements as f64,
        copy_gbps,
        share_of_copy: bytes / (time.median_ms * 1e6) / copy_gbps,
        time,
    }
}
