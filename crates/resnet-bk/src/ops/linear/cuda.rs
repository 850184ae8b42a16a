//! CUDA implementation: products by cuBLAS.

use super::Linear;
use crate::device::Cuda;
use crate::device::cuda::{Array, Math, blocks, launch};
use crate::tape::CudaOp;

/// `x W + b` in float32.
pub(in crate::ops) fn affine(
    cuda: &Cuda,
    x: &Array,
    weight: &Array,
    bias: &Array,
    [rows, input, output]: [usize; 3],
) -> Array {
    let y = cuda.array(rows * output);
    launch!(cuda, "fill_rows", blocks(y.len()), 256, &y, bias, y.len(), output);
    let (x, weight) = (x.matrix(0, input), weight.matrix(0, output));
    cuda.product(y.matrix(0, output), true, x, weight, [rows, output, input], 1, Math::Float32);
    y
}

impl CudaOp<3> for Linear {
    fn forward(&mut self, cuda: &Cuda, [x, weight, bias]: [&Array; 3]) -> Array {
        affine(cuda, x, weight, bias, [self.rows, self.input, self.output])
    }

    fn backward(
        self,
        cuda: &Cuda,
        [x, weight, _]: [&Array; 3],
        _: &Array,
        gradient: Array,
        needed: [bool; 3],
    ) -> [Option<Array>; 3] {
        let Self { rows, input, output } = self;
        let (dy, math) = (gradient.matrix(0, output), cuda.gradient_math());
        let dx = needed[0].then(|| {
            let dx = cuda.array(rows * input);
            let weight = weight.matrix(0, output).t();
            cuda.product(dx.matrix(0, input), false, dy, weight, [rows, input, output], 1, math);
            dx
        });
        let dw = needed[1].then(|| {
            let dw = cuda.array(input * output);
            cuda.product(dw.matrix(0, output), false, x.matrix(0, input).t(), dy, [input, output, rows], 1, math);
            dw
        });
        let db = needed[2].then(|| {
            let db = cuda.array(output);
            cuda.column_sums(&gradient, [1, rows, output], &db, 0);
            db
        });
        [dx, dw, db]
    }
}
