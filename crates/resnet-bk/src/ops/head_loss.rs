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

use super::HostOp;
use burn_tensor::Tensor;
use rayon::prelude::*;
use resnet_bk_runtime::head::{Head, WORDS};
use resnet_bk_runtime::kernels::{
    Matrix, MixedRow, Normalizer, Threads, Write, add_row, matmul, mixed_gradient, softmax_gradient,
};
use std::ops::Range;
use std::sync::{Arc, Mutex};

/// Tokens of a tile: with [`WORDS`] words its logits (512 kB) stay in a core's cache between being made and being used.
const TOKENS: usize = 256;

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

/// What the loss compares the logits with.
#[derive(Clone, Debug)]
pub struct HeadLoss {
    /// The next words, `[n]`.
    pub targets: Arc<[u32]>,
    /// A teacher to learn from as well.
    pub soft: Option<SoftTargets>,
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
    /// First word.
    start: usize,
    /// `[words, D]`.
    dtable: &'a mut [f32],
    /// `[words]`.
    dbias: &'a mut [f32],
}

/// Makes tiles of logits.
struct Tiles<'a> {
    loss: &'a HeadLoss,
    hidden: &'a [f32],
    head: Head<'a>,
    width: usize,
}

impl HostOp<3> for Op {
    fn forward(&mut self, [hidden, table, bias]: [&[f32]; 3]) -> Vec<f32> {
        let (tokens, words) = (self.loss.targets.len(), bias.len());
        let width = table.len() / words;
        let tiles = Tiles { loss: &self.loss, hidden, head: Head { table, bias }, width };
        let per_thread = words.div_ceil(rayon::current_num_threads()).next_multiple_of(WORDS);
        let (mut dtable, mut dbias) = (vec![0.0; table.len()], vec![0.0; words]);
        let mut shares: Vec<Share> = dtable
            .chunks_mut(per_thread * width)
            .zip(dbias.chunks_mut(per_thread))
            .enumerate()
            .map(|(thread, (dtable, dbias))| Share { start: thread * per_thread, dtable, dbias })
            .collect();
        let found: Vec<Vec<TokenSums>> = shares.par_iter().map(|share| tiles.sums(share)).collect();
        let mut sums = vec![TokenSums::EMPTY; tokens];
        for part in &found {
            sums.iter_mut().zip(part).for_each(|(sum, part)| sum.merge(part));
        }
        let parts: Vec<(Vec<f32>, f64)> = shares.par_iter_mut().map(|share| tiles.gradients(share, &sums)).collect();
        let mut dhidden = vec![0.0; hidden.len()];
        let mut divergence = 0.0;
        for (part, part_divergence) in parts {
            add_row(&mut dhidden, &part);
            divergence += part_divergence;
        }
        self.gradients = Mutex::new(Some([dhidden, dtable, dbias]));
        vec![(self.loss.total(&sums, divergence) / tokens as f64) as f32]
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
}

impl Tiles<'_> {
    /// Calls `visit(tile of tokens, words, logits, teacher's logits)` for the tiles of the words from `start` on.
    fn for_each(
        &self,
        start: usize,
        end: usize,
        mut visit: impl FnMut(Range<usize>, Range<usize>, &mut [f32], &[f32]),
    ) {
        let tokens = self.loss.targets.len();
        let mut logits = vec![0.0; TOKENS * WORDS];
        let mut teacher = vec![0.0; if self.loss.soft.is_some() { TOKENS * WORDS } else { 0 }];
        for first_word in (start..end).step_by(WORDS) {
            let words = first_word..end.min(first_word + WORDS);
            for first_token in (0..tokens).step_by(TOKENS) {
                let rows = first_token..tokens.min(first_token + TOKENS);
                let size = rows.len() * words.len();
                let elements = |width: usize| rows.start * width..rows.end * width;
                self.head.logits_of(words.clone(), &self.hidden[elements(self.width)], &mut logits[..size]);
                if let Some(soft) = &self.loss.soft {
                    let head = Head { table: &soft.table, bias: &soft.bias };
                    let hidden = &soft.hidden[elements(head.width())];
                    head.logits_of(words.clone(), hidden, &mut teacher[..size]);
                }
                let seen = if self.loss.soft.is_some() { &teacher[..size] } else { &[] };
                visit(rows, words.clone(), &mut logits[..size], seen);
            }
        }
    }

