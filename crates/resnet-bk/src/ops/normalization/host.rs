//! On the host: blocks of rows run in parallel, and their gradients of the parameters are summed in
//! the order of the blocks.

use super::{LayerNorm, RmsNorm};
use crate::kernels::{layer_norm_backward, rms_norm_backward};
use crate::ops::sum_rows;
use crate::tape::HostOp;
use rayon::prelude::*;
use resnet_bk_runtime::internal::kernels;

/// Rows of one task.
const ROWS: usize = 256;

impl HostOp<3> for LayerNorm {
    fn forward(&mut self, [x, gamma, beta]: [&[f32]; 3]) -> Vec<f32> {
        let mut out = vec![0.0; x.len()];
        let size = ROWS * self.width;
        out.par_chunks_mut(size).zip(x.par_chunks(size)).for_each(|(out, x)| kernels::layer_norm(x, gamma, beta, out));
        out
    }

    fn backward(self, [x, gamma, _]: [&[f32]; 3], _: &[f32], gradient: Vec<f32>, _: [bool; 3]) -> [Vec<f32>; 3] {
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

impl HostOp<2> for RmsNorm {
    fn forward(&mut self, [x, gamma]: [&[f32]; 2]) -> Vec<f32> {
        let mut out = vec![0.0; x.len()];
        let size = ROWS * self.width;
        out.par_chunks_mut(size).zip(x.par_chunks(size)).for_each(|(out, x)| kernels::rms_norm(x, gamma, out));
        out
    }

    fn backward(self, [x, gamma]: [&[f32]; 2], _: &[f32], gradient: Vec<f32>, _: [bool; 2]) -> [Vec<f32>; 2] {
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
