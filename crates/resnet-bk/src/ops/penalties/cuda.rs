//! CUDA implementation. The results are single numbers, which stay on the device.

use super::{AddPenalty, FeatureDistance, LoadBalancing};
use crate::buffer::Buffer;
use crate::device::Cuda;
use crate::device::cuda::{Array, blocks, launch};
use crate::tape::CudaOp;

impl CudaOp<2> for LoadBalancing {
    fn forward(&mut self, cuda: &Cuda, [logits, usage]: [&Array; 2]) -> Array {
        let (loss, experts) = (cuda.array(1), usage.len());
        launch!(cuda, "load_balancing_forward", 1usize, 1024, logits, usage, &loss, logits.len() / experts, experts);
        loss
    }

    fn backward(
        self,
        cuda: &Cuda,
        [logits, usage]: [&Array; 2],
        _: &Array,
        gradient: Array,
        _: [bool; 2],
    ) -> [Option<Array>; 2] {
        let (dlogits, experts) = (cuda.array(logits.len()), usage.len());
        let tokens = logits.len() / experts;
        launch!(
            cuda,
            "load_balancing_backward",
            blocks(tokens),
            256,
            logits,
            usage,
            &gradient,
            &dlogits,
            tokens,
            experts
        );
        [Some(dlogits), None]
    }
}

impl CudaOp<2> for FeatureDistance {
    fn forward(&mut self, cuda: &Cuda, [x, target]: [&Array; 2]) -> Array {
        let (n, loss, mean_square) = (x.len(), cuda.array(1), self.mean_square.array(cuda));
        let ((grid, partial), counters) = (cuda.element_grid(n), cuda.counters());
        launch!(cuda, "feature_distance_forward", grid, 256, x, target, mean_square, &loss, n, &partial, counters);
        loss
    }

    fn backward(
        self,
        cuda: &Cuda,
        [x, target]: [&Array; 2],
        _: &Array,
        gradient: Array,
        _: [bool; 2],
    ) -> [Option<Array>; 2] {
        let (n, dx, mean_square) = (x.len(), cuda.array(x.len()), self.mean_square.array(cuda));
        launch!(cuda, "feature_distance_backward", blocks(n), 256, x, target, mean_square, &gradient, &dx, n);
        [Some(dx), None]
    }
}

/// Mean square of an array's elements.
pub(super) fn mean_square(cuda: &Cuda, target: &Array) -> Buffer {
    let (n, mean) = (target.len(), cuda.array(1));
    let (grid, partial) = cuda.element_grid(n);
    launch!(cuda, "mean_square", grid, 256, target, &mean, n, &partial, cuda.counters());
    Buffer::on(cuda, mean)
}

impl CudaOp<2> for AddPenalty {
    fn forward(&mut self, cuda: &Cuda, [loss, penalty]: [&Array; 2]) -> Array {
        let sum = cuda.array(1);
        launch!(cuda, "add_penalty_forward", 1usize, 1, loss, penalty, self.weight, &sum);
        sum
    }

    fn backward(self, cuda: &Cuda, _: [&Array; 2], _: &Array, gradient: Array, _: [bool; 2]) -> [Option<Array>; 2] {
        let dpenalty = cuda.array(1);
        launch!(cuda, "add_penalty_backward", 1usize, 1, &gradient, self.weight, &dpenalty);
        [Some(gradient), Some(dpenalty)]
    }
}
