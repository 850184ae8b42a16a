//! Perplexity of held-out text.
//!
//! `exp( - 1/N sum ln p(w_t | w_<t) )` over every token of the stream but the first, in consecutive windows of `n_seq`
//! tokens with the state reset at each; the last, shorter window counts too.

use crate::batch::windows;
use crate::model::{LanguageModel, Leaves, Mode};
use crate::ops::Gradient;
use crate::parameters::Parameters;
use rayon::prelude::*;
use resnet_bk_runtime::head::Head;
use resnet_bk_runtime::model::Model;

/// Windows that go through the Burn model at once.
const WINDOWS: usize = 16;
/// Rows of hidden states that one task scores.
const ROWS: usize = 64;

/// Result of an evaluation.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// Predicted tokens.
    pub tokens: usize,
    /// Sum of `-ln p`, in nats.
    pub nats: f64,
    /// Tokens that went through each expert, by block; empty where it was not counted.
    pub usage: Vec<Vec<usize>>,
}

impl Evaluation {
    /// `exp(nats / tokens)`.
    pub fn perplexity(&self) -> f64 {
        (self.nats / self.tokens as f64).exp()
    }
}

/// Evaluates the model in training, with its fake quantization, on Burn.
pub fn evaluate_parameters(parameters: &Parameters, tokens: &[u32]) -> Evaluation {
    let architecture = parameters.architecture();
    let leaves = Leaves::plain(parameters);
    let model = LanguageModel::bind(architecture, Gradient::Exact, &leaves);
    let values = |data: burn_tensor::TensorData| data.try_into_vec::<f32>().expect("float32 values");
    let (table, bias) = (values(model.head().0.to_data()), values(model.head().1.to_data()));
    let head = Head { table: &table, bias: &bias };
    let mut evaluation = Evaluation {
        tokens: 0,
        nats: 0.0,
        usage: architecture.experts.iter().map(|&experts| vec![0; experts]).collect(),
    };
    let all: Vec<(&[u32], &[u32])> = windows(tokens, architecture.n_seq).collect();
    // Only the last window can be shorter; chunks of one length keep each batch rectangular.
    for group in all.chunk_by(|a, b| a.0.len() == b.0.len()).flat_map(|same| same.chunks(WINDOWS)) {
        let inputs: Vec<u32> = group.iter().flat_map(|window| window.0).copied().collect();
        let targets: Vec<u32> = group.iter().flat_map(|window| window.1).copied().collect();
        let output = model.forward(&inputs, group[0].0.len(), &mut Mode::Evaluate);
        for (total, layer) in evaluation.usage.iter_mut().zip(&output.layers) {
            for (total, used) in total.iter_mut().zip(&layer.usage) {
                *total += used;
            }
        }
        let hidden = values(output.hidden.into_data());
        evaluation.nats += score(head, &hidden, &targets, architecture.d_model);
        evaluation.tokens += targets.len();
    }
    evaluation
}

fn score(head: Head, hidden: &[f32], targets: &[u32], width: usize) -> f64 {
    hidden
        .par_chunks(ROWS * width)
        .zip(targets.par_chunks(ROWS))
        .map(|(hidden, targets)| {
            head.negative_log_likelihoods(hidden, targets).iter().map(|&x| f64::from(x)).sum::<f64>()
        })
        .collect::<Vec<f64>>()
        .iter()
        .sum()
}

/// Evaluates a decoded model with the runtime.
pub fn evaluate_model(model: &Model, tokens: &[u32]) -> Evaluation {
    let nats = windows(tokens, model.architecture().n_seq)
        .collect::<Vec<_>>()
        .into_par_iter()
        .map(|(inputs, targets)| window_nats(model, inputs, targets, &mut model.start()))
        .collect::<Vec<f64>>()
        .iter()
        .sum();
    Evaluation { tokens: tokens.len().saturating_sub(1), nats, usage: Vec::new() }
}

/// Evaluates a decoded model with the state carried from window to window.
///
/// Only for models that can run on past `n_seq` tokens: causal, without position embeddings.
pub fn evaluate_streaming(model: &Model, tokens: &[u32]) -> Evaluation {
    let mut state = model.start();
    let nats = windows(tokens, model.architecture().n_seq)
        .map(|(inputs, targets)| window_nats(model, inputs, targets, &mut state))
        .sum();
    Evaluation { tokens: tokens.len().saturating_sub(1), nats, usage: Vec::new() }
}

fn window_nats(model: &Model, inputs: &[u32], targets: &[u32], state: &mut resnet_bk_runtime::model::State) -> f64 {
    let hidden = model.hidden(inputs, state);
    model.head().negative_log_likelihoods(&hidden, targets).iter().map(|&x| f64::from(x)).sum()
}
