//! The sparse mixture of experts. Equations in [`resnet_bk_runtime::internal::router`].

use super::{Leaves, Linear, Mode, Packed};
use crate::ops;
use crate::tape::Tensor;
use resnet_bk_runtime::internal::tensor_id::{BlockTensor, ModelTensor};

#[derive(Debug)]
pub(super) struct MixtureOfExperts {
    router: Linear,
    /// Packed parameters of all experts, in the layout of [`ops::experts`].
    table: Tensor,
    top_k: usize,
}

impl MixtureOfExperts {
    pub fn bind(leaves: &Leaves, block: usize, top_k: usize) -> Self {
        Self {
            router: Linear::bind(leaves, |part| ModelTensor::Block(block, BlockTensor::Router(part))),
            table: leaves.packed(Packed::Experts(block)),
            top_k,
        }
    }

    /// Output `[n, D]`, router logits `[n, E]`, and number of tokens routed to each expert `[1, E]`.
    pub fn forward(&self, x: &Tensor, mode: &mut Mode) -> (Tensor, Tensor, Tensor) {
        let logits = ops::linear(x, &self.router.weight, &self.router.bias);
        let weights = ops::gate_weights(&mode.perturb(&logits), self.top_k);
        let usage = ops::count_routed(&weights);
        (ops::experts(x, &weights, &self.table, mode.expert_dropout()), logits, usage)
    }
}
