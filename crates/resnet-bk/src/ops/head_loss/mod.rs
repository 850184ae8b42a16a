//! The head's linear map and its loss in one operation: the logits of all tokens never exist at once.
//!
//! A tile of words and tokens at a time, twice: a first pass over the vocabulary finds each token's normalizer, a second one makes the
//! logits again and turns them into gradients. Making them twice costs a third more arithmetic than keeping them, but they
//! never leave the cache.
//!
//! ```text
//! hard   L = ln sum e^{l} - l_y                              dL/dl = softmax(l) - onehot(y)
//! soft   L = tau^2 KL(softmax(l'/tau) || softmax(l/tau))     dL/dl = tau (softmax(l/tau) - softmax(l'/tau))
//! mixed  L = alpha soft + (1 - alpha) hard                   dx = dl W    dW = dl^T x    db = sum dl
//! ```
//!
//! where `l'` are the teacher's logits, made from its hidden states tile by tile (Hinton, Vinyals, Dean, arXiv 1503.02531).
//!
//! Every thread has its own words, and so its own rows of `dW`; the normalizers and `dx` are merged after each pass. The
//! tiles are multiplied in bf16 where the processor has a tile unit and the stage lets it, else in float32.

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod bf16;
mod float32;

use super::HostOp;
use burn_tensor::Tensor;
use float32::{Float32Tiles, TOKENS};
use rayon::prelude::*;
use resnet_bk_runtime::head::Head;
use resnet_bk_runtime::kernels::{Normalizer, add_row};
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::sync::{Arc, Mutex};

/// Words of a thread's share are a multiple of this.
const WORD_BLOCK: usize = 32;

/// Number format of the factors in the head's matrix products during training. Sums are float32 in both; evaluation is
/// float32 always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// bf16 where the processor multiplies it in hardware (AMX on Linux), float32 elsewhere.
    #[default]
    Bf16,
    /// float32 everywhere.
    Float32,
}

impl Precision {
    /// What multiplies the head's matrices on this machine.
    pub fn unit(self) -> &'static str {
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        if self == Self::Bf16 && crate::kernels::amx::Amx::detect().is_some() {
            return "bf16 (AMX)";
        }
        "float32"
    }
}

/// The teacher's side of a distillation loss.
#[derive(Clone, Debug)]
pub struct SoftTargets {
    /// Hidden states of the same tokens, `[n, D']`.
    pub hidden: Vec<f32>,
    /// The teacher's head table, `[V, D']`.
    pub table: Arc<Vec<f32>>,
    /// The teacher's head bias, `[V]`.
    pub bias: Arc<Vec<f32>>,
    /// Temperature tau, above 0.
    pub temperature: f32,
    /// Weight of the soft loss, in `[0, 1]`.
    pub alpha: f32,
}

impl SoftTargets {
    fn head(&self) -> Head<'_> {
        Head { table: &self.table, bias: &self.bias }
    }
}

/// What the loss compares the logits with.
#[derive(Clone, Debug)]
pub struct HeadLoss {
    /// The next words, `[n]`.
    pub targets: Arc<[u32]>,
    /// A teacher to learn from as well.
    pub soft: Option<SoftTargets>,
    /// Number format of the products.
    pub precision: Precision,
}

#[derive(Debug)]
struct Op {
    loss: HeadLoss,
    /// Made by the forward pass, taken by the backward pass.
    gradients: Mutex<Option<[Vec<f32>; 3]>>,
}

/// One token's normalizers: what the first pass over the vocabulary finds.
#[derive(Clone, Copy, Debug)]
struct TokenSums {
    hard: Normalizer,
    student: Normalizer,
    teacher: Normalizer,
    /// The target's logit; 0 until its tile comes.
    target: f32,
}

impl TokenSums {
    const EMPTY: Self =
        Self { hard: Normalizer::EMPTY, student: Normalizer::EMPTY, teacher: Normalizer::EMPTY, target: 0.0 };

    fn merge(&mut self, other: &Self) {
        self.hard.merge(other.hard);
        self.student.merge(other.student);
        self.teacher.merge(other.teacher);
        self.target += other.target;
    }
}

/// A thread's share of the vocabulary, with the gradients that only it writes.
struct Share<'a> {
    words: Range<usize>,
    /// `[words, D]`.
    dtable: &'a mut [f32],
    /// `[words]`.
    dbias: &'a mut [f32],
}

/// The loss and where its logits come from.
#[derive(Clone, Copy)]
struct Problem<'a> {
    loss: &'a HeadLoss,
    /// `[n, D]`.
    hidden: &'a [f32],
    head: Head<'a>,
}

/// Both passes over a share of the vocabulary.
trait Tiles: Sync {
    /// First pass: every token's normalizers over some words.
    fn sums(&self, words: Range<usize>) -> Vec<TokenSums>;

    /// Second pass: the share's gradients; returns its part of the hidden states' gradient and of the divergence.
    fn gradients(&self, share: &mut Share, sums: &[TokenSums]) -> (Vec<f32>, f64);
}

/// The mean loss and the gradients of hidden states `[n, D]`, table and bias.
pub(crate) fn loss_and_gradients(loss: &HeadLoss, hidden: &[f32], head: Head) -> (f32, [Vec<f32>; 3]) {
    let problem = Problem { loss, hidden, head };
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    if loss.precision == Precision::Bf16
        && let Some(amx) = crate::kernels::amx::Amx::detect()
    {
        return run(problem, &bf16::Bf16Tiles::new(amx, problem, bf16::Factors::Rounded));
    }
    run(problem, &Float32Tiles(problem))
}

