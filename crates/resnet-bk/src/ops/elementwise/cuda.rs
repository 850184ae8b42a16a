//! CUDA implementation: a thread an element.

use super::{Clamp, Exp, Gumbel, SiluGate};
use crate::device::Cuda;
use crate::device::cuda::{Array, blocks, launch};
use crate::tape::CudaOp;

impl CudaOp<2> for SiluGate {
    fn forward(&mut self, cuda: &Cuda, [y, gate]: [&Array; 2]) -> Array {
        let (n, z) = (y.len(), cuda.array(y.len()));
        launch!(cuda, "silu_gate_forward", blocks(n), 256, y, gate, &z, n);
        z
    }

    fn backward(
        self,
        cuda: &Cuda,
        [y, gate]: [&Array; 2],
        _: &Array,
        gradient: Array,
        _: [bool; 2],
    ) -> [Option<Array>; 2] {
        let (n, dy, dgate) = (y.len(), cuda.array(y.len()), cuda.array(y.len()));
        launch!(cuda, "silu_gate_backward", blocks(n), 256, y, gate, &gradient, &dy, &dgate, n);
        [Some(dy), Some(dgate)]
    }
}

impl CudaOp<1> for Exp {
    fn forward(&mut self, cuda: &Cuda, [x]: [&Array; 1]) -> Array {
        let (n, y) = (x.len(), cuda.array(x.len()));
        launch!(cuda, "exp_forward", blocks(n), 256, x, &y, n);
        y
    }

    fn backward(
        self,
        cuda: &Cuda,
        _: [&Array; 1],
        output: &Array,
        gradient: Array,
        _: [bool; 1],
    ) -> [Option<Array>; 1] {
        let (n, dx) = (output.len(), cuda.array(output.len()));
        launch!(cuda, "exp_backward", blocks(n), 256, output, &gradient, &dx, n);
        [Some(dx)]
    }
}

impl CudaOp<1> for Clamp {
    fn forward(&mut self, cuda: &Cuda, [x]: [&Array; 1]) -> Array {
        let (n, y) = (x.len(), cuda.array(x.len()));
        launch!(cuda, "clamp_forward", blocks(n), 256, x, &y, self.bound, n);
        y
    }

    fn backward(self, cuda: &Cuda, [x]: [&Array; 1], _: &Array, gradient: Array, _: [bool; 1]) -> [Option<Array>; 1] {
        let (n, dx) = (x.len(), cuda.array(x.len()));
        launch!(cuda, "clamp_backward", blocks(n), 256, x, &gradient, &dx, self.bound, n);
        [Some(dx)]
    }
}

impl CudaOp<1> for Gumbel {
    fn forward(&mut self, cuda: &Cuda, [x]: [&Array; 1]) -> Array {
        let (n, y) = (x.len(), cuda.array(x.len()));
        launch!(cuda, "gumbel_forward", blocks(n), 256, x, &y, self.scale, cuda.step_numbers(), self.draw.first(), n);
        y
    }

    fn backward(self, _: &Cuda, _: [&Array; 1], _: &Array, gradient: Array, _: [bool; 1]) -> [Option<Array>; 1] {
        [Some(gradient)]
    }
}
