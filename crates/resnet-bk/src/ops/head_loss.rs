//! The head's linear map and its loss in one operation: the logits of all tokens never exist at once.
//!
//! A tile of tokens at a time: logits, their softmax, the loss, and at once the gradients
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
use resnet_bk_runtime::head::Head;
use resnet_bk_runtime::kernels::{
    Matrix, Threads, Write, exp_minus_in_place, largest, log_sum_exp, matmul, scale_and_add,
};
use std::sync::{Arc, Mutex};

/// Tokens of a tile.
const TILE: usize = 128;

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

/// Sums over the tokens that one thread took.
struct Partial {
    loss: f64,
    dtable: Vec<f32>,
    dbias: Vec<f32>,
}

impl HostOp<3> for Op {
    fn forward(&mut self, [hidden, table, bias]: [&[f32]; 3]) -> Vec<f32> {
        let tokens = self.loss.targets.len();
        let width = table.len() / bias.len();
        let mut dhidden = vec![0.0; hidden.len()];
        let per_thread = tokens.div_ceil(rayon::current_num_threads()).next_multiple_of(TILE);
        let partials: Vec<Partial> = dhidden
            .par_chunks_mut(per_thread * width)
            .enumerate()
            .map(|(thread, dhidden)| self.loss.share(thread * per_thread, hidden, Head { table, bias }, dhidden))
            .collect();
        let mut partials = partials.into_iter();
        let mut total = partials.next().expect("at least one token");
        for partial in partials {
            total.loss += partial.loss;
            total.dtable.par_iter_mut().zip(&partial.dtable).for_each(|(a, b)| *a += b);
            total.dbias.iter_mut().zip(&partial.dbias).for_each(|(a, b)| *a += b);
        }
        self.gradients = Mutex::new(Some([dhidden, total.dtable, total.dbias]));
        vec![(total.loss / tokens as f64) as f32]
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
    /// The tokens from `start` that fill `dhidden`, tile after tile.
    fn share(&self, start: usize, hidden: &[f32], head: Head, dhidden: &mut [f32]) -> Partial {
        let words = head.bias.len();
        let width = head.table.len() / words;
        let mut sums = Partial { loss: 0.0, dtable: vec![0.0; head.table.len()], dbias: vec![0.0; words] };
        let mut logits = vec![0.0; TILE * words];
        let mut teacher = vec![0.0; if self.soft.is_some() { TILE * words } else { 0 }];
        for (tile, dhidden) in dhidden.chunks_mut(TILE * width).enumerate() {
            let first = start + tile * TILE;
            let count = dhidden.len() / width;
            let hidden = &hidden[first * width..][..dhidden.len()];
            let logits = &mut logits[..count * words];
            head.logits(hidden, logits);
            if let Some(soft) = &self.soft {
                let width = soft.table.len() / words;
                let head = Head { table: &soft.table, bias: &soft.bias };
                head.logits(&soft.hidden[first * width..][..count * width], &mut teacher[..count * words]);
            }
            for (row, logits) in logits.chunks_mut(words).enumerate() {
                let target = self.targets[first + row] as usize;
                // The rows hold gradients up to a factor that one last pass applies.
                let (loss, factor) = match &self.soft {
                    None => hard(logits, target),
                    Some(soft) => mixed(logits, &mut teacher[row * words..][..words], target, soft),
                };
                sums.loss += loss;
                scale_and_add(logits, factor / self.targets.len() as f32, &mut sums.dbias);
            }
            let dlogits = Matrix::new(logits, count, words);
            matmul(dhidden, Write::Overwrite, dlogits, Matrix::new(head.table, words, width), Threads::One);
            let hidden = Matrix::new(hidden, count, width);
            matmul(&mut sums.dtable, Write::Accumulate, dlogits.transposed(), hidden, Threads::One);
        }
        sums
    }
}

/// Turns a row of logits into the gradient of the hard loss, up to the factor returned beside the loss.
fn hard(logits: &mut [f32], target: usize) -> (f64, f32) {
    let shift = largest(logits);
    let target_logit = logits[target];
    let sum = exp_minus_in_place(logits, shift);
    logits[target] -= sum;
    (f64::from(shift - target_logit) + f64::from(sum).ln(), 1.0 / sum)
}

/// Turns the student's logits into the gradient of the mixed loss, up to the factor returned beside the loss. The teacher's row is
/// used up.
fn mixed(logits: &mut [f32], teacher: &mut [f32], target: usize, soft: &SoftTargets) -> (f64, f32) {
    let tau = soft.temperature;
    let mut softened: Vec<f32> = logits.iter().map(|l| l / tau).collect();
    for l in teacher.iter_mut() {
        *l /= tau;
    }
    let (student_normalizer, teacher_normalizer) = (log_sum_exp(&softened), log_sum_exp(teacher));
    // KL = sum p' (l' - n' - l + n), with the teacher's probabilities p'.
    let offset = student_normalizer - teacher_normalizer;
    let difference: Vec<f32> = teacher.iter().zip(&softened).map(|(t, s)| t - s + offset).collect();
    exp_minus_in_place(teacher, teacher_normalizer);
    let divergence: f64 = teacher.iter().zip(&difference).map(|(p, d)| f64::from(p * d)).sum();
    exp_minus_in_place(&mut softened, student_normalizer);
    let (hard_loss, hard_factor) = hard(logits, target);
    let (soft_weight, hard_weight) = (soft.alpha * tau, (1.0 - soft.alpha) * hard_factor);
    for ((dlogit, s), t) in logits.iter_mut().zip(&softened).zip(teacher.iter()) {
        *dlogit = soft_weight * (s - t) + hard_weight * *dlogit;
    }
    (f64::from(soft.alpha * tau * tau) * divergence + f64::from(1.0 - soft.alpha) * hard_loss, 1.0)
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

    const WORDS: usize = 11;

    fn op(tokens: usize, soft: Option<SoftTargets>) -> Op {
        let targets = (0..tokens as u32).map(|t| t * 7 % WORDS as u32).collect();
        Op { loss: HeadLoss { targets, soft }, gradients: Mutex::new(None) }
    }

    fn teacher(tokens: usize, alpha: f32) -> SoftTargets {
        SoftTargets {
            hidden: values(3 * tokens, 4),
            table: Arc::new(values(3 * WORDS, 5)),
            bias: Arc::new(values(WORDS, 6)),
            temperature: 2.0,
            alpha,
        }
    }

    #[test]
    fn gradients_match_finite_differences() {
        for tokens in [1, 5] {
            let (x, w, b) = (values(4 * tokens, 1), values(4 * WORDS, 2), values(WORDS, 3));
            check_gradients([&x, &w, &b], || op(tokens, None), 3e-3);
            for alpha in [0.0, 0.7, 1.0] {
                check_gradients([&x, &w, &b], || op(tokens, Some(teacher(tokens, alpha))), 3e-3);
            }
        }
    }

    #[test]
    fn tiles_and_threads_equal_the_plain_loss_and_gradients() {
        // Sums of up to 200 tokens in single precision, against double.
        const RELATIVE: f64 = 1e-5;
        for tokens in [1, 63, 64, 65, 200] {
            let (x, w, b) = (values(4 * tokens, 1), values(4 * WORDS, 2), values(WORDS, 3));
            let mut op = op(tokens, None);
            let loss = op.forward([&x, &w, &b])[0];
            let (mut plain, mut dx) = (0.0f64, vec![0.0f64; x.len()]);
            for (t, row) in x.chunks(4).enumerate() {
                let logits: Vec<f64> = (0..WORDS)
                    .map(|v| f64::from(b[v]) + (0..4).map(|d| f64::from(row[d]) * f64::from(w[4 * v + d])).sum::<f64>())
                    .collect();
                let sum: f64 = logits.iter().map(|l| l.exp()).sum();
                let target = op.loss.targets[t] as usize;
                plain += sum.ln() - logits[target];
                for v in 0..WORDS {
                    let dlogit = logits[v].exp() / sum - f64::from(u8::from(v == target));
                    for d in 0..4 {
                        dx[4 * t + d] += dlogit * f64::from(w[4 * v + d]) / tokens as f64;
                    }
                }
            }
            plain /= tokens as f64;
            assert!((f64::from(loss) - plain).abs() < RELATIVE * plain, "{tokens} tokens: {loss} against {plain}");
            let got = op.gradients.into_inner().unwrap().unwrap();
            for (got, expected) in got[0].iter().zip(&dx) {
                assert!((f64::from(*got) - expected).abs() < RELATIVE / tokens as f64, "{tokens} tokens");
            }
        }
    }

    #[test]
    fn a_student_equal_to_its_teacher_has_no_soft_loss() {
        let mut soft = teacher(6, 1.0);
        soft.hidden = values(24, 1);
        soft.table = Arc::new(values(4 * WORDS, 2));
        soft.bias = Arc::new(values(WORDS, 3));
        let mut op = op(6, Some(soft));
        let loss = op.forward([&values(24, 1), &values(4 * WORDS, 2), &values(WORDS, 3)])[0];
        assert!(loss.abs() < 1e-6, "{loss}");
        assert!(op.gradients.into_inner().unwrap().unwrap().iter().flatten().all(|g| g.abs() < 1e-6));
    }
}
