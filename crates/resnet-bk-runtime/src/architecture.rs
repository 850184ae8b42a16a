//! The architecture of a model: sizes, mixer, and the canonical list of its tensors.
//!
//! Training, checkpoints and artifacts share the list: identities, shapes and order come from
//! [`Architecture::tensors`] alone.
//!
//! Letters: `V` vocabulary size, `D` model width, `H` resolvent heads, `E` experts, `F` expert
//! width, `T` window length.

use crate::embedding::{EmbeddingBin, TableLayout};
use crate::quantization::{QuantizationPolicy, Scheme};
use crate::tensor_id::{BlockTensor, ExpertMap, LinearPart, MixerMap, ModelTensor, NormPart};
use crate::tensor_spec::{Role, TensorSpec};
use serde::{Deserialize, Serialize};

/// How a block mixes information over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mixer {
    /// Features are diagonal entries of the resolvent of `diag(a0 + v) + hopping`.
    Diagonal,
    /// Features are the last row of the resolvent applied to a source. Stores content.
    Propagator,
}

/// Which tokens a position may depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Causality {
    /// Position `t` depends on tokens `0..=t`: a language model.
    Causal,
    /// Position `t` depends on the whole window, including the tokens to predict. Its perplexity is
    /// not that of a language model.
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
    /// Spectral shift `eta = Im z`, at least 0, `[H]`. Where eta is learned, its initial value.
    pub eta: Vec<f32>,
}

