//! Layer normalization and RMS normalization with their gradients.

use super::sum_rows;
use crate::kernels::{layer_norm_backward, rms_norm_backward};
use crate::tape::HostOp;
use crate::tape::Tensor;
use rayon::prelude::*;
use resnet_bk_runtime::kernels;

/// Rows of one task.
const ROWS: usize = 256;

#[derive(Debug)]
struct LayerNorm {
    width: usize,
}

impl HostOp<3> for LayerNorm {
    fn forward(&mut self, [x, gamma, beta]: [&[f32]; 3]) -> Vec<f32> {
        let mut out = vec![0.0; x.len()];
        let size = ROWS * self.width;
        out.par_chunks_mut(size).zip(x.par_chunks(size)).for_each(|(out, x)| kernels::layer_norm(x, gamma, beta, out));
        out
    }

    fn backward(self, [x, gamma, _]: [&[f32]; 3], _: &[f32], gradient: &[f32], _: [bool; 3]) -> [Vec<f32>; 3] {
        let mut dx = vec![0.0; x.len()];
        let size = ROWS * self.width;
        let (dgamma, dbeta): (Vec<_>, Vec<_>) = dx
            .par_chunks_mut(size)
            .zip(x.par_chunks(size).zip(gradient.par_chunks(size)))
            .map(|(dx, (x, gradient))| {
                let (mut dgamma, mut dbeta) = (vec![0.0; self.width], vec![0.0; self.width]);
                layer_norm_backward(x, gamma, gradient, dx, &mut dgamma, &mut dbeta);
                (dgamma, dbeta)
            })
            .unzip();
        [dx, sum_rows(&dgamma, self.width), sum_rows(&dbeta, self.width)]
    }
}

#[derive(Debug)]
struct RmsNorm {
    width: usize,
}

impl HostOp<2> for RmsNorm {
    fn forward(&mut self, [x, gamma]: [&[f32]; 2]) -> Vec<f32> {
        let mut out = vec![0.0; x.len()];
        let size = ROWS * self.width;
        out.par_chunks_mut(size).zip(x.par_chunks(size)).for_each(|(out, x)| kernels::rms_norm(x, gamma, out));
        out
    }

    fn backward(self, [x, gamma]: [&[f32]; 2], _: &[f32], gradient: &[f32], _: [bool; 2]) -> [Vec<f32>; 2] {
        let mut dx = vec![0.0; x.len()];
        let size = ROWS * self.width;
        let dgamma: Vec<Vec<f32>> = dx
            .par_chunks_mut(size)
            .zip(x.par_chunks(size).zip(gradient.par_chunks(size)))
            .map(|(dx, (x, gradient))| {
                let mut dgamma = vec![0.0; self.width];
                rms_norm_backward(x, gamma, gradient, dx, &mut dgamma);
                dgamma
            })
            .collect();
        [dx, sum_rows(&dgamma, self.width)]
    }
}

/// Layer normalization of every row. Shapes: `x` `[n, D]`; `gamma`, `beta` `[D]`.
pub fn layer_norm(x: &Tensor, gamma: &Tensor, beta: &Tensor) -> Tensor {
    LayerNorm { width: x.columns() }.apply([x, gamma, beta], x.shape())
}

/// RMS normalization of every row. Shapes: `x` `[n, D]`; `gamma` `[D]`.
pub fn rms_norm(x: &Tensor, gamma: &Tensor) -> Tensor {
    RmsNorm { width: x.columns() }.apply([x, gamma], x.shape())
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
