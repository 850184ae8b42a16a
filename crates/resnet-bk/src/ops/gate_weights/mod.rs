//! Routing: weights of the experts from the router's logits.
//!
//! ```text
//! p = softmax of the k largest logits
//! dL/dlogit_i = p_i (g_i - sum_j p_j g_j)    over the chosen experts, g = dL/dp
//! ```
//!
//! With `k = 1` the weight is 1 whatever the logits are, so its gradient is straight-through: that of the full softmax's
//! probability of the chosen expert.

use crate::tape::{HostOp, Tensor};
use resnet_bk_runtime::kernels::softmax_in_place;
use resnet_bk_runtime::moe;

#[derive(Debug)]
struct GateWeights {
    experts: usize,
    top_k: usize,
}

impl HostOp<1> for GateWeights {
    fn forward(&mut self, [logits]: [&[f32]; 1]) -> Vec<f32> {
        moe::gate_weights(logits, self.experts, self.top_k)
    }

    fn backward(self, [logits]: [&[f32]; 1], output: &[f32], gradient: &[f32], _: [bool; 1]) -> [Vec<f32>; 1] {
        let mut dlogits = vec![0.0; logits.len()];
        let rows = logits.chunks(self.experts).zip(output.chunks(self.experts)).zip(gradient.chunks(self.experts));
        for (((logits, weights), g), d) in rows.zip(dlogits.chunks_mut(self.experts)) {
            if self.top_k == 1 {
                let chosen = weights.iter().position(|&w| w != 0.0).expect("one expert is chosen");
                d.copy_from_slice(logits);
                softmax_in_place(d);
                let p = d[chosen];
                for (i, d) in d.iter_mut().enumerate() {
                    *d = g[chosen] * p * (f32::from(u8::from(i == chosen)) - *d);
                }
            } else {
                let mean: f32 = weights.iter().zip(g).map(|(w, g)| w * g).sum();
                for (d, (w, g)) in d.iter_mut().zip(weights.iter().zip(g)) {
                    *d = w * (g - mean);
                }
            }
        }
        [dlogits]
    }
}

/// Weights of the experts of every token, zero for those it is not routed to. Shapes: `[n, E]` to `[n, E]`.
pub fn gate_weights(logits: &Tensor, top_k: usize) -> Tensor {
    GateWeights { experts: logits.columns(), top_k }.apply([logits], logits.shape())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{check_gradients, values};

    #[test]
    fn gradients_match_finite_differences() {
        // Scaled apart, so that a finite step changes no choice.
        let logits: Vec<f32> = values(24, 1).iter().enumerate().map(|(i, x)| x * 0.1 + (i * 7 % 4) as f32).collect();
        for top_k in [2, 3, 4] {
            check_gradients([&logits], || GateWeights { experts: 4, top_k }, 2e-3);
        }
    }

    #[test]
    fn a_single_expert_is_straight_through() {
        let mut op = GateWeights { experts: 3, top_k: 1 };
        let logits = [0.3, 1.0, -0.5];
        let output = op.forward([&logits]);
        assert_eq!(output, [0.0, 1.0, 0.0]);
        let [d] = op.backward([&logits], &output, &[0.0, 2.0, 0.0], [true]);
        let mut p = logits;
        softmax_in_place(&mut p);
        for (i, d) in d.iter().enumerate() {
            let expected = 2.0 * p[1] * (f32::from(u8::from(i == 1)) - p[i]);
            assert!((d - expected).abs() < 1e-6);
        }
        assert!(d[1] > 0.0, "the chosen expert's logit must learn");
    }
}