fn run(problem: Problem, tiles: &impl Tiles) -> (f32, [Vec<f32>; 3]) {
    let Problem { loss, hidden, head } = problem;
    let (tokens, vocab_size, width) = (loss.targets.len(), head.bias.len(), head.width());
    let per_thread = words_per_thread(vocab_size);
    let (mut dtable, mut dbias) = (vec![0.0; head.table.len()], vec![0.0; vocab_size]);
    let mut shares: Vec<Share> = dtable
        .chunks_mut(per_thread * width)
        .zip(dbias.chunks_mut(per_thread))
        .enumerate()
        .map(|(thread, (dtable, dbias))| {
            let start = thread * per_thread;
            Share { words: start..start + dbias.len(), dtable, dbias }
        })
        .collect();
    let sums = all_sums(problem, tiles);
    let parts: Vec<(Vec<f32>, f64)> = shares.par_iter_mut().map(|share| tiles.gradients(share, &sums)).collect();
    let mut dhidden = vec![0.0; hidden.len()];
    let mut divergence = 0.0;
    for (part, part_divergence) in parts {
        add_row(&mut dhidden, &part);
        divergence += part_divergence;
    }
    ((loss.total(&sums, divergence) / tokens as f64) as f32, [dhidden, dtable, dbias])
}

fn words_per_thread(vocab_size: usize) -> usize {
    vocab_size.div_ceil(rayon::current_num_threads()).next_multiple_of(WORD_BLOCK)
}

/// First pass over the whole vocabulary.
fn all_sums(problem: Problem, tiles: &impl Tiles) -> Vec<TokenSums> {
    let vocab_size = problem.head.bias.len();
    let per_thread = words_per_thread(vocab_size);
    let shares: Vec<usize> = (0..vocab_size).step_by(per_thread).collect();
    let found: Vec<Vec<TokenSums>> =
        shares.par_iter().map(|&start| tiles.sums(start..vocab_size.min(start + per_thread))).collect();
    let mut sums = vec![TokenSums::EMPTY; problem.loss.targets.len()];
    for part in &found {
        sums.iter_mut().zip(part).for_each(|(sum, part)| sum.merge(part));
    }
    sums
}

/// `-ln p(target)` of every token, in nats, with the precision of float32.
///
/// # Shapes
/// - `hidden`: `[n, D]`
/// - `targets`: `[n]`
/// - returns `[n]`
pub fn negative_log_likelihoods(hidden: &[f32], targets: &[u32], head: Head) -> Vec<f32> {
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    if let Some(amx) = crate::kernels::amx::Amx::detect() {
        let loss = HeadLoss { targets: targets.into(), soft: None, precision: Precision::Bf16 };
        let problem = Problem { loss: &loss, hidden, head };
        let sums = all_sums(problem, &bf16::Bf16Tiles::new(amx, problem, bf16::Factors::Pairs));
        return sums.iter().map(|sum| sum.hard.ln() - sum.target).collect();
    }
    let width = head.width();
    let parts = hidden.par_chunks(TOKENS * width).zip(targets.par_chunks(TOKENS));
    parts.flat_map_iter(|(hidden, targets)| head.negative_log_likelihoods(hidden, targets)).collect()
}

impl HostOp<3> for Op {
    fn forward(&mut self, [hidden, table, bias]: [&[f32]; 3]) -> Vec<f32> {
        let (loss, gradients) = loss_and_gradients(&self.loss, hidden, Head { table, bias });
        self.gradients = Mutex::new(Some(gradients));
        vec![loss]
    }

    fn backward(&self, _: [&[f32]; 3], _: &[f32], gradient: &[f32], _: [bool; 3]) -> [Vec<f32>; 3] {
        let taken = self.gradients.lock().expect("no thread panics while it holds the gradients").take();
        let mut gradients = taken.expect("one backward pass follows the forward pass");
        if gradient[0] != 1.0 {
            for x in gradients.iter_mut().flatten() {
                *x *= gradient[0];
            }
        }
        gradients
    }
}

impl HeadLoss {
    /// Sum of the losses of all tokens.
    fn total(&self, sums: &[TokenSums], divergence: f64) -> f64 {
        let hard: f64 = sums.iter().map(|sum| f64::from(sum.hard.ln() - sum.target)).sum();
        match &self.soft {
            None => hard,
            Some(soft) => {
                let tau = f64::from(soft.temperature);
                f64::from(soft.alpha) * tau * tau * divergence + f64::from(1.0 - soft.alpha) * hard
            }
        }
    }

    /// Weights of the soft and the hard part in a logit's gradient.
    fn weights(&self) -> (f32, f32) {
        self.soft.as_ref().map_or((0.0, 1.0), |soft| (soft.alpha * soft.temperature, 1.0 - soft.alpha))
    }
}

/// Mean loss of the head over all tokens, in nats.
///
/// # Shapes
/// - `hidden`: `[n, D]`
/// - `table`: `[V, D]`
/// - `bias`: `[V]`
/// - returns `[1]`
pub fn head_loss(loss: HeadLoss, hidden: &Tensor<2>, table: &Tensor<2>, bias: &Tensor<1>) -> Tensor<1> {
    Op { loss, gradients: Mutex::new(None) }.apply([hidden.into(), table.into(), bias.into()], [1])
}

#[cfg(test)]
mod tests;
