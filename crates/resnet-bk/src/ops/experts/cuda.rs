//! CUDA implementation: every expert works on all tokens, by products of several matrices at once.
//! Shapes are then fixed, and the products of a few small experts cost less than sorting the
//! tokens.

use super::{Experts, Forwarded};
use crate::buffer::Buffer;
use crate::device::Cuda;
use crate::device::cuda::{Arg, Array, blocks, launch};
use crate::kernels::DropoutMask;
use crate::ops::linear::{Maps, WeightGradients, affine_maps, weight_gradients};
use crate::tape::CudaOp;

/// As in `cuda.cu`.
#[repr(C)]
#[derive(Clone, Copy)]
struct ExpertSizes {
    tokens: u32,
    experts: u32,
    width: u32,
    hidden: u32,
}

impl CudaOp<3> for Experts {
    fn forward(&mut self, cuda: &Cuda, [x, weights, packed]: [&Array; 3]) -> Array {
        let (d, f, e, n) = (self.width, self.hidden_width(packed.len()), self.count, x.len() / self.width);
        let size = packed.len() / e;
        let sizes = self.sizes(n, f);
        let up = Maps { count: e, weights: packed, biases: None, stride: size, transposed: false };
        let products = affine_maps(cuda, x, up, [n, d, f], cuda.forward_math());
        let hidden = cuda.array(e * n * f);
        let (draw, threshold, keep, first_token) = DropoutMask::on_device(self.dropout);
        launch!(
            cuda,
            "expert_hidden_forward",
            blocks(e * n * f),
            256,
            &products,
            weights,
            packed,
            &hidden,
            Arg::by_value(&sizes),
            cuda.step_numbers(),
            draw,
            threshold,
            keep,
            first_token
        );
        let down_weights = packed.part(d * f + f, packed.len() - d * f - f);
        let outputs = affine_maps(cuda, &hidden, Maps { weights: &down_weights, ..up }, [n, f, d], cuda.forward_math());
        let y = cuda.array(n * d);
        launch!(cuda, "expert_mix", blocks(n * d), 256, &outputs, weights, packed, &y, Arg::by_value(&sizes));
        self.forwarded = Forwarded::Cuda { hidden: Buffer::on(cuda, hidden), outputs: Buffer::on(cuda, outputs) };
        y
    }

    fn backward(
        self,
        cuda: &Cuda,
        [x, weights, packed]: [&Array; 3],
        _: &Array,
        gradient: Array,
        _: [bool; 3],
    ) -> [Option<Array>; 3] {
        let Forwarded::Cuda { hidden, outputs } = &self.forwarded else { unreachable!("the forward pass ran there") };
        let (hidden, outputs) = (hidden.array(cuda), outputs.array(cuda));
        let (d, f, e, n) = (self.width, self.hidden_width(packed.len()), self.count, x.len() / self.width);
        let (size, math, sizes) = (packed.len() / e, cuda.gradient_math(), self.sizes(n, f));
        let (doutputs, dweights, dpacked) =
            (cuda.array(e * n * d), cuda.array(weights.len()), cuda.array(packed.len()));
        launch!(
            cuda,
            "expert_output_backward",
            blocks(32 * e * n),
            256,
            outputs,
            weights,
            packed,
            &gradient,
            &doutputs,
            &dweights,
            Arg::by_value(&sizes)
        );
        let down_weights = packed.part(d * f + f, packed.len() - d * f - f);
        let up = Maps { count: e, weights: packed, biases: None, stride: size, transposed: true };
        let dhidden = affine_maps(cuda, &doutputs, Maps { weights: &down_weights, ..up }, [n, d, f], math);
        // The parameters of an expert are U, a, W, b.
        let part = |first: usize| dpacked.part(first, packed.len() - first);
        let (weights_of, biases_of) = (part(d * f + f), part(2 * d * f + f));
        let ddown = WeightGradients { weights: &weights_of, biases: &biases_of, stride: size };
        weight_gradients(cuda, hidden, &doutputs, [e, n, f, d], &ddown);
        let dz = cuda.array(e * n * f);
        let keep = self.dropout.map_or(1.0, |mask| mask.keep());
        launch!(cuda, "expert_hidden_backward", blocks(dz.len()), 256, hidden, &dhidden, &dz, keep, dz.len());
        let biases_of = part(d * f);
        let dup = WeightGradients { weights: &dpacked, biases: &biases_of, stride: size };
        weight_gradients(cuda, x, &dz, [e, n, d, f], &dup);
        let dinputs = affine_maps(cuda, &dz, up, [n, f, d], math);
        let dx = cuda.array(n * d);
        launch!(cuda, "expert_input_backward", blocks(n * d), 256, &dinputs, weights, &dx, Arg::by_value(&sizes));
        [Some(dx), Some(dweights), Some(dpacked)]
    }
}

impl Experts {
    fn sizes(&self, tokens: usize, hidden: usize) -> ExpertSizes {
        let [tokens, experts, width, hidden] = [tokens, self.count, self.width, hidden].map(|size| size as u32);
        ExpertSizes { tokens, experts, width, hidden }
    }
}
