//! The language model in training: the equations of [`resnet_bk_runtime::internal::model`], with
//! gradients.
//!
//! For each step a model is bound to [`Leaves`], the tensors of its parameters. The leaves already
//! hold rounded weights, so the model only quantizes activations.

mod cuda;
mod leaves;
mod moe;
mod noise;
mod quantizer_gradient;
mod state;

pub use leaves::{Leaves, Packed, ParameterGradients};
pub use noise::{Mode, Noise};
pub use state::CarriedState;

use crate::batch::Batch;
use crate::buffer::Buffer;
use crate::device::Device;
use crate::numerics::Gradient;
use crate::ops::{self, Carry, FrozenHead, HeadLoss, ResolventOp};
use crate::tape::Tensor;
use crate::token_ids::TokenIds;
use moe::MixtureOfExperts;
use resnet_bk_runtime::internal::architecture::{Architecture, Causality, Mixer};
use resnet_bk_runtime::internal::embedding::TableLayout;
use resnet_bk_runtime::internal::tensor_id::{BlockTensor, LinearPart, MixerMap, ModelTensor, NormPart};

/// A model bound to one set of leaves.
#[derive(Debug)]
pub struct LanguageModel {
    architecture: Architecture,
    gradient: Gradient,
    layout: TableLayout,
    embedding: Tensor,
    positions: Option<Tensor>,
    blocks: Vec<Block>,
    norm: LayerNorm,
    head_layout: TableLayout,
    head_table: Tensor,
    head_bias: Tensor,
}

/// Result of a forward pass.
#[derive(Debug)]
pub struct Output {
    /// Hidden states after the last norm, `[n, D]`; in training with the head's dropout.
    pub hidden: Tensor,
    /// One entry per block.
    pub layers: Vec<LayerOutput>,
}

/// Intermediate values of one block.
#[derive(Debug)]
pub struct LayerOutput {
    /// The resolvent's input before its quantizer, `[n, H]`.
    pub potential: Tensor,
    /// The resolvent's features before their quantizer, `[n, 2H]`.
    pub features: Tensor,
    /// Router logits, without noise, `[n, E]`.
    pub router_logits: Tensor,
    /// Number of tokens routed to each expert, `[1, E]`.
    pub usage: Tensor,
}

/// Runs a forward pass of a training step. On a GPU, its products have the format of the gradients'
/// (see [`Precision`](crate::numerics::Precision)), unless small differences could change a decision: of
/// a router that chooses experts, or of quantizers of activations.
pub fn forward_of_step<T>(architecture: &Architecture, device: &Device, body: impl FnOnce() -> T) -> T {
    let chooses = architecture.experts.iter().any(|&experts| experts > architecture.top_k);
    match device {
        Device::Cpu => body(),
        Device::Cuda(cuda) => cuda.forward_of_step(!chooses && !architecture.quantizes_activations(), body),
    }
}

#[derive(Debug)]
struct Linear {
    weight: Tensor,
    bias: Tensor,
}

impl Linear {
    fn bind(leaves: &Leaves, tensor: impl Fn(LinearPart) -> ModelTensor) -> Self {
        Self { weight: leaves.tensor(tensor(LinearPart::Weight)), bias: leaves.tensor(tensor(LinearPart::Bias)) }
    }

    /// The map with DropConnect (Wan and others, ICML 2013): dropout of its weights.
    fn forward(&self, x: &Tensor, mode: &mut Mode) -> Tensor {
        ops::linear(x, &self.weight(mode), &self.bias)
    }

    fn weight(&self, mode: &mut Mode) -> Tensor {
        ops::dropout(&self.weight, mode.weight_dropout())
    }
}

#[derive(Debug)]
struct LayerNorm {
    gamma: Tensor,
    beta: Tensor,
}

impl LayerNorm {
    fn bind(leaves: &Leaves, tensor: impl Fn(NormPart) -> ModelTensor) -> Self {
        Self { gamma: leaves.tensor(tensor(NormPart::Gamma)), beta: leaves.tensor(tensor(NormPart::Beta)) }
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        ops::layer_norm(x, &self.gamma, &self.beta)
    }
}

#[derive(Debug)]
struct Block {
    norm: LayerNorm,
    mixer: MixerWeights,
    eta: Tensor,
    activations: Option<ActivationQuantizers>,
    moe: MixtureOfExperts,
}

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "a model holds a handful of them")]
enum MixerWeights {
    Diagonal {
        potential: Linear,
        output: Linear,
        scale: Tensor,
    },
    Propagator {
        hopping: Linear,
        barrier: Linear,
        source: Linear,
        norm: Tensor,
        gate: Linear,
        output: Linear,
        moe_norm: LayerNorm,
    },
}

