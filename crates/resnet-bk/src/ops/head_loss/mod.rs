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
use resnet_bk_runtime::embedding::TableLayout;
use resnet_bk_runtime::head::{Head, HeadBin, Rows};
use resnet_bk_runtime::kernels::{Matrix, Normalizer, Threads, Write, add_row, matmul};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
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

/// A head whose values do not change.
#[derive(Clone, Debug)]
pub struct FrozenHead {
    /// How its table is laid out.
    pub layout: TableLayout,
    /// The table.
    pub bank: Vec<f32>,
    /// `[V]`.
    pub bias: Vec<f32>,
}

impl FrozenHead {
    /// The head.
    pub fn view(&self) -> Head<'_> {
        Head::new(&self.layout, &self.bank, &self.bias)
    }
}

/// The teacher's side of a distillation loss.
#[derive(Clone, Debug)]
pub struct SoftTargets {
    /// Hidden states of the same tokens, `[n, D']`.
    pub hidden: Vec<f32>,
    /// The teacher's head.
    pub head: Arc<FrozenHead>,
    /// Temperature tau, above 0.
    pub temperature: f32,
    /// Weight of the soft loss, in `[0, 1]`.
    pub alpha: f32,
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
    layout: TableLayout,
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

/// Some words of a head: all in one bin.
#[derive(Clone, Copy)]
struct Side<'a> {
    /// Hidden states as the bin takes them, `[n, d]`.
    hidden: &'a [f32],
    rows: Rows<'a>,
}

/// The loss on some words, all in one bin of the student's table and in one of the teacher's. Words are counted from the first of
/// them.
#[derive(Clone, Copy)]
struct Problem<'a> {
    loss: &'a HeadLoss,
    /// The first word's id.
    first: usize,
    student: Side<'a>,
    teacher: Option<Side<'a>>,
}

impl Problem<'_> {
    fn words(&self) -> usize {
        self.student.rows.bias.len()
    }

    /// A token's target, if it is one of these words.
    fn target(&self, token: usize) -> Option<usize> {
        (self.loss.targets[token] as usize).checked_sub(self.first).filter(|&word| word < self.words())
    }
}

/// Both passes over a share of the vocabulary.
trait Tiles: Sync {
    /// First pass: every token's normalizers over some words.
    fn sums(&self, words: Range<usize>) -> Vec<TokenSums>;

    /// Second pass: the share's gradients; returns its part of the hidden states' gradient and of the divergence.
    fn gradients(&self, share: &mut Share, sums: &[TokenSums]) -> (Vec<f32>, f64);
}

/// A head's bins beside the hidden states that each takes.
struct Narrowed<'a> {
    bins: Vec<(HeadBin<'a>, Cow<'a, [f32]>)>,
}

impl<'a> Narrowed<'a> {
    fn new(head: &Head<'a>, hidden: &'a [f32]) -> Self {
        Self { bins: head.bins.iter().map(|bin| (*bin, bin.table.narrow(hidden))).collect() }
    }

    /// The part of these words, which lie in one bin.
    fn side(&self, words: &Range<usize>) -> (usize, Side<'_>) {
        let holds = |(bin, _): &(HeadBin, _)| bin.table.words().contains(&words.start);
        let index = self.bins.iter().position(holds).expect("a word of the table");
        let (bin, hidden) = &self.bins[index];
        let first = bin.table.first;
        (index, Side { hidden, rows: bin.rows.part(words.start - first..words.end - first) })
    }

    fn ends(&self) -> impl Iterator<Item = usize> {
        self.bins.iter().map(|(bin, _)| bin.table.words().end)
    }
}

