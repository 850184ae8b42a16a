//! Routing: expert weights from router logits.
//!
//! ```text
//! p = softmax of the k largest logits, 0 elsewhere
//! dlogit_i = p_i (dp_i - sum_j p_j dp_j)
//! ```
//!
//! With `k = 1` the weight is always 1 and its gradient would be 0. The straight-through estimator
//! is used instead: `dlogit_i = dp_c q_c (1[i = c] - q_i)`, with `q` the softmax of all logits and
//! `c` the chosen expert.

mod cuda;
mod host;

use crate::tape::{Op, Tensor};

#[derive(Debug)]
struct GateWeights {
    experts: usize,
    top_k: usize,
}

/// Weights of the experts for every token; zero if the token is not routed to the expert. Shapes:
/// `[n, E]` to `[n, E]`.
pub fn gate_weights(logits: &Tensor, top_k: usize) -> Tensor {
    GateWeights { experts: logits.columns(), top_k }.apply([logits], logits.shape())
}

/// Counts the nonzero weights of each expert. Has no gradient.
#[derive(Debug)]
struct CountRouted {
    experts: usize,
}

/// Number of tokens routed to each expert. Shapes: `weights` `[n, E]` from [`gate_weights`];
/// returns `[1, E]`, without a gradient.
pub fn count_routed(weights: &Tensor) -> Tensor {
    let experts = weights.columns();
    CountRouted { experts }.apply([&weights.detached()], [1, experts])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{check_gradients, forward_and_backward, values};
    use resnet_bk_runtime::internal::kernels::softmax_in_place;

    #[test]
    fn gradients_match_finite_differences() {
        // Keep the logits apart, so that a finite difference does not change the routing.
        let logits: Vec<f32> = values(24, 1).iter().enumerate().map(|(i, x)| x * 0.1 + (i * 7 % 4) as f32).collect();
        for top_k in [2, 3, 4] {
            check_gradients([&logits], || GateWeights { experts: 4, top_k }, 2e-3);
        }
    }

    #[test]
    fn a_single_expert_is_straight_through() {
        let logits = [0.3, 1.0, -0.5];
        let op = GateWeights { experts: 3, top_k: 1 };
        let (output, [d]) = forward_and_backward(op, [&logits], &[0.0, 2.0, 0.0]);
        assert_eq!(output, [0.0, 1.0, 0.0]);
        let mut p = logits;
        softmax_in_place(&mut p);
        for (i, d) in d.iter().enumerate() {
            let expected = 2.0 * p[1] * (f32::from(u8::from(i == 1)) - p[i]);
            assert!((d - expected).abs() < 1e-6);
        }
        assert!(d[1] > 0.0, "the chosen expert's logit must learn");
    }
}
