//! Layer normalization (Ba, Kiros, Hinton, arXiv 1607.06450) and RMS normalization (Zhang,
//! Sennrich, arXiv 1910.07467) of every row.
//!
//! ```text
//! layer norm   y = x^ gamma + beta      x^ = (x - mean(x)) r      r = 1 / sqrt(var(x) + eps)
//!              dx = r (u - mean(u) - x^ mean(u x^))               u = dy gamma
//! RMS norm     y = x^ gamma             x^ = x r                  r = 1 / sqrt(mean(x^2) + eps)
//!              dx = r (u - x^ mean(u x^))
//! both         dgamma = sum_n x^_n dy_n        dbeta = sum_n dy_n
//! ```

mod cuda;
mod host;

use crate::buffer::Buffer;
use crate::tape::{Op, Tensor};

#[derive(Debug)]
struct LayerNorm {
    width: usize,
    /// Mean and scale of every row, saved by the forward pass on a GPU.
    moments: Buffer,
}

/// Layer normalization of every row. Shapes: `x` `[n, D]`; `gamma`, `beta` `[D]`.
pub fn layer_norm(x: &Tensor, gamma: &Tensor, beta: &Tensor) -> Tensor {
    LayerNorm { width: x.columns(), moments: Buffer::default() }.apply([x, gamma, beta], x.shape())
}

#[derive(Debug)]
struct RmsNorm {
    width: usize,
    /// Scale of every row, saved by the forward pass on a GPU.
    scales: Buffer,
}

/// RMS normalization of every row. Shapes: `x` `[n, D]`; `gamma` `[D]`.
pub fn rms_norm(x: &Tensor, gamma: &Tensor) -> Tensor {
    RmsNorm { width: x.columns(), scales: Buffer::default() }.apply([x, gamma], x.shape())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{check_gradients, values};

    #[test]
    fn gradients_match_finite_differences() {
        let (x, gamma, beta) = (values(24, 1), values(8, 2), values(8, 3));
        check_gradients([&x, &gamma, &beta], || LayerNorm { width: 8, moments: Buffer::default() }, 2e-3);
        check_gradients([&x, &gamma], || RmsNorm { width: 8, scales: Buffer::default() }, 2e-3);
    }
}
