//! On the host: blocks of rows run in parallel; the gradients are products on all threads.

use super::Linear;
use crate::tape::HostOp;
use rayon::prelude::*;
use resnet_bk_runtime::internal::kernels::{self, Matrix, Threads, Write, matmul};

/// Rows of one task; a multiple of the kernel's row block, so that every block is full.
const ROWS: usize = 256;

impl HostOp<3> for Linear {
    fn forward(&mut self, [x, weight, bias]: [&[f32]; 3]) -> Vec<f32> {
        let mut out = vec![0.0; self.rows * self.output];
        out.par_chunks_mut(ROWS * self.output)
            .zip(x.par_chunks(ROWS * self.input))
            .for_each(|(out, x)| kernels::linear(x, weight, bias, out));
        out
    }

    fn backward(self, [x, weight, _]: [&[f32]; 3], _: &[f32], gradient: Vec<f32>, needed: [bool; 3]) -> [Vec<f32>; 3] {
        let gradients = Matrix::new(&gradient, self.rows, self.output);
        let mut dx = Vec::new();
        if needed[0] {
            dx.resize(self.rows * self.input, 0.0);
            let weight = Matrix::new(weight, self.input, self.output);
            matmul(&mut dx, Write::Overwrite, gradients, weight.transposed(), Threads::All);
        }
        let mut dw = vec![0.0; self.input * self.output];
        matmul(&mut dw, Write::Overwrite, Matrix::new(x, self.rows, self.input).transposed(), gradients, Threads::All);
        let mut db = vec![0.0; self.output];
        for row in gradient.chunks(self.output) {
            for (db, g) in db.iter_mut().zip(row) {
                *db += g;
            }
        }
        [dx, dw, db]
    }
}
