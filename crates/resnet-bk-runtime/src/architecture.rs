//! What a model is made of: sizes, the mixer, and the canonical list of its tensors.
//!
//! The list is the contract between training, checkpoints and artifacts: names, shapes and order come from
//! [`Architecture::tensors`] alone.
//!
//! Letters: `V` vocabulary, `D` model width, `H` resolvent heads, `E` experts, `F` expert width, `T` sequence length.

use crate::embedding::{EmbeddingBin, TableLayout};
use crate::quantization::{QuantizationPolicy, Scheme};
use serde::{Deserialize, Serialize};

/// How a block mixes information over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mixer {
    /// Features are diagonal entries of the resolvent of `diag(a0 + v) + hopping`.
    Diagonal,
    /// Features are the last row of the resolvent applied to a source; remembers content.
    Propagator,
}

/// Which tokens a position may depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Causality {
    /// Position `t` sees tokens `0..=t`: a language model.
    Causal,
    /// Position `t` sees the whole window, the tokens it should predict included: not a causal perplexity.
    Bidirectional,
}

/// The constants of the tridiagonal matrix, one value per head.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResolventConstants {
    /// Constant part `a0` of the diagonal (diagonal mixer only), `[H]`.
    pub diagonal: Vec<f32>,
    /// Off-diagonal `s` (diagonal mixer only), `[H]`.
    pub hopping: Vec<f32>,
    /// Spectral shift `eta = Im z`, at least 0, `[H]`. The start value where eta is learned.
    pub eta: Vec<f32>,
}

/// Everything that fixes a model's tensors and its forward pass.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Architecture {
    /// Vocabulary size `V`.
    pub vocab_size: usize,
    /// Model width `D`.
    pub d_model: usize,
    /// Sequence length `T` of a training and evaluation window, in tokens.
    pub n_seq: usize,
    /// Hidden width `F` of an expert.
    pub d_ff: usize,
    /// Experts in each block; its length is the number of blocks.
    pub experts: Vec<usize>,
    /// Experts that each token is routed to.
    pub top_k: usize,
    /// The mixer of every block.
    pub mixer: Mixer,
    /// Which tokens a position may see.
    pub causality: Causality,
    /// Resolvent heads `H`.
    pub heads: usize,
    /// Whether learned position embeddings are added.
    pub positions: bool,
    /// Whether the head shares the embedding table.
    pub tied_embeddings: bool,
    /// Bins of the embedding table where rare words have narrow rows; empty for full rows. They need a shared table.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub embedding_bins: Vec<EmbeddingBin>,
    /// Knots of the curve over the words' ranks that is part of the head's bias; 0 for none.
    #[serde(default)]
    pub bias_knots: usize,
    /// Constants of the tridiagonal matrix.
    pub resolvent: ResolventConstants,
    /// Whether eta is a trained tensor (`mixer.log_eta`) instead of the constant.
    pub learned_eta: bool,
    /// Bound on the diagonal mixer's potential.
    pub v_max: f32,
    /// Bound on the diagonal mixer's features.
    pub feature_clamp: f32,
    /// How tensors and activations are quantized; `None` for a float model.
    pub quantization: Option<QuantizationPolicy>,
}

/// What part a tensor plays, which decides how it may be quantized.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Input embedding table (and head, where tied).
    Embedding,
    /// Matrix that widens a bin's rows.
    Projection,
    /// Position embeddings.
    Positions,
    /// Output head table.
    Head,
    /// Output head bias.
    HeadBias,
    /// An expert's weight matrix.
    Expert,
    /// A router's weight matrix.
    Router,
    /// A mixer's weight matrix.
    Mixer,
    /// Norms, small biases and learned scalars; only trained quantizers round them.
    Small,
    /// Calibrated step sizes of the activation quantizers: constants, not trained by gradient.
    ActivationScale,
    /// Logarithms of trained quantizer steps.
    Step,
}

/// Name, shape and part of one tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// Dotted path, for example `blocks.0.moe.experts.1.up.weight`.
    pub name: String,
    /// Row-major shape. Matrices of linear maps are `[in, out]`; tables are `[V, D]`.
    pub shape: Vec<usize>,
    /// The part it plays.
    pub role: Role,
}

impl TensorSpec {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether the tensor has no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Columns of a matrix or table; 1 for a vector.
    pub fn columns(&self) -> usize {
        if self.shape.len() == 2 { self.shape[1] } else { 1 }
    }

    /// Whether gradient steps change it.
    pub fn is_trained(&self) -> bool {
        self.role != Role::ActivationScale
    }
}

impl Architecture {
    /// Number of blocks.
    pub fn n_layers(&self) -> usize {
        self.experts.len()
    }