    /// First pass: every token's normalizers over the share's words.
    fn sums(&self, share: &Share) -> Vec<TokenSums> {
        let mut sums = vec![TokenSums::EMPTY; self.loss.targets.len()];
        self.for_each(share.start, share.start + share.dbias.len(), |rows, words, logits, teacher| {
            for (index, (token, row)) in rows.zip(logits.chunks(words.len())).enumerate() {
                let sum = &mut sums[token];
                sum.hard.extend(row, 1.0);
                if let Some(soft) = &self.loss.soft {
                    sum.student.extend(row, 1.0 / soft.temperature);
                    sum.teacher.extend(&teacher[index * words.len()..][..words.len()], 1.0 / soft.temperature);
                }
                let target = self.loss.targets[token] as usize;
                if words.contains(&target) {
                    sum.target = row[target - words.start];
                }
            }
        });
        sums
    }

    /// Second pass: the share's gradients; returns its part of the hidden states' gradient and of the divergence.
    fn gradients(&self, share: &mut Share, sums: &[TokenSums]) -> (Vec<f32>, f64) {
        let (width, start) = (self.width, share.start);
        let mut dhidden = vec![0.0; self.hidden.len()];
        let mut divergence = 0.0;
        let scale = 1.0 / sums.len() as f32;
        self.for_each(start, start + share.dbias.len(), |rows, words, logits, teacher| {
            let count = words.len();
            let dbias = &mut share.dbias[words.start - start..words.end - start];
            for (index, (token, row)) in rows.clone().zip(logits.chunks_mut(count)).enumerate() {
                let sum = &sums[token];
                let hard_weight = match &self.loss.soft {
                    None => {
                        softmax_gradient(row, sum.hard.ln(), scale);
                        scale
                    }
                    Some(soft) => {
                        let mixed = soft.row(sum, scale);
                        divergence += f64::from(mixed_gradient(row, &teacher[index * count..][..count], mixed));
                        mixed.hard_weight
                    }
                };
                let target = self.loss.targets[token] as usize;
                if words.contains(&target) {
                    row[target - words.start] -= hard_weight;
                }
                add_row(dbias, row);
            }
            let dlogits = Matrix::new(logits, rows.len(), count);
            let table = Matrix::new(&self.head.table[words.start * width..words.end * width], count, width);
            let hidden = &self.hidden[rows.start * width..rows.end * width];
            matmul(&mut dhidden[rows.start * width..rows.end * width], Write::Accumulate, dlogits, table, Threads::One);
            let dtable = &mut share.dtable[(words.start - start) * width..(words.end - start) * width];
            let hidden = Matrix::new(hidden, rows.len(), width);
            matmul(dtable, Write::Accumulate, dlogits.transposed(), hidden, Threads::One);
        });
        (dhidden, divergence)
    }
}

