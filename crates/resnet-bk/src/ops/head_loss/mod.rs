//! The head's linear map and its loss in one operation: the logits of all tokens never exist at once.
//!
//! A group of tokens at a time, and one pass over the vocabulary for each: a thread makes the logits of its words, takes them into the
//! normalizers and keeps them, or their exponentials, until the other threads have done the same; then it turns them into gradients.
//!
//! ```text
//! hard   L = ln sum e^{l} - l_y                              dL/dl = softmax(l) - onehot(y)
//! soft   L = tau^2 KL(softmax(l'/tau) || softmax(l/tau))     dL/dl = tau (softmax(l/tau) - softmax(l'/tau))
//! mixed  L = alpha soft + (1 - alpha) hard                   dx = dl W    dW = dl^T x    db = sum dl
//! ```
//!
//! where `l'` are the teacher's logits, made from its hidden states tile by tile (Hinton, Vinyals, Dean, arXiv 1503.02531).
//!
//! Every thread has its own words, and so its own rows of `dW`; normalizers and `dx` are merged for each group. The tiles are
//! multiplied in bf16 where the processor has a tile unit and the stage lets it, else in float32.

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod bf16;
mod float32;
mod groups;
mod problem;
mod sums;

use crate::buffer::Buffer;
use crate::tape::{HostOp, Tensor};
use float32::Float32Tiles;
use groups::{TOKENS, run};
use problem::{Narrowed, problems};
use rayon::prelude::*;
use resnet_bk_runtime::internal::embedding::TableLayout;
use resnet_bk_runtime::internal::head::Head;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use sums::TokenSums;

/// Number format of the factors in the head's matrix products during training. Sums are float32 in both. Evaluation does
/// not follow it: see [`negative_log_likelihoods`].
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
    pub table: Buffer,
    /// `[V]`.
    pub bias: Buffer,
}

impl FrozenHead {
    /// The head.
    pub fn view(&self) -> Head<'_> {
        Head::new(&self.layout, &self.table, &self.bias)
    }
}

/// The teacher's side of a distillation loss.
#[derive(Clone, Debug)]
pub struct SoftTargets {
    /// Hidden states of the same tokens, `[n, D']`.
    pub hidden: Buffer,
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
    gradients: [Vec<f32>; 3],
}

/// The mean loss and the gradients of hidden states `[n, D]`, the packed table and the bias.
pub(crate) fn loss_and_gradients(loss: &HeadLoss, hidden: &[f32], head: &Head) -> (f32, [Vec<f32>; 3]) {
    let student = Narrowed::new(head, hidden);
    let teacher_head = loss.soft.as_ref().map(|soft| (soft.head.view(), &soft.hidden));
    let teacher = teacher_head.as_ref().map(|(head, hidden)| Narrowed::new(head, hidden));
    let problems = problems(loss, &student, teacher.as_ref());
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    if loss.precision == Precision::Bf16
        && let Some(amx) = crate::kernels::amx::Amx::detect()
    {
        let tiles = |problem| bf16::Bf16Tiles::new(amx, problem);
        return run(loss, hidden, &student, &problems, tiles);
    }
    run(loss, hidden, &student, &problems, Float32Tiles)
}

/// `-ln p(target)` of every token, in nats.
///
/// With a tile unit (AMX on Linux) every factor is a pair of bf16, `x = h + l`, and three of the four products are summed in float32: 16
/// bits of a factor's mantissa count, where float32 has 24. Without one the factors are float32. The decoded artifact is evaluated in
/// float32 by the runtime, and a run fails where the two perplexities differ by more than 1e-4 of their size.
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
        let sums = bf16::evaluated(amx, problems.into_iter().map(|(_, problem)| problem), targets.len());
        return sums.iter().map(|sum| sum.hard.ln() - sum.target).collect();
    }
    let width = hidden.len() / targets.len().max(1);
    let parts = hidden.par_chunks(TOKENS * width.max(1)).zip(targets.par_chunks(TOKENS));
    parts.flat_map_iter(|(hidden, targets)| head.negative_log_likelihoods(hidden, targets)).collect()
}

impl HostOp<3> for Op {
    fn forward(&mut self, [hidden, table, bias]: [&[f32]; 3]) -> Vec<f32> {
        let (loss, gradients) = loss_and_gradients(&self.loss, hidden, &Head::new(&self.layout, table, bias));
        self.gradients = gradients;
        vec![loss]
    }

    fn backward(self, _: [&[f32]; 3], _: &[f32], gradient: &[f32], _: [bool; 3]) -> [Vec<f32>; 3] {
        let mut gradients = self.gradients;
        if gradient[0] != 1.0 {
            for x in gradients.iter_mut().flatten() {
                *x *= gradient[0];
            }
        }
        gradients
    }
}

impl HeadLoss {
    /// Sum of the losses of some tokens.
    fn total(&self, sums: &[TokenSums]) -> f64 {
        let hard: f64 = sums.iter().map(|sum| f64::from(sum.hard.ln() - sum.target)).sum();
        match &self.soft {
            None => hard,
            Some(soft) => {
                let tau = f64::from(soft.temperature);
                let divergence: f64 = sums.iter().map(|sum| f64::from(sum.divergence())).sum();
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
/// - `table`: a table of `layout`
/// - `bias`: `[V]`
/// - returns `[1, 1]`
pub fn head_loss(loss: HeadLoss, layout: &TableLayout, hidden: &Tensor, table: &Tensor, bias: &Tensor) -> Tensor {
    let op = Op { loss, layout: layout.clone(), gradients: Default::default() };
    op.apply([hidden, table, bias], [1, 1])
}

#[cfg(test)]
mod tests;
