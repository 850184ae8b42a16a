//! CUDA implementation: a thread a word; backward, a block a knot.

use super::HeadBias;
use crate::device::Cuda;
use crate::device::cuda::{Array, blocks, launch};
use crate::tape::CudaOp;

impl CudaOp<2> for HeadBias {
    fn forward(&mut self, cuda: &Cuda, [words, knots]: [&Array; 2]) -> Array {
        let (count, bias) = (words.len(), cuda.array(words.len()));
        launch!(cuda, "head_bias_forward", blocks(count), 256, words, knots, &bias, count, knots.len());
        bias
    }

    fn backward(
        self,
        cuda: &Cuda,
        [words, knots]: [&Array; 2],
        _: &Array,
        gradient: Array,
        _: [bool; 2],
    ) -> [Option<Array>; 2] {
        let (count, dknots) = (words.len(), cuda.array(knots.len()));
        launch!(cuda, "head_bias_backward", knots.len(), 256, &gradient, &dknots, count, knots.len());
        [Some(gradient), Some(dknots)]
    }
}