/// Quantizers of a block's activations, with calibrated scales.
#[derive(Debug)]
struct ActivationQuantizers {
    bits: u8,
    potential: Vec<f32>,
    features: Vec<f32>,
}

impl ActivationQuantizers {
    fn round_potential(&self, x: &Tensor) -> Tensor {
        ops::fake_quantize_activation(x, self.potential.clone(), self.bits)
    }

    fn round_features(&self, x: &Tensor) -> Tensor {
        ops::fake_quantize_activation(x, self.features.clone(), self.bits)
    }
}

impl LanguageModel {
    /// Binds the tensors of a model.
    pub fn bind(architecture: &Architecture, gradient: Gradient, leaves: &Leaves) -> Self {
        let (embedding, layout) = (leaves.packed(Packed::Embedding), architecture.embedding_layout());
        let bias = leaves.tensor(ModelTensor::HeadBias);
        let (head_table, head_layout) = match architecture.tied_embeddings {
            true => (embedding.clone(), layout.clone()),
            false => (leaves.packed(Packed::Head), TableLayout::full(architecture.vocab_size, architecture.d_model)),
        };
        let blocks = (0..architecture.n_layers()).map(|index| Block::bind(architecture, leaves, index)).collect();
        Self {
            gradient,
            positions: architecture.positions.then(|| leaves.tensor(ModelTensor::Positions)),
            blocks,
            norm: LayerNorm::bind(leaves, ModelTensor::Norm),
            head_table,
            head_layout,
            head_bias: match architecture.bias_knots {
                0 => bias,
                _ => ops::head_bias(&bias, &leaves.tensor(ModelTensor::HeadCurve)),
            },
            embedding,
            layout,
            architecture: architecture.clone(),
        }
    }

    /// Mean loss of the head for hidden states of this model, `[1, 1]`.
    pub fn head_loss(&self, loss: HeadLoss, hidden: &Tensor) -> Tensor {
        ops::head_loss(loss, &self.head_layout, hidden, &self.head_table, &self.head_bias)
    }

    /// A copy of the head's current values.
    pub fn frozen_head(&self) -> FrozenHead {
        let values = |tensor: &Tensor| tensor.clone().into_buffer();
        FrozenHead { layout: self.head_layout.clone(), table: values(&self.head_table), bias: values(&self.head_bias) }
    }

    /// Runs consecutive sequences of `length` tokens, each from the initial state.
    ///
    /// # Shapes
    /// - `tokens`: `[n]`, a multiple of `length`, each below `V`; `length` at most `n_seq` if the
    ///   model has positions
    ///
    /// # Panics
    /// If `tokens` is not a multiple of `length`, or `length` is 0.
    pub fn forward(&self, tokens: &TokenIds, length: usize, mode: &mut Mode) -> Output {
        self.run(tokens, length, None, mode)
    }

    /// Runs consecutive sequences of `length` tokens, each from its own state: one of each block, with
    /// the shapes of [`Carry`]. No gradient flows into the states. Returns the states after the
    /// sequences too.
    ///
    /// # Panics
    /// As [`forward`](Self::forward). If the model cannot run beyond a window: it has positions, or is
    /// bidirectional.
    pub fn forward_from(
        &self,
        states: &[Buffer],
        tokens: &TokenIds,
        length: usize,
        mode: &mut Mode,
    ) -> (Output, Vec<Buffer>) {
        assert!(
            !self.architecture.positions && self.architecture.causality == Causality::Causal,
            "only a causal model without positions carries a state"
        );
        assert_eq!(states.len(), self.blocks.len(), "states of the blocks");
        let carries: Vec<Carry> = states.iter().cloned().map(Carry::new).collect();
        let output = self.run(tokens, length, Some(&carries), mode);
        (output, carries.iter().map(Carry::after).collect())
    }

    /// Runs the windows of a batch, each from its state in `before` if there are states. Returns the
    /// states after them too, then.
    ///
    /// # Panics
    /// As [`forward_from`](Self::forward_from).
    pub fn forward_batch(&self, before: Option<&[Buffer]>, batch: &Batch, mode: &mut Mode) -> (Output, Vec<Buffer>) {
        match before {
            Some(before) => self.forward_from(before, &batch.inputs, batch.n_seq, mode),
            None => (self.forward(&batch.inputs, batch.n_seq, mode), Vec::new()),
        }
    }

