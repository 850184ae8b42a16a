//! CUDA implementation: a warp a row.

use super::{LayerNorm, RmsNorm};
use crate::buffer::Buffer;
use crate::config::{MAX_D_MODEL, MAX_HEADS};
use crate::device::Cuda;
use crate::device::cuda::{Array, launch};
use crate::tape::CudaOp;

/// Rows of a block in the forward pass.
const ROWS: usize = 4;
/// Rows of a block at a time in the backward pass, and the most blocks.
const BACKWARD_ROWS: usize = 8;
const BACKWARD_BLOCKS: usize = 128;
/// Blocks of the backward pass, and room for their sums.
fn backward_grid(cuda: &Cuda, rows: usize, width: usize) -> (usize, Array) {
    assert!(width <= MAX_D_MODEL.max(2 * MAX_HEADS), "rows of {width} numbers");
    let blocks = rows.div_ceil(BACKWARD_ROWS).min(BACKWARD_BLOCKS);
    (blocks, cuda.array(blocks * 2 * width))
}

impl CudaOp<3> for LayerNorm {
    fn forward(&mut self, cuda: &Cuda, [x, gamma, beta]: [&Array; 3]) -> Array {
        let (rows, y) = (x.len() / self.width, cuda.array(x.len()));
        let moments = cuda.array(2 * rows);
        let grid = rows.div_ceil(ROWS);
        launch!(cuda, "layer_norm_forward", grid, 128, x, gamma, beta, &y, &moments, rows, self.width);
        self.moments = Buffer::on(cuda, moments);
        y
    }

    fn backward(
        self,
        cuda: &Cuda,
        [x, gamma, _]: [&Array; 3],
        _: &Array,
        gradient: Array,
        _: [bool; 3],
    ) -> [Option<Array>; 3] {
        let (width, rows, moments) = (self.width, x.len() / self.width, self.moments.array(cuda));
        let (dx, dgamma, dbeta) = (cuda.array(x.len()), cuda.array(width), cuda.array(width));
        let (grid, partial) = backward_grid(cuda, rows, width);
        launch!(
            cuda,
            "layer_norm_backward",
            grid,
            256,
            x,
            gamma,
            moments,
            &gradient,
            &dx,
            &dgamma,
            &dbeta,
            rows,
            width,
            &partial,
            cuda.counters()
        );
        [Some(dx), Some(dgamma), Some(dbeta)]
    }
}

impl CudaOp<2> for RmsNorm {
    fn forward(&mut self, cuda: &Cuda, [x, gamma]: [&Array; 2]) -> Array {
        let (rows, y) = (x.len() / self.width, cuda.array(x.len()));
        let scales = cuda.array(rows);
        launch!(cuda, "rms_norm_forward", rows.div_ceil(ROWS), 128, x, gamma, &y, &scales, rows, self.width);
        self.scales = Buffer::on(cuda, scales);
        y
    }

    fn backward(
        self,
        cuda: &Cuda,
        [x, gamma]: [&Array; 2],
        _: &Array,
        gradient: Array,
        _: [bool; 2],
    ) -> [Option<Array>; 2] {
        let (width, rows, scales) = (self.width, x.len() / self.width, self.scales.array(cuda));
        let (dx, dgamma) = (cuda.array(x.len()), cuda.array(width));
        let (grid, partial) = backward_grid(cuda, rows, width);
        launch!(
            cuda,
            "rms_norm_backward",
            grid,
            256,
            x,
            gamma,
            scales,
            &gradient,
            &dx,
            &dgamma,
            rows,
            width,
            &partial,
            cuda.counters()
        );
        [Some(dx), Some(dgamma)]
    }
}
