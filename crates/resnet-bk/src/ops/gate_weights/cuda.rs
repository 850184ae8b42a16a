//! CUDA implementation: a thread a token.

use super::{CountRouted, GateWeights};
use crate::device::Cuda;
use crate::device::cuda::{Array, blocks, launch};
use crate::tape::CudaOp;

impl CudaOp<1> for GateWeights {
    fn forward(&mut self, cuda: &Cuda, [logits]: [&Array; 1]) -> Array {
        let (tokens, weights) = (logits.len() / self.experts, cuda.array(logits.len()));
        launch!(cuda, "gate_weights_forward", blocks(tokens), 256, logits, &weights, tokens, self.experts, self.top_k);
        weights
    }

    fn backward(
        self,
        cuda: &Cuda,
        [logits]: [&Array; 1],
        output: &Array,
        gradient: Array,
        _: [bool; 1],
    ) -> [Option<Array>; 1] {
        let (tokens, dlogits) = (logits.len() / self.experts, cuda.array(logits.len()));
        let Self { experts, top_k } = self;
        launch!(
            cuda,
            "gate_weights_backward",
            blocks(tokens),
            256,
            logits,
            output,
            &gradient,
            &dlogits,
            tokens,
            experts,
            top_k
        );
        [Some(dlogits)]
    }
}

impl CudaOp<1> for CountRouted {
    fn forward(&mut self, cuda: &Cuda, [weights]: [&Array; 1]) -> Array {
        let usage = cuda.array(self.experts);
        launch!(cuda, "count_routed", self.experts, 1024, weights, &usage, weights.len() / self.experts, self.experts);
        usage
    }

    fn backward(self, cuda: &Cuda, [weights]: [&Array; 1], _: &Array, _: Array, _: [bool; 1]) -> [Option<Array>; 1] {
        [Some(cuda.zeros(weights.len()))]
    }
}
