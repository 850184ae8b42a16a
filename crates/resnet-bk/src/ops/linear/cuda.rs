//! CUDA implementation: products by cuBLAS.

use super::Linear;
use crate::device::Cuda;
use crate::device::cuda::{Array, Math, blocks, launch};
use crate::tape::CudaOp;

/// Rows of a block of `affine_rows`, and what fits into its shared memory; as in `cuda.cu`.
const AFFINE_ROWS: usize = 16;
const AFFINE_WEIGHTS: usize = 1024;
const AFFINE_INPUTS: usize = 4096;

/// The weights of several affine maps, `stride` elements apart.
#[derive(Clone, Copy)]
pub(in crate::ops) struct Maps<'a> {
    pub count: usize,
    /// The first weight begins at the first element.
    pub weights: &'a Array,
    /// So does the first bias, if there are biases.
    pub biases: Option<&'a Array>,
    pub stride: usize,
    /// Whether the weights are `[output, input]`.
    pub transposed: bool,
}

/// `x W + b` for several maps, `[maps, rows, output]`. `x` has the rows of each map, or of all in
/// common.
pub(in crate::ops) fn affine_maps(
    cuda: &Cuda,
    x: &Array,
    maps: Maps,
    [rows, input, output]: [usize; 3],
    math: Math,
) -> Array {
    let x_stride = if x.len() == rows * input { 0 } else { rows * input };
    let y = cuda.array(maps.count * rows * output);
    if input * output <= AFFINE_WEIGHTS && input * AFFINE_ROWS <= AFFINE_INPUTS {
        launch!(
            cuda,
            "affine_rows",
            [rows.div_ceil(AFFINE_ROWS), 1, maps.count],
            256,
            x,
            x_stride,
            maps.weights,
            maps.biases.map_or(0, Array::pointer),
            maps.stride,
            &y,
            rows,
            input,
            output,
            u32::from(maps.transposed)
        );
        return y;
    }
    let row = if maps.transposed { input } else { output };
    let weights = maps.weights.matrix(0, row).strided(maps.stride);
    let weights = if maps.transposed { weights.t() } else { weights };
    if let Some(biases) = maps.biases {
        assert_eq!(maps.count, 1, "large maps with biases come one by one");
        launch!(cuda, "fill_rows", blocks(y.len()), 256, &y, biases, y.len(), output);
    }
    let (x, out) = (x.matrix(0, input).strided(x_stride), y.matrix(0, output).strided(rows * output));
    cuda.product(out, maps.biases.is_some(), x, weights, [rows, output, input], maps.count, math);
    y
}

/// `x W + b` of a forward pass.
pub(in crate::ops) fn affine(cuda: &Cuda, x: &Array, weight: &Array, bias: &Array, sizes: [usize; 3]) -> Array {
    let maps = Maps { count: 1, weights: weight, biases: Some(bias), stride: 0, transposed: false };
    affine_maps(cuda, x, maps, sizes, cuda.forward_math())
}

/// `dy W^T`, with the sizes of the map.
pub(in crate::ops) fn affine_backward(
    cuda: &Cuda,
    dy: &Array,
    weight: &Array,
    [rows, input, output]: [usize; 3],
) -> Array {
    let maps = Maps { count: 1, weights: weight, biases: None, stride: 0, transposed: true };
    affine_maps(cuda, dy, maps, [rows, output, input], cuda.gradient_math())
}

/// Weights of at most this many elements have their gradients computed by our own kernel.
const SMALL: usize = 1 << 15;
/// Rows and columns of a tile, and rows of a part at least; as in `cuda.cu`.
const TILE: usize = 64;
const PART: usize = 64;

/// Where the gradients of weights and biases go: several of each, `stride` elements apart.
#[derive(Clone, Copy)]
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
        let (factor, dys) = (x.matrix(0, input).strided(x_stride).t(), dy.matrix(0, output).strided(rows * output));
        let scratch = cuda.column_grid(maps, rows, output, 1);
        let read = [x.kept(), dy.kept(), scratch.1.kept()];
        let weights = out.weights.matrix(0, output).strided(out.stride);
        cuda.beside(&read, &[out.weights, out.biases], || {
            cuda.product(weights, false, factor, dys, [input, output, rows], maps, cuda.gradient_math());
            cuda.column_sums(dy, [rows, output], out.biases, out.stride, &scratch);
        });
        return;
    }
    let tiles = input.div_ceil(TILE) * output.div_ceil(TILE);
    let wanted = 2 * cuda.multiprocessors() as usize / (tiles * maps);
    let parts = wanted.min(rows.div_ceil(PART)).max(1);
    let partial = cuda.array(maps * tiles * parts * TILE * (TILE + 1));
    let grid = [blocks(TILE * (TILE + 1)), tiles * maps, 1];
    let WeightGradients { weights, biases, stride } = *out;
    cuda.beside(&[x.kept(), dy.kept(), partial.kept()], &[weights, biases], || {
        launch!(
            cuda,
            "weight_gradients",
            [tiles, parts, maps],
            128,
            x,
            x_stride,
            dy,
            rows * output,
            rows,
            input,
            output,
            &partial
        );
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
    });
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
        let dx = needed[0].then(|| affine_backward(cuda, &gradient, weight, [rows, input, output]));
        let (dw, db) = (cuda.array(input * output), cuda.array(output));
        let out = WeightGradients { weights: &dw, biases: &db, stride: 0 };
        weight_gradients(cuda, x, &gradient, [1, rows, input, output], &out);
        [dx, Some(dw), Some(db)]
    }
}
