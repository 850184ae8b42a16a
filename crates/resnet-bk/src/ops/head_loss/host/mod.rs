//! Host implementation: one pass over the vocabulary for each group of tokens.
//!
//! Each thread owns a disjoint slice of the vocabulary, and so of the table's gradient. It computes
//! the logits of its slice, adds them to the normalizers, and keeps them or their exponentials.
//! When the normalizers of all threads are merged, it turns what it kept into gradients. The hidden
//! states' gradients are merged for each group.
//!
//! The products of tiles are computed in bf16 where the processor has a tile unit and the stage
//! allows it, else in float32.

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod bf16;
mod float32;
mod groups;
mod problem;
mod token_sums;

use super::{HeadLoss, HeadLossOp};
use crate::buffer::Buffer;
use crate::numerics::Precision;
use crate::tape::HostOp;
use float32::Float32Tiles;
use groups::{TOKENS, run};
use problem::{Narrowed, problems};
use rayon::prelude::*;
use resnet_bk_runtime::internal::head::Head;

impl HostOp<3> for HeadLossOp {
    fn forward(&mut self, [hidden, table, bias]: [&[f32]; 3]) -> Vec<f32> {
        let (loss, gradients) = loss_and_gradients(&self.loss, hidden, &Head::new(&self.layout, table, bias));
        self.gradients = gradients.map(Buffer::from);
        vec![loss]
    }

    fn backward(self, _: [&[f32]; 3], _: &[f32], gradient: Vec<f32>, _: [bool; 3]) -> [Vec<f32>; 3] {
        let mut gradients = self.gradients.map(Buffer::into_vec);
        if gradient[0] != 1.0 {
            for x in gradients.iter_mut().flatten() {
                *x *= gradient[0];
            }
        }
        gradients
    }
}

/// Mean loss, and gradients of hidden states `[n, D]`, packed table and bias.
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
/// With AMX (on Linux) every factor is a pair of bf16, `x = h + l`, and three of the four products
/// are summed in float32. So factors have 16 bits of mantissa; float32 has 24. Without AMX the
/// factors are float32. The runtime evaluates the decoded artifact in float32, and a run fails if
/// the two perplexities differ by more than 1e-4 relative.
///
/// # Shapes
/// - `hidden`: `[n, D]`
/// - `targets`: `[n]`
/// - returns `[n]`
pub(super) fn negative_log_likelihoods(hidden: &[f32], targets: &[u32], head: &Head) -> Vec<f32> {
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    if let Some(amx) = crate::kernels::amx::Amx::detect() {
        let loss = HeadLoss { targets: targets.to_vec().into(), soft: None, precision: Precision::Bf16 };
        let student = Narrowed::new(head, hidden);
        let problems = problems(&loss, &student, None);
        let sums = bf16::evaluated(amx, problems.into_iter().map(|(_, problem)| problem), targets.len());
        return sums.iter().map(|sum| sum.hard.ln() - sum.target).collect();
    }
    let width = hidden.len() / targets.len().max(1);
    let parts = hidden.par_chunks(TOKENS * width.max(1)).zip(targets.par_chunks(TOKENS));
    parts.flat_map_iter(|(hidden, targets)| head.negative_log_likelihoods(hidden, targets)).collect()
}
