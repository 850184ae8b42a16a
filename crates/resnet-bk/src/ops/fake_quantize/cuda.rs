//! CUDA implementation: a thread an element.

use super::FakeQuantizeActivation;
use crate::device::Cuda;
use crate::device::cuda::{Array, blocks, launch};
use crate::tape::CudaOp;
use resnet_bk_runtime::internal::quantization::q_max;

impl CudaOp<1> for FakeQuantizeActivation {
    fn forward(&mut self, cuda: &Cuda, [x]: [&Array; 1]) -> Array {
        let (n, y, scales) = (x.len(), cuda.array(x.len()), cuda.upload(&self.scales));
        let qmax = f32::from(q_max(self.bits));
        launch!(cuda, "quantize_activation_forward", blocks(n), 256, x, &scales, &y, qmax, scales.len(), n);
        y
    }

    fn backward(self, cuda: &Cuda, [x]: [&Array; 1], _: &Array, gradient: Array, _: [bool; 1]) -> [Option<Array>; 1] {
        let (n, dx, scales) = (x.len(), cuda.array(x.len()), cuda.upload(&self.scales));
        let (qmax, channels) = (f32::from(q_max(self.bits)), scales.len());
        launch!(cuda, "quantize_activation_backward", blocks(n), 256, x, &scales, &gradient, &dx, qmax, channels, n);
        [Some(dx)]
    }
}
