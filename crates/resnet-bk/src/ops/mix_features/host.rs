//! On the host: blocks of rows run in parallel, and their gradients of the parameters are summed in
//! the order of the blocks.

use super::MixFeatures;
use crate::ops::sum_rows;
use crate::tape::HostOp;
use rayon::prelude::*;
use resnet_bk_runtime::internal::kernels::{Matrix, Threads, Write, add_row, linear, matmul};

/// Rows of one task.
const ROWS: usize = 256;

impl HostOp<6> for MixFeatures {
    fn forward(&mut self, [x, ffn, features, weight, bias, scale]: [&[f32]; 6]) -> Vec<f32> {
        let (narrow, wide) = (ROWS * weight.len() / self.width, ROWS * self.width);
        let mut out = vec![0.0; x.len()];
        let inputs = features.par_chunks(narrow).zip(x.par_chunks(wide).zip(ffn.par_chunks(wide)));
        out.par_chunks_mut(wide).zip(inputs).for_each(|(out, (features, (x, ffn)))| {
            linear(features, weight, bias, out);
            for ((out, x), f) in out.iter_mut().zip(x).zip(ffn) {
                *out = x + (f + *out * scale[0]);
            }
        });
        out
    }

    fn backward(
        self,
        [_, _, features, weight, bias, scale]: [&[f32]; 6],
        _: &[f32],
        gradient: Vec<f32>,
        _: [bool; 6],
    ) -> [Vec<f32>; 6] {
        let channels = weight.len() / self.width;
        let (narrow, wide) = (ROWS * channels, ROWS * self.width);
        let mut dfeatures = vec![0.0; features.len()];
        // Gradients of weight, bias and scale, one after another.
        let parts: Vec<Vec<f32>> = dfeatures
            .par_chunks_mut(narrow)
            .zip(features.par_chunks(narrow).zip(gradient.par_chunks(wide)))
            .map(|(dfeatures, (features, gradient))| {
                let rows = gradient.len() / self.width;
                let mut mixed = vec![0.0; gradient.len()];
                linear(features, weight, bias, &mut mixed);
                let dscale: f32 = mixed.iter().zip(gradient).map(|(y, g)| y * g).sum();
                let scaled: Vec<f32> = gradient.iter().map(|g| g * scale[0]).collect();
                let dmixed = Matrix::new(&scaled, rows, self.width);
                let weight = Matrix::new(weight, channels, self.width).transposed();
                matmul(dfeatures, Write::Overwrite, dmixed, weight, Threads::One);
                let mut part = vec![0.0; channels * self.width + self.width + 1];
                let (dweight, rest) = part.split_at_mut(channels * self.width);
                let features = Matrix::new(features, rows, channels).transposed();
                matmul(dweight, Write::Overwrite, features, dmixed, Threads::One);
                scaled.chunks(self.width).for_each(|row| add_row(&mut rest[..self.width], row));
                rest[self.width] = dscale;
                part
            })
            .collect();
        let mut dweight = sum_rows(&parts, channels * self.width + self.width + 1);
        let mut dbias = dweight.split_off(channels * self.width);
        let dscale = dbias.split_off(self.width);
        [gradient.clone(), gradient, dfeatures, dweight, dbias, dscale]
    }
}