impl SoftTargets {
    fn row(&self, sum: &TokenSums, scale: f32) -> MixedRow {
        MixedRow {
            inverse_temperature: 1.0 / self.temperature,
            hard: sum.hard.ln(),
            student: sum.student.ln(),
            teacher: sum.teacher.ln(),
            soft_weight: self.alpha * self.temperature * scale,
            hard_weight: (1.0 - self.alpha) * scale,
        }
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
mod tests {
    use super::*;
    use crate::ops::testing::{check_gradients, values};

    fn op(tokens: usize, words: usize, soft: Option<SoftTargets>) -> Op {
        let targets = (0..tokens).map(|t| (t * 7 % words) as u32).collect();
        Op { loss: HeadLoss { targets, soft }, gradients: Mutex::new(None) }
    }

    fn teacher(tokens: usize, words: usize, alpha: f32) -> SoftTargets {
        SoftTargets {
            hidden: values(3 * tokens, 4),
            table: Arc::new(values(3 * words, 5)),
            bias: Arc::new(values(words, 6)),
            temperature: 2.0,
            alpha,
        }
    }

    #[test]
    fn gradients_match_finite_differences() {
        // Few words: the loss's own rounding would drown the differences of many.
        let words = 11;
        for tokens in [1, 5] {
            let (x, w, b) = (values(4 * tokens, 1), values(4 * words, 2), values(words, 3));
            check_gradients([&x, &w, &b], || op(tokens, words, None), 3e-3);
            for alpha in [0.0, 0.7, 1.0] {
                check_gradients([&x, &w, &b], || op(tokens, words, Some(teacher(tokens, words, alpha))), 3e-3);
            }
        }
    }

    /// Loss and gradients in double precision, with all logits at hand.
    fn plain(op: &Op, x: &[f32], w: &[f32], b: &[f32]) -> (f64, [Vec<f64>; 3]) {
        let (words, tokens) = (b.len(), op.loss.targets.len());
        let logits = |x: &[f32], w: &[f32], b: &[f32], t: usize, scale: f64| -> Vec<f64> {
            let width = w.len() / words;
            let dot =
                |v: usize| (0..width).map(|d| f64::from(x[t * width + d]) * f64::from(w[v * width + d])).sum::<f64>();
            (0..words).map(|v| (f64::from(b[v]) + dot(v)) * scale).collect()
        };
        let softmax = |logits: &[f64]| -> (Vec<f64>, f64) {
            let normalizer = logits.iter().map(|l| l.exp()).sum::<f64>().ln();
            (logits.iter().map(|l| (l - normalizer).exp()).collect(), normalizer)
        };
        let (mut loss, mut dx) = (0.0, vec![0.0; x.len()]);
        let (mut dw, mut db) = (vec![0.0; w.len()], vec![0.0; b.len()]);
        let width = w.len() / words;
        for t in 0..tokens {
            let hard_logits = logits(x, w, b, t, 1.0);
            let (p, normalizer) = softmax(&hard_logits);
            let target = op.loss.targets[t] as usize;
            let mut dlogits: Vec<f64> = p.clone();
            dlogits[target] -= 1.0;
            let mut token_loss = normalizer - hard_logits[target];
            if let Some(soft) = &op.loss.soft {
                let (tau, alpha) = (f64::from(soft.temperature), f64::from(soft.alpha));
                let (q, q_normalizer) = softmax(&logits(x, w, b, t, 1.0 / tau));
                let teacher = logits(&soft.hidden, &soft.table, &soft.bias, t, 1.0 / tau);
                let (r, r_normalizer) = softmax(&teacher);
                let divergence: f64 =
                    (0..words).map(|v| r[v] * (teacher[v] - r_normalizer - hard_logits[v] / tau + q_normalizer)).sum();
                token_loss = alpha * tau * tau * divergence + (1.0 - alpha) * token_loss;
                for v in 0..words {
                    dlogits[v] = alpha * tau * (q[v] - r[v]) + (1.0 - alpha) * dlogits[v];
                }
            }
            loss += token_loss;
            for (v, dlogit) in dlogits.iter().enumerate() {
                db[v] += dlogit / tokens as f64;
                for d in 0..width {
                    dx[t * width + d] += dlogit * f64::from(w[v * width + d]) / tokens as f64;
                    dw[v * width + d] += dlogit * f64::from(x[t * width + d]) / tokens as f64;
                }
            }
        }
        (loss / tokens as f64, [dx, dw, db])
    }

    #[test]
    fn tiles_and_threads_equal_the_plain_losses_and_gradients() {
        // Sums over a thousand words in single precision, against double.
        const RELATIVE: f64 = 1e-5;
        for (tokens, words) in [(1, 11), (255, 511), (256, 512), (257, 513), (300, 1100)] {
            let (x, w, b) = (values(4 * tokens, 1), values(4 * words, 2), values(words, 3));
            for soft in [None, Some(teacher(tokens, words, 0.7))] {
                let mut op = op(tokens, words, soft);
                let loss = f64::from(op.forward([&x, &w, &b])[0]);
                let (expected, gradients) = plain(&op, &x, &w, &b);
                assert!(
                    (loss - expected).abs() < RELATIVE * expected,
                    "{tokens} x {words}: {loss}, expected {expected}"
                );
                let got = op.gradients.into_inner().unwrap().unwrap();
                for (got, expected) in got.iter().flatten().zip(gradients.iter().flatten()) {
                    let error = (f64::from(*got) - expected).abs() * tokens as f64;
                    assert!(error < RELATIVE, "{tokens} x {words}: {got}, expected {expected}");
                }
            }
        }
    }

    #[test]
    fn a_student_equal_to_its_teacher_has_no_soft_loss() {
        let words = 11;
        let mut soft = teacher(6, words, 1.0);
        soft.hidden = values(24, 1);
        soft.table = Arc::new(values(4 * words, 2));
        soft.bias = Arc::new(values(words, 3));
        let mut op = op(6, words, Some(soft));
        let loss = op.forward([&values(24, 1), &values(4 * words, 2), &values(words, 3)])[0];
        assert!(loss.abs() < 1e-6, "{loss}");
        assert!(op.gradients.into_inner().unwrap().unwrap().iter().flatten().all(|g| g.abs() < 1e-6));
    }
}
