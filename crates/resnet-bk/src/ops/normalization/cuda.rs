//! CUDA implementation: a warp a row; gradients of the parameters are sums over columns.

use super::{LayerNorm, RmsNorm};
use crate::buffer::Buffer;
use crate::device::Cuda;
use crate::device::cuda::{Array, launch};
use crate::tape::CudaOp;

/// Rows of a block.
const ROWS: usize = 4;

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
        let blocks = rows.div_ceil(ROWS);
        launch!(cuda, "layer_norm_backward", blocks, 128, x, gamma, moments, &gradient, &dx, rows, width);
        let (grid, partial) = cuda.column_grid(1, rows, width, 2);
        launch!(
            cuda,
            "layer_norm_parameters",
            grid,
            256,
            x,
            moments,
            &gradient,
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
        let blocks = rows.div_ceil(ROWS);
        launch!(cuda, "rms_norm_backward", blocks, 128, x, gamma, scales, &gradient, &dx, rows, width);
        let (grid, partial) = cuda.column_grid(1, rows, width, 1);
        launch!(
            cuda,
            "rms_norm_parameters",
            grid,
            256,
            x,
            scales,
            &gradient,
            &dgamma,
            rows,
            width,
            &partial,
            cuda.counters()
        );
        [Some(dx), Some(dgamma)]
    }
}
