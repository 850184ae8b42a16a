//! Perplexity of held-out text.
//!
//! `exp( - 1/N sum ln p(w_t | w_<t) )` over every token of the stream but the first. The stream is
//! cut into consecutive windows of `n_seq` tokens, with the state reset at each. The last window
//! may be shorter.

use crate::device::{Device, DeviceError, catch};
use crate::model::{LanguageModel, Leaves, Mode, Output};
use crate::numerics::Gradient;
use crate::ops::{FrozenHead, negative_log_likelihoods};
use crate::parameters::{Parameter, Parameters};
use resnet_bk_runtime::internal::architecture::Architecture;
use resnet_bk_runtime::internal::artifact::Artifact;
use resnet_bk_runtime::internal::model::Model;
use resnet_bk_runtime::internal::quantization::QuantizationPolicy;
use resnet_bk_runtime::internal::score::{self, windows};
use resnet_bk_runtime::internal::tensor_spec::TensorSpec;

/// Windows per forward pass of the training model.
pub(crate) const WINDOWS: usize = 64;

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
    let groups = run_model(parameters, tokens, |model, output, targets| vec![nats(model, &output, targets, &mut head)]);
    let nats = groups.iter().flatten().sum();
    Evaluation { tokens: tokens.len().saturating_sub(1), nats }
}

/// As [`evaluate_parameters`], and in the same pass the share of the tokens routed to each expert,
/// for each block.
pub fn evaluate_with_usage(parameters: &Parameters, tokens: &[u32]) -> (Evaluation, Vec<Vec<f64>>) {
    let mut head = None;
    let groups = run_model(parameters, tokens, |model, output, targets| {
        let mut numbers = routed(&output);
        numbers.push(nats(model, &output, targets, &mut head));
        numbers
    });
    let nats = groups.iter().filter_map(|group| group.last()).sum();
    (Evaluation { tokens: tokens.len().saturating_sub(1), nats }, shares(parameters, tokens, &groups))
}

/// Share of the tokens routed to each expert, for each block.
pub fn expert_usage(parameters: &Parameters, tokens: &[u32]) -> Vec<Vec<f64>> {
    let groups = run_model(parameters, tokens, |_, output, _| routed(&output));
    shares(parameters, tokens, &groups)
}

/// Sum of `-ln p` of a group of windows.
fn nats(model: &LanguageModel, output: &Output, targets: &[u32], head: &mut Option<FrozenHead>) -> f64 {
    let head = head.get_or_insert_with(|| model.frozen_head());
    negative_log_likelihoods(&output.hidden, targets, head).iter().map(|&x| f64::from(x)).sum()
}

/// Number of tokens routed to each expert, one block after the other.
fn routed(output: &Output) -> Vec<f64> {
    output.layers.iter().flat_map(|layer| layer.usage.values()).map(|&used| f64::from(used)).collect()
}

/// The shares of all tokens by the numbers of each group, which begin with those of [`routed`].
fn shares(parameters: &Parameters, tokens: &[u32], groups: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let mut usage: Vec<Vec<f64>> = parameters.architecture().experts.iter().map(|&count| vec![0.0; count]).collect();
    let predicted = tokens.len().saturating_sub(1) as f64;
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

/// Evaluates a decoded artifact: with the runtime on the CPU, or as a float model with the
/// artifact's values on a GPU.
///
/// # Errors
/// [`DeviceError`] if the device fails.
pub fn evaluate_artifact(artifact: &Artifact, tokens: &[u32], device: &Device) -> Result<Evaluation, DeviceError> {
    match device {
        Device::Cpu => Ok(evaluate_model(&artifact.to_model(), tokens)),
        Device::Cuda(_) => catch(|| evaluate_parameters(&decoded(artifact, device), tokens)),
    }
}

/// Parameters with the values of an artifact. They are rounded already, so only the quantizers of
/// activations remain.
fn decoded(artifact: &Artifact, device: &Device) -> Parameters {
    let quantization = artifact.architecture.quantization.as_ref().map(|policy| QuantizationPolicy {
        embedding_bits: None,
        expert_bits: None,
        router_bits: None,
        mixer_bits: None,
        bias_bits: None,
        learned: None,
        ..policy.clone()
    });
    let architecture = Architecture { quantization, ..artifact.architecture.clone() };
    let mut values = artifact.values();
    let find = |spec: &TensorSpec| values.remove(&spec.id).map(|values| Parameter::new(spec.clone(), values));
    let mut parameters = Parameters::from_found(architecture, find).expect("an artifact has all values of its model");
    parameters.set_device(device.clone());
    parameters
}

/// Evaluates a decoded model with the runtime.
pub fn evaluate_model(model: &Model, tokens: &[u32]) -> Evaluation {
    Evaluation { tokens: tokens.len().saturating_sub(1), nats: score::nats(model, tokens) }
}

/// Evaluates a decoded model, keeping the state between windows.
///
/// The model must be able to run beyond `n_seq` tokens: causal, without position embeddings.
pub fn evaluate_streaming(model: &Model, tokens: &[u32]) -> Evaluation {
    Evaluation { tokens: tokens.len().saturating_sub(1), nats: score::streaming_nats(model, tokens) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::ModelState;
    use crate::config::ModelConfig;
    use crate::export::pack;
    use resnet_bk_runtime::internal::tokenizer::{END_OF_LINE, Pretokenizer, UNKNOWN, Vocabulary};
    use std::sync::Arc;

    #[test]
    fn the_values_of_an_artifact_make_the_same_model() {
        let words = [UNKNOWN, END_OF_LINE].into_iter().map(str::to_owned).chain((2..50).map(|word| word.to_string()));
        let vocabulary = Vocabulary::new(words.collect(), Pretokenizer::Whitespace).unwrap();
        let mut model = ModelState::initialize(ModelConfig::preset("tiny").unwrap(), Arc::new(vocabulary), 1);
        let tokens: Vec<u32> = (0..200).map(|i| i * 7 % 50).collect();
        for policy in [None, Some(QuantizationPolicy { activation_bits: None, ..QuantizationPolicy::default() })] {
            let architecture = Architecture { quantization: policy, ..model.parameters.architecture().clone() };
            model.parameters = model.parameters.clone().with_architecture(architecture);
            let artifact = pack(&model).unwrap();
            let [runtime, values] = [
                evaluate_artifact(&artifact, &tokens, &Device::Cpu).unwrap(),
                evaluate_parameters(&decoded(&artifact, &Device::Cpu), &tokens),
            ];
            assert!((runtime.perplexity() / values.perplexity() - 1.0).abs() < 1e-5, "{runtime:?}, {values:?}");
        }
    }
}
