//! CUDA implementation: a thread an element.

use super::{AddDropped, Dropout};
use crate::device::Cuda;
use crate::device::cuda::{Array, blocks, launch};
use crate::kernels::DropoutMask;
use crate::tape::CudaOp;

impl CudaOp<1> for Dropout {
    fn forward(&mut self, cuda: &Cuda, [y]: [&Array; 1]) -> Array {
        drop(cuda, y, self.mask, self.width)
    }

    fn backward(self, cuda: &Cuda, _: [&Array; 1], _: &Array, gradient: Array, _: [bool; 1]) -> [Option<Array>; 1] {
        [Some(drop(cuda, &gradient, self.mask, self.width))]
    }
}

impl CudaOp<2> for AddDropped {
    fn forward(&mut self, cuda: &Cuda, [x, y]: [&Array; 2]) -> Array {
        let (n, z) = (x.len(), cuda.array(x.len()));
        let (draw, threshold, keep, first_token) = DropoutMask::on_device(self.mask);
        let (step, first) = (cuda.step_numbers(), first_token * self.width as u64);
        launch!(cuda, "add_dropped_forward", blocks(n), 256, x, y, &z, step, draw, threshold, keep, first, n);
        z
    }

    fn backward(self, cuda: &Cuda, _: [&Array; 2], _: &Array, gradient: Array, _: [bool; 2]) -> [Option<Array>; 2] {
        let dy = match self.mask {
            None => gradient.clone(),
            Some(mask) => drop(cuda, &gradient, mask, self.width),
        };
        [Some(gradient), Some(dy)]
    }
}

/// `x`, whose rows have `width` elements, under a dropout mask.
pub(in crate::ops) fn drop(cuda: &Cuda, x: &Array, mask: DropoutMask, width: usize) -> Array {
    let (n, out) = (x.len(), cuda.array(x.len()));
    let (draw, threshold, keep, first_token) = DropoutMask::on_device(Some(mask));
    let first = first_token * width as u64;
    launch!(cuda, "drop", blocks(n), 256, x, &out, cuda.step_numbers(), draw, threshold, keep, first, n);
    out
}
