//! The sparse mixture of experts . Equations in [`resnet_bk_runtime::internal::router`].

use super::{Leaves, Linear, Mode, Packed};
use crate::ops;
use crate::tape::Tensor;
use resnet_bk_runtime::internal::tensor_id::{BlockTensor, ModelTensor};

#[derive(Debug)]
pub(super) struct MixtureOfExperts {
    router: Linear,
    /// Parameters of all experts, as [`ops::experts`] takes them.
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

    /// Output `[n, D]`, router logits `[n, E]`, and the tokens that went through each expert.
    pub fn forward(&self, x: &Tensor, mode: &mut Mode) -> (Tensor, Tensor, Vec<usize>) {
        let logits = self.router.forward(x);
        let weights = ops::gate_weights(&mode.perturb(&logits), self.top_k);
        let mut usage = vec![0; weights.columns()];
        for row in weights.values().chunks(usage.len()) {
            usage.iter_mut().zip(row).for_each(|(used, weight)| *used += usize::from(*weight != 0.0));
        }
        (ops::experts(x, &weights, &self.table, mode.expert_dropout()), logits, usage)
    }
}