    fn run(&self, tokens: &TokenIds, length: usize, carries: Option<&[Carry]>, mode: &mut Mode) -> Output {
        assert!(length > 0 && tokens.len().is_multiple_of(length), "{} tokens in sequences of {length}", tokens.len());
        let dropout = mode.embedding_dropout();
        let positions = self.positions.as_ref();
        let mut x = ops::embed(tokens.clone(), length, &self.layout, &self.embedding, positions, dropout);
        let mut layers = Vec::with_capacity(self.blocks.len());
        for (index, block) in self.blocks.iter().enumerate() {
            let carry = carries.map(|carries| &carries[index]);
            let (y, layer) = block.forward(self, x, length, carry, mode);
            x = y;
            layers.push(layer);
        }
        Output { hidden: ops::dropout(&self.norm.forward(&x), mode.head_dropout()), layers }
    }
}

impl Block {
    fn bind(architecture: &Architecture, leaves: &Leaves, index: usize) -> Self {
        let tensor = |tensor| ModelTensor::Block(index, tensor);
        let linear = |map| Linear::bind(leaves, |part| tensor(BlockTensor::Mixer(map, part)));
        Self {
            norm: LayerNorm::bind(leaves, |part| tensor(BlockTensor::Norm(part))),
            mixer: match architecture.mixer {
                Mixer::Diagonal => MixerWeights::Diagonal {
                    potential: linear(MixerMap::Potential),
                    output: linear(MixerMap::Output),
                    scale: leaves.tensor(tensor(BlockTensor::MixerScale)),
                },
                Mixer::Propagator => MixerWeights::Propagator {
                    hopping: linear(MixerMap::Hopping),
                    barrier: linear(MixerMap::Barrier),
                    source: linear(MixerMap::Source),
                    norm: leaves.tensor(tensor(BlockTensor::MixerNorm)),
                    gate: linear(MixerMap::Gate),
                    output: linear(MixerMap::Output),
                    moe_norm: LayerNorm::bind(leaves, |part| tensor(BlockTensor::ExpertNorm(part))),
                },
            },
            eta: if architecture.learned_eta {
                ops::exp(&leaves.tensor(tensor(BlockTensor::LogEta)))
            } else {
                Tensor::constant(architecture.resolvent.eta.clone().into(), [1, architecture.heads])
            },
            activations: architecture.quantization.as_ref().and_then(|policy| policy.activation_bits).map(|bits| {
                let scales = |scales| leaves.tensor(tensor(scales)).values().to_vec();
                ActivationQuantizers {
                    bits,
                    potential: scales(BlockTensor::PotentialScale),
                    features: scales(BlockTensor::FeatureScales),
                }
            }),
            moe: MixtureOfExperts::bind(leaves, index, architecture.top_k),
        }
    }

    fn forward(
        &self,
        model: &LanguageModel,
        x: Tensor,
        length: usize,
        carry: Option<&Carry>,
        mode: &mut Mode,
    ) -> (Tensor, LayerOutput) {
        let architecture = &model.architecture;
        let quantizers = self.activations.as_ref();
        let round_potential = |x: &Tensor| quantizers.map_or(x.clone(), |q| q.round_potential(x));
        let round_features = |x: &Tensor| quantizers.map_or(x.clone(), |q| q.round_features(x));
        let normed = self.norm.forward(&x);
        match &self.mixer {
            MixerWeights::Diagonal { potential, output, scale } => {
                let (ffn, router_logits, usage) = self.moe.forward(&normed, mode);
                let v = ops::clamp(&potential.forward(&ffn, mode), architecture.v_max);
                let op = ResolventOp {
                    diagonal: architecture.resolvent.diagonal.clone(),
                    hopping: architecture.resolvent.hopping.clone(),
                    length,
                    causality: architecture.causality,
                    gradient: model.gradient,
                    carry: carry.cloned(),
                };
                let features = ops::resolvent(op, &round_potential(&v), &self.eta);
                let features = ops::clamp(&features, architecture.feature_clamp);
                let mixed = round_features(&features);
                let x = ops::mix_features(&x, &ffn, &mixed, (&output.weight(mode), &output.bias), scale);
                (x, LayerOutput { potential: v, features, router_logits, usage })
            }
            MixerWeights::Propagator { hopping, barrier, source, norm, gate, output, moe_norm } => {
                // The order matters: the gradients of `normed` are added in the reverse order.
                let hop = hopping.forward(&normed, mode);
                let v = barrier.forward(&normed, mode);
                let u = source.forward(&normed, mode);
                let features = ops::propagator(&hop, &round_potential(&v), &u, &self.eta, length, carry);
                let waves = ops::rms_norm(&round_features(&features), norm);
                let mixed = ops::silu_gate(&output.forward(&waves, mode), &gate.forward(&normed, mode));
                let x = ops::add_dropped(&x, &mixed, mode.mixer_dropout());
                let (ffn, router_logits, usage) = self.moe.forward(&moe_norm.forward(&x), mode);
                (ops::add_dropped(&x, &ffn, None), LayerOutput { potential: v, features, router_logits, usage })
            }
        }
    }
}
