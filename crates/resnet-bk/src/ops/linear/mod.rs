//! `y = x W + b`.

use crate::tape::{HostOp, Tensor};
use rayon::prelude::*;
use resnet_bk_runtime::kernels::{self, Matrix, Threads, Write, matmul};

/// Rows that one task maps; a multiple of the kernel's row block, so that every block is full.
const ROWS: usize = 256;

#[derive(Debug)]
struct Linear {
    rows: usize,
    input: usize,
    output: usize,
}

impl HostOp<3> for Linear {
    fn forward(&mut self, [x, weight, bias]: [&[f32]; 3]) -> Vec<f32> {
        let mut out = vec![0.0; self.rows * self.output];
        out.par_chunks_mut(ROWS * self.output)
            .zip(x.par_chunks(ROWS * self.input))
            .for_each(|(out, x)| kernels::linear(x, weight, bias, out));
        out
    }

    fn backward(self, [x, weight, _]: [&[f32]; 3], _: &[f32], gradient: &[f32], needed: [bool; 3]) -> [Vec<f32>; 3] {
        let gradients = Matrix::new(gradient, self.rows, self.output);
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

/// Affine map of every row.
///
/// # Shapes
/// - `x`: `[n, input]`
/// - `weight`: `[input, output]`
/// - `bias`: `[output]`
/// - returns `[n, output]`
pub fn linear(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Tensor {
    let ([rows, input], output) = (x.shape(), weight.columns());
    Linear { rows, input, output }.apply([x, weight, bias], [rows, output])
}

/// A linear map of every row, without a bias: `y = x W`.
///
/// # Shapes
/// - `x`: `[n, input]`
/// - `weight`: `[input, output]`
/// - returns `[n, output]`
pub fn project(x: &Tensor, weight: &Tensor) -> Tensor {
    linear(x, weight, &Tensor::constant(vec![0.0; weight.columns()].into(), [1, weight.columns()]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{check_gradients, values};

    #[test]
    fn gradients_match_finite_differences() {
        for rows in [1, 5] {
            check_gradients(
                [&values(rows * 3, 1), &values(6, 2), &values(2, 3)],
                || Linear { rows, input: 3, output: 2 },
                1e-3,
            );
        }
    }
}