/// A problem for each stretch of words that share both bins, and the student's bin.
fn problems<'a>(loss: &'a HeadLoss, student: &'a Narrowed, teacher: Option<&'a Narrowed>) -> Vec<(usize, Problem<'a>)> {
    let mut ends: Vec<usize> = student.ends().chain(teacher.into_iter().flat_map(Narrowed::ends)).collect();
    ends.sort_unstable();
    ends.dedup();
    let starts = std::iter::once(0).chain(ends.iter().copied());
    starts
        .zip(&ends)
        .map(|(first, &end)| {
            let (bin, side) = student.side(&(first..end));
            (bin, Problem { loss, first, student: side, teacher: teacher.map(|teacher| teacher.side(&(first..end)).1) })
        })
        .collect()
}

/// The mean loss and the gradients of hidden states `[n, D]`, the table's bank and the bias.
pub(crate) fn loss_and_gradients(loss: &HeadLoss, hidden: &[f32], head: &Head) -> (f32, [Vec<f32>; 3]) {
    let student = Narrowed::new(head, hidden);
    let teacher_head = loss.soft.as_ref().map(|soft| (soft.head.view(), &soft.hidden));
    let teacher = teacher_head.as_ref().map(|(head, hidden)| Narrowed::new(head, hidden));
    let problems = problems(loss, &student, teacher.as_ref());
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    if loss.precision == Precision::Bf16
        && let Some(amx) = crate::kernels::amx::Amx::detect()
    {
        let tiles = |problem| bf16::Bf16Tiles::new(amx, problem, bf16::Factors::Rounded);
        return run(loss, hidden, &student, &problems, tiles);
    }
    run(loss, hidden, &student, &problems, Float32Tiles)
}

