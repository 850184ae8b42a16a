//! Differentiable operations on host slices: forward from the runtime's kernels, so that training computes the bits that
//! inference will, and a backward of their own.

mod diagonal;
mod dropout;
mod elementwise;
mod embedding;
mod experts;
mod fake_quantize;
mod head_bias;
mod head_loss;
mod linear;
mod norm;
mod penalties;
mod propagator;
mod resolvent;
mod router;

pub use crate::kernels::DropoutMask;
pub use diagonal::mix_features;
pub use dropout::add_dropped;
pub use elementwise::{clamp, exp, shift, silu_gate};
pub use embedding::embed;
pub use experts::{ExpertDropout, experts};
pub use fake_quantize::fake_quantize_activation;
pub use head_bias::head_bias;
pub(crate) use head_loss::loss_and_gradients;
pub use head_loss::{FrozenHead, HeadLoss, Precision, SoftTargets, head_loss, negative_log_likelihoods};
pub use linear::{linear, project};
pub use norm::{layer_norm, rms_norm};
pub use penalties::{add_penalty, feature_distance, load_balancing};
pub use propagator::propagator;
pub(crate) use resolvent::causal;
pub use resolvent::{Gradient, ResolventOp, resolvent};
pub use router::gate_weights;

/// Sums rows of `width` numbers.
pub(crate) fn sum_rows(rows: &[Vec<f32>], width: usize) -> Vec<f32> {
    let mut total = vec![0.0; width];
    for row in rows {
        for (total, x) in total.iter_mut().zip(row) {
            *total += x;
        }
    }
    total
}

#[cfg(test)]
mod testing;
