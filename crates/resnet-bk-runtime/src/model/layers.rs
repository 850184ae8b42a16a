//! The layers of a block: linear maps, layer normalization and the mixture of experts.

use crate::kernels::{layer_norm, linear};
use crate::router::{assignments, gate_weights};

/// `x W + b` of every row.
#[derive(Clone, Debug)]
pub(super) struct Linear {
    /// `[input, output]`.
    pub weight: Vec<f32>,
    /// `[output]`.
    pub bias: Vec<f32>,
}

impl Linear {
    /// Shapes: `x` `[n, input]` to `[n, output]`.
    pub fn forward(&self, x: &[f32]) -> Vec<f32> {
        let rows = x.len() / (self.weight.len() / self.bias.len());
        let mut out = vec![0.0; rows * self.bias.len()];
        linear(x, &self.weight, &self.bias, &mut out);
        out
    }
}

/// Layer normalization with gain and shift.
#[derive(Clone, Debug)]
pub(super) struct LayerNorm {
    /// `[D]`.
    pub gamma: Vec<f32>,
    /// `[D]`.
    pub beta: Vec<f32>,
}

impl LayerNorm {
    /// Shapes: `[n, D]` to `[n, D]`.
    pub fn forward(&self, x: &[f32]) -> Vec<f32> {
        let mut out = vec![0.0; x.len()];
        layer_norm(x, &self.gamma, &self.beta, &mut out);
        out
    }
}

/// The router, and the two maps of each expert.
#[derive(Clone, Debug)]
pub(super) struct MixtureOfExperts {
    /// `[D, E]`.
    pub router: Linear,
    /// `[D, F]` up and `[F, D]` down.
    pub experts: Vec<(Linear, Linear)>,
}

impl MixtureOfExperts {
    /// Routes each token to its `top_k` best experts. Shapes: `x` `[n, D]` with `D = width`,
    /// returns `[n, D]`.
    pub fn forward(&self, x: &[f32], top_k: usize, width: usize) -> Vec<f32> {
        let count = self.experts.len();
        let weights = gate_weights(&self.router.forward(x), count, top_k);
        let mut out = vec![0.0; x.len()];
        for (index, (tokens, (up, down))) in assignments(&weights, count).iter().zip(&self.experts).enumerate() {
            let gathered: Vec<f32> = tokens.iter().flat_map(|&t| &x[t * width..][..width]).copied().collect();
            let mut hidden = up.forward(&gathered);
            for h in &mut hidden {
                *h = h.max(0.0);
            }
            for (y, &token) in down.forward(&hidden).chunks(width).zip(tokens) {
                let weight = weights[token * count + index];
                for (out, y) in out[token * width..][..width].iter_mut().zip(y) {
                    *out += weight * y;
                }
            }
        }
        out
    }
}