/// All settings that determine the tensors of a model and its forward pass.
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
    /// Number of experts in each block. The length of the list is the number of blocks.
    pub experts: Vec<usize>,
    /// Experts that each token is routed to.
    pub top_k: usize,
    /// The mixer of every block.
    pub mixer: Mixer,
    /// Which tokens a position may depend on.
    pub causality: Causality,
    /// Resolvent heads `H`.
    pub heads: usize,
    /// Whether learned position embeddings are added.
    pub positions: bool,
    /// Whether the head shares the embedding table.
    pub tied_embeddings: bool,
    /// Frequency bins of the embedding table; empty for a table of full rows. Bins require tied
    /// embeddings.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub embedding_bins: Vec<EmbeddingBin>,
    /// Number of knots of the bias curve, which is a part of the bias of the head; 0 for no curve.
    #[serde(default)]
    pub bias_knots: usize,
    /// Constants of the tridiagonal matrix.
    pub resolvent: ResolventConstants,
    /// Whether eta is a trained tensor (`mixer.log_eta`) instead of a constant.
    pub learned_eta: bool,
    /// Bound on the diagonal mixer's potential.
    pub v_max: f32,
    /// Bound on the diagonal mixer's features.
    pub feature_clamp: f32,
    /// How tensors and activations are quantized; `None` for a float model.
    pub quantization: Option<QuantizationPolicy>,
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
            list.push(ModelTensor::Embedding, &[v, d], Role::Embedding);
        }
        for (index, bin) in self.embedding_bins.iter().enumerate() {
            list.push(ModelTensor::BinRows(index), &[bin.words, bin.width], Role::Embedding);
            if bin.is_projected(d) {
                list.push(ModelTensor::BinProjection(index), &[bin.width, d], Role::Projection);
            }
        }
        if self.positions {
            list.push(ModelTensor::Positions, &[self.n_seq, d], Role::Positions);
        }
        for (index, &experts) in self.experts.iter().enumerate() {
            let block = |tensor| ModelTensor::Block(index, tensor);
            let mixer = |map| move |part| block(BlockTensor::Mixer(map, part));
            list.norm(|part| block(BlockTensor::Norm(part)), d);
            match self.mixer {
                Mixer::Diagonal => {
                    list.linear(mixer(MixerMap::Potential), d, h, Role::Mixer);
                    list.linear(mixer(MixerMap::Output), 2 * h, d, Role::Mixer);
                    list.push(block(BlockTensor::MixerScale), &[1], Role::Small);
                }
                Mixer::Propagator => {
                    list.linear(mixer(MixerMap::Hopping), d, h, Role::Mixer);
                    list.linear(mixer(MixerMap::Barrier), d, h, Role::Mixer);
                    list.linear(mixer(MixerMap::Source), d, 2 * h, Role::Mixer);
                    list.push(block(BlockTensor::MixerNorm), &[2 * h], Role::Small);
                    list.linear(mixer(MixerMap::Gate), d, d, Role::Mixer);
                    list.linear(mixer(MixerMap::Output), 2 * h, d, Role::Mixer);
                }
            }
            if self.learned_eta {
                list.push(block(BlockTensor::LogEta), &[h], Role::Small);
            }
            if self.quantizes_activations() {
                list.push(block(BlockTensor::PotentialScale), &[1], Role::ActivationScale);
                list.push(block(BlockTensor::FeatureScales), &[2 * h], Role::ActivationScale);
            }
            if self.mixer == Mixer::Propagator {
                list.norm(|part| block(BlockTensor::ExpertNorm(part)), d);
            }
            list.linear(|part| block(BlockTensor::Router(part)), d, experts, Role::Router);
            for expert in 0..experts {
                list.linear(|part| block(BlockTensor::Expert(expert, ExpertMap::Up, part)), d, f, Role::Expert);
                list.linear(|part| block(BlockTensor::Expert(expert, ExpertMap::Down, part)), f, d, Role::Expert);
            }
        }
        list.norm(ModelTensor::Norm, d);
        if !self.tied_embeddings {
            list.push(ModelTensor::Head, &[v, d], Role::Head);
        }
        list.push(ModelTensor::HeadBias, &[v], Role::HeadBias);
        if self.bias_knots > 0 {
            list.push(ModelTensor::HeadCurve, &[self.bias_knots], Role::Small);
        }
        match self.quantization.as_ref().filter(|policy| policy.learned.is_some()) {
            Some(policy) => list.with_log_scales(policy),
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

    /// Number of trained parameters: elements of all tensors except the scales of the activation
    /// quantizers.
    pub fn parameter_count(&self) -> usize {
        self.tensors().iter().filter(|spec| spec.is_trained()).map(TensorSpec::len).sum()
    }

    /// The quantizer of a tensor; `None` keeps it in float32.
    pub fn scheme(&self, spec: &TensorSpec) -> Option<Scheme> {
        self.quantization.as_ref().and_then(|policy| policy.scheme(spec))
    }

    /// Whether the potentials and features of the mixers are quantized.
    pub fn quantizes_activations(&self) -> bool {
        self.quantization.as_ref().is_some_and(|policy| policy.activation_bits.is_some())
    }
}

#[derive(Default)]
struct TensorList(Vec<TensorSpec>);

impl TensorList {
    /// The list, followed by the log scales of its tensors.
    fn with_log_scales(mut self, policy: &QuantizationPolicy) -> Vec<TensorSpec> {
        let log_scale = |spec: &TensorSpec| {
            policy.scheme(spec).map(|scheme| TensorSpec {
                id: spec.id.log_scales(),
                shape: vec![scheme.scale_count(spec.len())],
                role: Role::LogScale,
            })
        };
        let log_scales: Vec<TensorSpec> = self.0.iter().filter_map(log_scale).collect();
        self.0.extend(log_scales);
        self.0
    }

    fn push(&mut self, tensor: ModelTensor, shape: &[usize], role: Role) {
        self.0.push(TensorSpec { id: tensor.into(), shape: shape.to_vec(), role });
    }

    fn linear(&mut self, part: impl Fn(LinearPart) -> ModelTensor, input: usize, output: usize, role: Role) {
        self.push(part(LinearPart::Weight), &[input, output], role);
        self.push(part(LinearPart::Bias), &[output], Role::Small);
    }

    fn norm(&mut self, part: impl Fn(NormPart) -> ModelTensor, width: usize) {
        self.push(part(NormPart::Gamma), &[width], Role::Small);
        self.push(part(NormPart::Beta), &[width], Role::Small);
    }
}
