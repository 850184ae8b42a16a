//! Layer normalization and RMS normalization with their gradients.
//!
//! With `x^ = (x - mean) r` and `u = dL/dy * gamma`:
//!
//! ```text
//! layer norm   dx = r (u - mean(u) - x^ mean(u x^))        RMS norm   dx = r (u - x^ mean(u x^))
//! ```

use super::HostOp;
use burn_tensor::Tensor;
use resnet_bk_runtime::norm::{self, inverse_rms, moments};

#[derive(Debug)]
struct LayerNorm {
    width: usize,
}

impl HostOp<3> for LayerNorm {
    fn forward(&mut self, [x, gamma, beta]: [&[f32]; 3]) -> Vec<f32> {
        let mut out = vec![0.0; x.len()];
        norm::layer_norm(x, gamma, beta, &mut out);
        out
    }

    fn backward(&self, [x, gamma, _]: [&[f32]; 3], _: &[f32], gradient: &[f32], _: [bool; 3]) -> [Vec<f32>; 3] {
        let mut grads = [vec![0.0; x.len()], vec![0.0; self.width], vec![0.0; self.width]];
        let [dx, dgamma, dbeta] = &mut grads;
        for ((x, g), dx) in x.chunks(self.width).zip(gradient.chunks(self.width)).zip(dx.chunks_mut(self.width)) {
            let (mean, r) = moments(x);
            row_backward(x, mean, r, true, gamma, g, dx, dgamma);
            for (dbeta, g) in dbeta.iter_mut().zip(g) {
                *dbeta += g;
            }
        }
        grads
    }
}

#[derive(Debug)]
struct RmsNorm {
    width: usize,
}

impl HostOp<2> for RmsNorm {
    fn forward(&mut self, [x, gamma]: [&[f32]; 2]) -> Vec<f32> {
        let mut out = vec![0.0; x.len()];
        norm::rms_norm(x, gamma, &mut out);
        out
    }

    fn backward(&self, [x, gamma]: [&[f32]; 2], _: &[f32], gradient: &[f32], _: [bool; 2]) -> [Vec<f32>; 2] {
        let mut grads = [vec![0.0; x.len()], vec![0.0; self.width]];
        let [dx, dgamma] = &mut grads;
        for ((x, g), dx) in x.chunks(self.width).zip(gradient.chunks(self.width)).zip(dx.chunks_mut(self.width)) {
            row_backward(x, 0.0, inverse_rms(x), false, gamma, g, dx, dgamma);
        }
        grads
    }
}

/// One row of either backward; `centred` says whether the mean was taken off.
#[expect(clippy::too_many_arguments, reason = "one row's slices")]
fn row_backward(
    x: &[f32],
    mean: f32,
    r: f32,
    centred: bool,
    gamma: &[f32],
    gradient: &[f32],
    dx: &mut [f32],
    dgamma: &mut [f32],
) {
    let n = x.len() as f32;
    let (mut sum, mut product) = (0.0, 0.0);
    for i in 0..x.len() {
        let (normed, u) = ((x[i] - mean) * r, gradient[i] * gamma[i]);
        sum += u;
        product += u * normed;
        dgamma[i] += gradient[i] * normed;
    }
    let shift = if centred { sum / n } else { 0.0 };
    for i in 0..x.len() {
        let normed = (x[i] - mean) * r;
        dx[i] = r * (gradient[i] * gamma[i] - shift - normed * product / n);
    }
}

/// Layer normalization of every row. Shapes: `x` `[n, D]`; `gamma`, `beta` `[D]`.
pub fn layer_norm(x: &Tensor<2>, gamma: &Tensor<1>, beta: &Tensor<1>) -> Tensor<2> {
    LayerNorm { width: x.dims()[1] }.apply([x.into(), gamma.into(), beta.into()], x.dims())
}

/// RMS normalization of every row. Shapes: `x` `[n, D]`; `gamma` `[D]`.
pub fn rms_norm(x: &Tensor<2>, gamma: &Tensor<1>) -> Tensor<2> {
    RmsNorm { width: x.dims()[1] }.apply([x.into(), gamma.into()], x.dims())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{check_gradients, values};

    #[test]
    fn gradients_match_finite_differences() {
        let (x, gamma, beta) = (values(24, 1), values(8, 2), values(8, 3));
        check_gradients([&x, &gamma, &beta], || LayerNorm { width: 8 }, 2e-3);
        check_gradients([&x, &gamma], || RmsNorm { width: 8 }, 2e-3);
    }
}
