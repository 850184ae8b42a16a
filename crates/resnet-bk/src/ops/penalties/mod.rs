//! Loss terms besides the head's: load balancing keeps all experts in use, and feature distance
//! brings a student's features close to its teacher's.
//!
//! ```text
//! load balancing      L = E sum_e f_e P_e                      p_n = softmax(l_n), P = mean over n
//!                     dl_ni = p_ni (g_i - sum_e p_ne g_e)      g_e = dL E f_e / n
//! feature distance    L = mean (x - t)^2 / m                   m = mean t^2 of the batch + 1e-8
//!                     dx = 2 dL (x - t) / (m n C)
//! sum                 L = loss + w penalty                     dloss = dL, dpenalty = w dL
//! ```
//!
//! `f_e` is the share of tokens routed to expert `e`. Load balancing has its minimum, 1 per block,
//! when all experts are used equally (Fedus, Zoph, Shazeer, "Switch Transformers", arXiv
//! 2101.03961). The shares are constants in its gradient.

mod cuda;
mod host;

use crate::buffer::Buffer;
use crate::tape::{Op, Tensor};

#[derive(Debug)]
struct LoadBalancing;

/// Load-balancing loss of a block, `[1, 1]`.
///
/// # Shapes
/// - `logits`: `[n, E]`, of the router
/// - `usage`: `[1, E]`, number of tokens routed to each expert; a constant
pub fn load_balancing(logits: &Tensor, usage: &Tensor) -> Tensor {
    LoadBalancing.apply([logits, usage], [1, 1])
}

/// Keeps the distance finite if the target is zero.
const EPSILON: f32 = 1e-8;

#[derive(Debug)]
struct FeatureDistance {
    /// Mean square of the target.
    mean_square: Buffer,
}

/// Mean squared distance of features from the teacher's, over the teacher's mean square, `[1, 1]`.
///
/// # Shapes
/// - `features`, `target`: `[n, C]`; the target is a constant
/// - `mean_square`: one number, of the target in the global batch; see [`mean_square`]
pub fn feature_distance(features: &Tensor, target: &Tensor, mean_square: Buffer) -> Tensor {
    assert_eq!(features.shape(), target.shape(), "features of the teacher");
    FeatureDistance { mean_square }.apply([features, target], [1, 1])
}

/// Mean square of a tensor's elements, where the tensor is.
pub fn mean_square(target: &Tensor) -> Buffer {
    match target.buffer().cuda() {
        Some(cuda) => cuda::mean_square(cuda, target.buffer().array(cuda)),
        None => vec![host::mean_square(target.values())].into(),
    }
}

#[derive(Debug)]
struct AddPenalty {
    weight: f32,
}

/// `loss + weight * penalty`; all are `[1, 1]`.
pub fn add_penalty(loss: &Tensor, penalty: &Tensor, weight: f32) -> Tensor {
    AddPenalty { weight }.apply([loss, penalty], [1, 1])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{check_gradients, check_gradients_where, values};

    #[test]
    fn gradients_match_finite_differences() {
        // The second inputs are constants.
        let first = |input: usize, _: usize| input == 0;
        check_gradients_where(first, [&values(24, 1), &[2.0, 0.0, 1.0, 5.0]], || LoadBalancing, 2e-3);
        let distance = || FeatureDistance { mean_square: vec![0.7].into() };
        check_gradients_where(first, [&values(24, 1), &values(24, 2)], distance, 2e-3);
        check_gradients([&[2.0], &[3.0]], || AddPenalty { weight: 0.1 }, 2e-3);
    }

    #[test]
    fn load_balancing_is_least_for_equal_usage() {
        let loss = |logits: Vec<f32>, usage: Vec<f32>| {
            load_balancing(&Tensor::constant(logits.into(), [3, 4]), &Tensor::constant(usage.into(), [1, 4]))
        };
        let even = loss(vec![0.0; 12], vec![3.0; 4]);
        assert!((even.values()[0] - 1.0).abs() < 1e-6);
        let uneven = loss([5.0, 0.0, 0.0, 0.0].repeat(3), vec![12.0, 0.0, 0.0, 0.0]);
        assert!(uneven.values()[0] > 3.0);
    }
}
