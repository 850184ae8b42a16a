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

/// Weights of at most this many elements have their gradients computed by our own kernel.
const SMALL: usize = 1 << 15;
/// Rows and columns of a tile, and rows of a part at least; as in `cuda.cu`.
const TILE: usize = 64;
const PART: usize = 32;

/// Where the gradients of weights and biases go: several of each, `stride` elements apart.
pub(in crate::ops) struct WeightGradients<'a> {
    pub weights: &'a Array,
    pub biases: &'a Array,
    pub stride: usize,
}

/// Gradients of the weights `[input, output]` and biases of several affine maps: `x^T dy` and the
/// sums of `dy`. `x` has the rows of each map, or of all in common.
pub(in crate::ops) fn weight_gradients(
    cuda: &Cuda,
    x: &Array,
    dy: &Array,
    [maps, rows, input, output]: [usize; 4],
    out: &WeightGradients,
) {
    let x_stride = if x.len() == rows * input { 0 } else { rows * input };
    if input * output > SMALL {
        let (x, dys) = (x.matrix(0, input).strided(x_stride).t(), dy.matrix(0, output).strided(rows * output));
        let weights = out.weights.matrix(0, output).strided(out.stride);
        cuda.product(weights, false, x, dys, [input, output, rows], maps, cuda.gradient_math());
        cuda.column_sums(dy, [maps, rows, output], out.biases, out.stride);
        return;
    }
    let tiles = input.div_ceil(TILE) * output.div_ceil(TILE);
    let wanted = 2 * cuda.multiprocessors() as usize / (tiles * maps);
    let parts = wanted.min(rows.div_ceil(PART)).max(1);
    let partial = cuda.array(maps * tiles * parts * TILE * (TILE + 1));
    launch!(
        cuda,
        "weight_gradients",
        [tiles, parts, maps],
        256,
        x,
        x_stride,
        dy,
        rows * output,
        rows,
        input,
        output,
        &partial
    );
    let grid = [blocks(TILE * (TILE + 1)), tiles * maps, 1];
    let (weights, biases, stride) = (out.weights, out.biases, out.stride);
    launch!(
        cuda,
        "collect_weight_gradients",
        grid,
        256,
        &partial,
        weights,
        biases,
        stride,
        parts,
        tiles,
        input,
        output
    );
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
        let (dw, db) = (cuda.array(input * output), cuda.array(output));
        let out = WeightGradients { weights: &dw, biases: &db, stride: 0 };
        weight_gradients(cuda, x, &gradient, [1, rows, input, output], &out);
        [dx, Some(dw), Some(db)]
    }
}
