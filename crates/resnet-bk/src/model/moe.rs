//! The sparse mixture of experts on Burn. Equations in [`resnet_bk_runtime::moe`].

use super::{Leaves, Linear, Mode};
use crate::ops;
use burn_tensor::{Tensor, activation::relu};
use resnet_bk_runtime::moe::assignments;

#[derive(Debug)]
pub(super) struct MixtureOfExperts {
    router: Linear,
    experts: Vec<(Linear, Linear)>,
    top_k: usize,
}

impl MixtureOfExperts {
    pub fn bind(leaves: &Leaves, name: &str, experts: usize, top_k: usize) -> Self {
        let expert = |e: usize, part: &str| Linear::bind(leaves, &format!("{name}.experts.{e}.{part}"));
        Self {
            router: Linear::bind(leaves, &format!("{name}.router")),
            experts: (0..experts).map(|e| (expert(e, "up"), expert(e, "down"))).collect(),
            top_k,
        }
    }

    /// Output `[n, D]`, router logits `[n, E]`, and the tokens that went through each expert.
    pub fn forward(&self, x: &Tensor<2>, mode: &mut Mode) -> (Tensor<2>, Tensor<2>, Vec<usize>) {
        let logits = self.router.forward(x);
        let weights = ops::gate_weights(&mode.perturb(&logits), self.top_k);
        let values = weights.to_data();
        let lists = assignments(values.as_slice::<f32>().expect("float32 weights"), self.experts.len());
        let usage: Vec<usize> = lists.iter().map(Vec::len).collect();
        let outputs: Vec<Tensor<2>> = lists
            .iter()
            .zip(&self.experts)
            .filter(|(list, _)| !list.is_empty())
            .map(|(list, (up, down))| {
                let gathered = ops::select_rows(x, list.as_slice().into());
                down.forward(&mode.dropout(&relu(up.forward(&gathered))))
            })
            .collect();
        (ops::mix_experts(&Tensor::cat(outputs, 0), &weights, &lists), logits, usage)
    }
}
