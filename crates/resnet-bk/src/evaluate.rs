//! Perplexity of held-out text.
//!
//! `exp( - 1/N sum ln p(w_t | w_<t) )` over every token of the stream but the first. The stream is
//! cut into consecutive windows of `n_seq` tokens, with the state reset at each. The last window
//! may be shorter.

use crate::model::{LanguageModel, Leaves, Mode, Output};
use crate::numerics::Gradient;
use crate::ops::negative_log_likelihoods;
use crate::parameters::Parameters;
use resnet_bk_runtime::internal::model::Model;
use resnet_bk_runtime::internal::score::{self, windows};

/// Windows per forward pass of the training model.
const WINDOWS: usize = 64;

/// Result of an evaluation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evaluation {
    /// Predicted tokens.
    pub tokens: usize,
    /// Sum of `-ln p`, in nats.
    pub nats: f64,
}

impl Evaluation {
    /// `exp(nats / tokens)`.
    pub fn perplexity(&self) -> f64 {
        (self.nats / self.tokens as f64).exp()
    }
}

/// Evaluates the training model, with its fake quantization. Logits are computed one tile at a
/// time. With AMX, every factor of the head's products is a pair of bf16, independent of
/// `schedule.precision`; otherwise it is float32. See [`negative_log_likelihoods`].
pub fn evaluate_parameters(parameters: &Parameters, tokens: &[u32]) -> Evaluation {
    let mut head = None;
    let groups = run_model(parameters, tokens, |model, output, targets| {
        let head = head.get_or_insert_with(|| model.frozen_head());
        let losses = negative_log_likelihoods(&output.hidden, targets, head);
        vec![losses.iter().map(|&x| f64::from(x)).sum()]
    });
    let nats = groups.iter().flatten().sum();
    Evaluation { tokens: tokens.len().saturating_sub(1), nats }
}

/// Share of the tokens routed to each expert, for each block.
pub fn expert_usage(parameters: &Parameters, tokens: &[u32]) -> Vec<Vec<f64>> {
    let mut usage: Vec<Vec<f64>> = parameters.architecture().experts.iter().map(|&count| vec![0.0; count]).collect();
    let predicted = tokens.len().saturating_sub(1) as f64;
    let groups = run_model(parameters, tokens, |_, output, _| {
        output.layers.iter().flat_map(|layer| layer.usage.values()).map(|&used| f64::from(used)).collect()
    });
    for group in groups {
        for (total, used) in usage.iter_mut().flatten().zip(group) {
            *total += used / predicted;
        }
    }
    usage
}

/// Calls `visit(model, output, targets)` for groups of windows, and returns the numbers of all groups
/// in their order.
///
/// The groups are dealt over the model's ranks. What is added up is the same for any number of
/// ranks, to the last bit.
fn run_model(
    parameters: &Parameters,
    tokens: &[u32],
    mut visit: impl FnMut(&LanguageModel, Output, &[u32]) -> Vec<f64>,
) -> Vec<Vec<f64>> {
    let architecture = parameters.architecture();
    let leaves = Leaves::plain(parameters);
    let model = LanguageModel::bind(architecture, Gradient::Exact, &leaves);
    let all: Vec<(&[u32], &[u32])> = windows(tokens, architecture.n_seq).collect();
    // Only the last window can be shorter. Group windows of equal length, so that batches are
    // rectangular.
    let groups: Vec<&[(&[u32], &[u32])]> =
        all.chunk_by(|a, b| a.0.len() == b.0.len()).flat_map(|same| same.chunks(WINDOWS)).collect();
    parameters.ranks().deal(groups.len(), |index| {
        let group = groups[index];
        let inputs: Vec<u32> = group.iter().flat_map(|window| window.0).copied().collect();
        let targets: Vec<u32> = group.iter().flat_map(|window| window.1).copied().collect();
        visit(&model, model.forward(&inputs.into(), group[0].0.len(), &mut Mode::Evaluate), &targets)
    })
}

/// Evaluates a decoded model with the runtime.
pub fn evaluate_model(model: &Model, tokens: &[u32]) -> Evaluation {
    Evaluation { tokens: tokens.len().saturating_sub(1), nats: score::nats(model, tokens) }
}

/// Evaluates a decoded model, keeping the state between windows.
///
/// The model must be able to run beyond `n_seq` tokens: causal, without position embeddings.
pub fn evaluate_streaming(model: &Model, tokens: &[u32]) -> Evaluation {
    let mut state = model.start();
    let nats = windows(tokens, model.architecture().n_seq)
        .map(|(inputs, targets)| score::window_nats(model, inputs, targets, &mut state))
        .sum();
    Evaluation { tokens: tokens.len().saturating_sub(1), nats }
}
