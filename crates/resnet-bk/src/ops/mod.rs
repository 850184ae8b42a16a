//! Differentiable operations. Each is a folder:
//!
//! ```text
//! mod.rs     the equation, the shapes and the gradient; the function that applies it; the tests
//! host.rs    the implementation on the host
//! cuda.rs    the implementation on an NVIDIA GPU, with its kernels in cuda.cu
//! ```
//!
//! Before the head, forward passes run the runtime's kernels, so that training computes the same
//! bits as inference. An implementation for another device goes beside `host.rs`. Tests of
//! gradients run operations through `testing.rs` only, so that they can drive every implementation.
//!
//! Tensors are row-major. In formulas, `dx` is the gradient of the loss with respect to `x`, and
//! "words" are the entries of the vocabulary.

mod carry;
mod dropout;
mod elementwise;
mod embedding_lookup;
mod experts;
mod fake_quantize;
mod gate_weights;
mod head_bias;
mod head_loss;
mod linear;
mod mix_features;
mod normalization;
mod penalties;
mod propagator;
mod resolvent;

pub use crate::kernels::DropoutMask;
pub use carry::Carry;
pub use dropout::{add_dropped, dropout};
pub use elementwise::{add_gumbel, clamp, exp, silu_gate};
pub use embedding_lookup::{EmbeddingDropout, embed};
pub use experts::experts;
pub use fake_quantize::fake_quantize_activation;
pub use gate_weights::{count_routed, gate_weights};
pub use head_bias::head_bias;
pub(crate) use head_loss::loss_and_gradients;
pub use head_loss::{FrozenHead, HeadLoss, SoftTargets, head_loss, negative_log_likelihoods};
pub use linear::{linear, project};
pub use mix_features::mix_features;
pub use normalization::{layer_norm, rms_norm};
pub use penalties::{add_penalty, feature_distance, load_balancing, mean_square};
pub use propagator::propagator;
pub(crate) use resolvent::causal;
pub use resolvent::{ResolventOp, resolvent};

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