fn run<'a, T: Tiles>(
    loss: &HeadLoss,
    hidden: &[f32],
    student: &Narrowed,
    problems: &[(usize, Problem<'a>)],
    tiles: impl Fn(Problem<'a>) -> T,
) -> (f32, [Vec<f32>; 3]) {
    let tokens = loss.targets.len();
    let tiles: Vec<T> = problems.iter().map(|(_, problem)| tiles(*problem)).collect();
    let sums = all_sums(tokens, problems, &tiles);
    let bank_length = student.bins.iter().map(|(bin, _)| bin.table.bank_len()).sum();
    let vocab_size = student.ends().last().unwrap_or(0);
    let (mut dbank, mut dbias) = (vec![0.0; bank_length], vec![0.0; vocab_size]);
    let mut dhidden = vec![0.0; hidden.len()];
    let mut divergence = 0.0;
    let (mut rest_bank, mut rest_bias) = (dbank.as_mut_slice(), dbias.as_mut_slice());
    for (index, (bin, narrow)) in student.bins.iter().enumerate() {
        let mut drows = rest_bank.split_off_mut(..bin.rows.table.len()).expect("the bank holds every bin");
        let mut dnarrow = vec![0.0; narrow.len()];
        for ((_, problem), tiles) in problems.iter().zip(&tiles).filter(|((bin, _), _)| *bin == index) {
            let words = problem.words();
            let dtable = drows.split_off_mut(..words * bin.table.width).expect("the bin holds its words");
            let dbias = rest_bias.split_off_mut(..words).expect("the bias holds every word");
            let mut shares = shares(words, dtable, dbias);
            let parts: Vec<(Vec<f32>, f64)> =
                shares.par_iter_mut().map(|share| tiles.gradients(share, &sums)).collect();
            for (part, part_divergence) in parts {
                add_row(&mut dnarrow, &part);
                divergence += part_divergence;
            }
        }
        match bin.table.projection {
            None => add_row(&mut dhidden, &dnarrow),
            Some(projection) => {
                let (width, d_model) = (bin.table.width, projection.len() / bin.table.width);
                let dprojection = rest_bank.split_off_mut(..projection.len()).expect("the bank holds every projection");
                let dnarrow = Matrix::new(&dnarrow, tokens, width);
                let hidden = Matrix::new(hidden, tokens, d_model);
                matmul(dprojection, Write::Overwrite, dnarrow.transposed(), hidden, Threads::All);
                let projection = Matrix::new(projection, width, d_model);
                matmul(&mut dhidden, Write::Accumulate, dnarrow, projection, Threads::All);
            }
        }
    }
    ((loss.total(&sums, divergence) / tokens as f64) as f32, [dhidden, dbank, dbias])
}

/// Shares of a problem's words, one a thread.
fn shares<'a>(words: usize, dtable: &'a mut [f32], dbias: &'a mut [f32]) -> Vec<Share<'a>> {
    let (per_thread, width) = (words_per_thread(words), dtable.len() / words);
    dtable
        .chunks_mut(per_thread * width)
        .zip(dbias.chunks_mut(per_thread))
        .enumerate()
        .map(|(thread, (dtable, dbias))| {
            let start = thread * per_thread;
            Share { words: start..start + dbias.len(), dtable, dbias }
        })
        .collect()
}

fn words_per_thread(words: usize) -> usize {
    words.div_ceil(rayon::current_num_threads()).next_multiple_of(WORD_BLOCK)
}

/// First pass over the whole vocabulary.
fn all_sums<T: Tiles>(tokens: usize, problems: &[(usize, Problem)], tiles: &[T]) -> Vec<TokenSums> {
    let mut sums = vec![TokenSums::EMPTY; tokens];
    for ((_, problem), tiles) in problems.iter().zip(tiles) {
        let (words, per_thread) = (problem.words(), words_per_thread(problem.words()));
        let starts: Vec<usize> = (0..words).step_by(per_thread).collect();
        let found: Vec<Vec<TokenSums>> =
            starts.par_iter().map(|&start| tiles.sums(start..words.min(start + per_thread))).collect();
        for part in &found {
            sums.iter_mut().zip(part).for_each(|(sum, part)| sum.merge(part));
        }
    }
    sums
}

/// `-ln p(target)` of every token, in nats, with the precision of float32.
///
/// # Shapes
/// - `hidden`: `[n, D]`
/// - `targets`: `[n]`
/// - returns `[n]`
pub fn negative_log_likelihoods(hidden: &[f32], targets: &[u32], head: &Head) -> Vec<f32> {
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    if let Some(amx) = crate::kernels::amx::Amx::detect() {
        let loss = HeadLoss { targets: targets.into(), soft: None, precision: Precision::Bf16 };
        let student = Narrowed::new(head, hidden);
        let problems = problems(&loss, &student, None);
        let pairs = bf16::Factors::Pairs;
        let tiles: Vec<_> = problems.iter().map(|(_, problem)| bf16::Bf16Tiles::new(amx, *problem, pairs)).collect();
        let sums = all_sums(targets.len(), &problems, &tiles);
        return sums.iter().map(|sum| sum.hard.ln() - sum.target).collect();
    }
    let width = hidden.len() / targets.len().max(1);
    let parts = hidden.par_chunks(TOKENS * width.max(1)).zip(targets.par_chunks(TOKENS));
    parts.flat_map_iter(|(hidden, targets)| head.negative_log_likelihoods(hidden, targets)).collect()
}

impl HostOp<3> for Op {
    fn forward(&mut self, [hidden, bank, bias]: [&[f32]; 3]) -> Vec<f32> {
        let (loss, gradients) = loss_and_gradients(&self.loss, hidden, &Head::new(&self.layout, bank, bias));
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
/// - `bank`: a table of `layout`
/// - `bias`: `[V]`
/// - returns `[1]`
pub fn head_loss(
    loss: HeadLoss,
    layout: &TableLayout,
    hidden: &Tensor<2>,
    bank: &Tensor<1>,
    bias: &Tensor<1>,
) -> Tensor<1> {
    let op = Op { loss, layout: layout.clone(), gradients: Mutex::new(None) };
    op.apply([hidden.into(), bank.into(), bias.into()], [1])
}

#[cfg(test)]
mod tests;