    /// Every tensor of the model in canonical order.
    pub fn tensors(&self) -> Vec<TensorSpec> {
        let mut list = TensorList::default();
        let (v, d, h, f) = (self.vocab_size, self.d_model, self.heads, self.d_ff);
        if self.embedding_bins.is_empty() {
            list.push("embedding.weight", &[v, d], Role::Embedding);
        }
        for (index, bin) in self.embedding_bins.iter().enumerate() {
            let name = format!("embedding.bins.{index}");
            list.push(&format!("{name}.weight"), &[bin.words, bin.width], Role::Embedding);
            if bin.is_projected(d) {
                list.push(&format!("{name}.projection"), &[bin.width, d], Role::Projection);
            }
        }
        if self.positions {
            list.push("positions.weight", &[self.n_seq, d], Role::Positions);
        }
        for (index, &experts) in self.experts.iter().enumerate() {
            let block = format!("blocks.{index}");
            list.norm(&format!("{block}.norm"), d);
            let mixer = format!("{block}.mixer");
            match self.mixer {
                Mixer::Diagonal => {
                    list.linear(&format!("{mixer}.potential"), d, h, Role::Mixer);
                    list.linear(&format!("{mixer}.output"), 2 * h, d, Role::Mixer);
                    list.push(&format!("{mixer}.scale"), &[1], Role::Small);
                }
                Mixer::Propagator => {
                    list.linear(&format!("{mixer}.hopping"), d, h, Role::Mixer);
                    list.linear(&format!("{mixer}.barrier"), d, h, Role::Mixer);
                    list.linear(&format!("{mixer}.source"), d, 2 * h, Role::Mixer);
                    list.push(&format!("{mixer}.norm.gamma"), &[2 * h], Role::Small);
                    list.linear(&format!("{mixer}.gate"), d, d, Role::Mixer);
                    list.linear(&format!("{mixer}.output"), 2 * h, d, Role::Mixer);
                }
            }
            if self.learned_eta {
                list.push(&format!("{mixer}.log_eta"), &[h], Role::Small);
            }
            if self.quantizes_activations() {
                list.push(&format!("{mixer}.potential_step"), &[1], Role::ActivationScale);
                list.push(&format!("{mixer}.feature_step"), &[2 * h], Role::ActivationScale);
            }
            if self.mixer == Mixer::Propagator {
                list.norm(&format!("{block}.moe_norm"), d);
            }
            list.linear(&format!("{block}.moe.router"), d, experts, Role::Router);
            for expert in 0..experts {
                let expert = format!("{block}.moe.experts.{expert}");
                list.linear(&format!("{expert}.up"), d, f, Role::Expert);
                list.linear(&format!("{expert}.down"), f, d, Role::Expert);
            }
        }
        list.norm("norm", d);
        if !self.tied_embeddings {
            list.push("head.weight", &[v, d], Role::Head);
        }
        list.push("head.bias", &[v], Role::HeadBias);
        if self.bias_knots > 0 {
            list.push("head.curve", &[self.bias_knots], Role::Small);
        }
        match self.quantization.as_ref().filter(|policy| policy.learned.is_some()) {
            Some(policy) => list.with_steps(policy),
            None => list.0,
        }
    }

    /// How the embedding table is laid out.
    pub fn embedding_layout(&self) -> TableLayout {
        match self.embedding_bins.as_slice() {
            [] => TableLayout::full(self.vocab_size, self.d_model),
            bins => TableLayout { bins: bins.to_vec(), d_model: self.d_model },
        }
    }

    /// Number of trained parameters: elements of all tensors but the activation quantizers' steps.
    pub fn parameter_count(&self) -> usize {
        self.tensors().iter().filter(|spec| spec.is_trained()).map(TensorSpec::len).sum()
    }

    /// The quantizer of a tensor, `None` where it is kept in float32.
    pub fn scheme(&self, spec: &TensorSpec) -> Option<Scheme> {
        self.quantization.as_ref().and_then(|policy| policy.scheme(spec))
    }

    /// Whether the mixers' potentials and features pass through quantizers.
    pub fn quantizes_activations(&self) -> bool {
        self.quantization.as_ref().is_some_and(|policy| policy.activation_bits.is_some())
    }
}

/// Name of the trained steps of a tensor.
pub fn log_step_name(tensor: &str) -> String {
    format!("{tensor}.log_step")
}

#[derive(Default)]
struct TensorList(Vec<TensorSpec>);

impl TensorList {
    /// The list, then the trained steps of its tensors.
    fn with_steps(mut self, policy: &QuantizationPolicy) -> Vec<TensorSpec> {
        let step = |spec: &TensorSpec| {
            policy.scheme(spec).map(|scheme| TensorSpec {
                name: log_step_name(&spec.name),
                shape: vec![scheme.scale_count(spec.len())],
                role: Role::Step,
            })
        };
        let steps: Vec<TensorSpec> = self.0.iter().filter_map(step).collect();
        self.0.extend(steps);
        self.0
    }

    fn push(&mut self, name: &str, shape: &[usize], role: Role) {
        self.0.push(TensorSpec { name: name.to_owned(), shape: shape.to_vec(), role });
    }

    fn linear(&mut self, name: &str, input: usize, output: usize, role: Role) {
        self.push(&format!("{name}.weight"), &[input, output], role);
        self.push(&format!("{name}.bias"), &[output], Role::Small);
    }

    fn norm(&mut self, name: &str, width: usize) {
        self.push(&format!("{name}.gamma"), &[width], Role::Small);
        self.push(&format!("{name}.beta"), &[width], Role::Small);
    }
}
