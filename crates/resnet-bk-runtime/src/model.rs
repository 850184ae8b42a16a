//! The model that runs: decoded weights, and the state that one sequence carries from token to token.
//!
//! ```text
//! x = embedding[token] (+ position)
//! diagonal     n = norm(x); f = moe(n); v = clamp(W_v f); y = f + scale * W_o clamp(resolvent(v));     x += y
//! propagator   n = norm(x); y = W_o rms_norm(psi(n)) * silu(W_g n);     x += y;     x += moe(moe_norm(x))
//! logits = head(norm(x))
//! ```
//!
//! One function serves both a window and a single step: [`Model::hidden`] goes on from the state it is given.

use crate::architecture::{Architecture, Causality, Mixer};
use crate::head::Head;
use crate::kernels::{exp, linear, silu_gate};
use crate::moe::{assignments, gate_weights};
use crate::norm::{layer_norm, rms_norm};
use crate::quantization::fake_quantize_channels;
use crate::resolvent::{Chain, PropagatorInput, PropagatorState, propagate};
use thiserror::Error;

/// Why a model can not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ModelError {
    /// A tensor is missing or has a wrong number of elements.
    #[error("tensor {name}: {found} elements, expected {expected}")]
    Tensor {
        /// Its canonical name.
        name: String,
        /// Elements found; 0 where it is missing.
        found: usize,
        /// Elements expected.
        expected: usize,
    },
    /// Token by token is asked of a model that sees the future.
    #[error("a bidirectional model sees the token it should predict: it can be evaluated, but can not generate")]
    NotCausal,
}

/// A decoded model.
#[derive(Clone, Debug)]
pub struct Model {
    architecture: Architecture,
    embedding: Vec<f32>,
    positions: Option<Vec<f32>>,
    blocks: Vec<Block>,
    norm: LayerNorm,
    head: Option<Vec<f32>>,
    head_bias: Vec<f32>,
}

/// What one sequence carries: the position and each block's resolvent state.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    position: usize,
    blocks: Vec<PropagatorState>,
}

impl State {
    /// Tokens seen so far.
    pub fn position(&self) -> usize {
        self.position
    }
}

#[derive(Clone, Debug)]
struct Linear {
    weight: Vec<f32>,
    bias: Vec<f32>,
}

impl Linear {
    fn forward(&self, x: &[f32]) -> Vec<f32> {
        let rows = x.len() * self.bias.len() / self.weight.len();
        let mut out = vec![0.0; rows * self.bias.len()];
        linear(x, &self.weight, &self.bias, &mut out);
        out
    }
}

#[derive(Clone, Debug)]
struct LayerNorm {
    gamma: Vec<f32>,
    beta: Vec<f32>,
}

impl LayerNorm {
    fn forward(&self, x: &[f32]) -> Vec<f32> {
        let mut out = vec![0.0; x.len()];
        layer_norm(x, &self.gamma, &self.beta, &mut out);
        out
    }
}

#[derive(Clone, Debug)]
struct Block {
    norm: LayerNorm,
    mixer: MixerWeights,
    eta: Vec<f32>,
    /// Steps of the quantizers of the potential and of the features, where activations are quantized.
    activation_steps: Option<(Vec<f32>, Vec<f32>)>,
    moe: MixtureOfExperts,
}

#[derive(Clone, Debug)]
enum MixerWeights {
    Diagonal {
        potential: Linear,
        output: Linear,
        scale: f32,
    },
    Propagator {
        hopping: Linear,
        barrier: Linear,
        source: Linear,
        norm: Vec<f32>,
        gate: Linear,
        output: Linear,
        moe_norm: LayerNorm,
    },
}

#[derive(Clone, Debug)]
struct MixtureOfExperts {
    router: Linear,
    experts: Vec<(Linear, Linear)>,
}

impl MixtureOfExperts {
    fn forward(&self, x: &[f32], top_k: usize, width: usize) -> Vec<f32> {
        let count = self.experts.len();
        let weights = gate_weights(&self.router.forward(x), count, top_k);
        let mut out = vec![0.0; x.len()];
        for (index, (tokens, (up, down))) in assignments(&weights, count).iter().zip(&self.experts).enumerate() {
            let gathered: Vec<f32> = tokens.iter().flat_map(|&t| &x[t * width..][..width]).copied().collect();
            let mut hidden = up.forward(&gathered);
            for h in &mut hidden {
                *h = h.max(0.0);
            }
            for (y, &token) in down.forward(&hidden).chunks(width).zip(tokens) {
                let weight = weights[token * count + index];
                for (out, y) in out[token * width..][..width].iter_mut().zip(y) {
                    *out += weight * y;
                }
            }
        }
        out
    }
}

impl Model {
    /// Builds a model from its tensors, found by canonical name.
    ///
    /// # Errors
    /// [`ModelError::Tensor`] where one is missing or has a wrong size.
    ///
    /// # Panics
    /// If the architecture is not valid.
    pub fn new(architecture: Architecture, find: impl FnMut(&str) -> Option<Vec<f32>>) -> Result<Self, ModelError> {
        let mut tensors =
            Tensors { specs: architecture.tensors().into_iter().map(|s| (s.name.clone(), s.len())).collect(), find };
        let blocks = (0..architecture.n_layers())
            .map(|index| tensors.block(&architecture, index))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            embedding: tensors.take("embedding.weight")?,
            positions: architecture.positions.then(|| tensors.take("positions.weight")).transpose()?,
            blocks,
            norm: tensors.layer_norm("norm")?,
            head: (!architecture.tied_embeddings).then(|| tensors.take("head.weight")).transpose()?,
            head_bias: tensors.take("head.bias")?,
            architecture,
        })
    }

    /// Sizes and kind of the model.
    pub fn architecture(&self) -> &Architecture {
        &self.architecture
    }

    /// The output head.
    pub fn head(&self) -> Head<'_> {
        Head { table: self.head.as_ref().unwrap_or(&self.embedding), bias: &self.head_bias }
    }

    /// The state before the first token of a sequence.
    pub fn start(&self) -> State {
        State { position: 0, blocks: vec![PropagatorState::new(self.architecture.heads); self.blocks.len()] }
    }

    /// Hidden states of the next tokens of a sequence, after the last norm; `state` moves on.
    ///
    /// A bidirectional model takes the tokens as one whole window and leaves the recurrent state alone. Past `n_seq` tokens,
    /// position embeddings stay at the last one.
    ///
    /// # Shapes
    /// - `tokens`: `[n]`, each below `V`
    /// - returns `[n, D]`
    ///
    /// # Panics
    /// If a token is not in the vocabulary.
    pub fn hidden(&self, tokens: &[u32], state: &mut State) -> Vec<f32> {
        let width = self.architecture.d_model;
        let mut x: Vec<f32> =
            tokens.iter().flat_map(|&token| &self.embedding[token as usize * width..][..width]).copied().collect();
        if let Some(positions) = &self.positions {
            for (offset, x) in x.chunks_mut(width).enumerate() {
                let position = (state.position + offset).min(self.architecture.n_seq - 1);
                add(x, &positions[position * width..][..width]);
            }
        }
        for (block, state) in self.blocks.iter().zip(&mut state.blocks) {
            block.forward(&self.architecture, &mut x, state);
        }
        state.position += tokens.len();
        self.norm.forward(&x)
    }

    /// Logits of the word that follows the last of `tokens`, going on from `state`.
    ///
    /// # Shapes
    /// - `tokens`: `[n]`, at least one
    /// - returns `[V]`
    ///
    /// # Errors
    /// [`ModelError::NotCausal`] for a bidirectional model.
    ///
    /// # Panics
    /// If `tokens` is empty or holds one that is not in the vocabulary.
    pub fn next_logits(&self, tokens: &[u32], state: &mut State) -> Result<Vec<f32>, ModelError> {
        if self.architecture.causality == Causality::Bidirectional {
            return Err(ModelError::NotCausal);
        }
        let hidden = self.hidden(tokens, state);
        let mut logits = vec![0.0; self.architecture.vocab_size];
        self.head().logits(&hidden[hidden.len() - self.architecture.d_model..], &mut logits);
        Ok(logits)
    }
}

impl Block {
    fn forward(&self, architecture: &Architecture, x: &mut [f32], state: &mut PropagatorState) {
        let (width, heads) = (architecture.d_model, architecture.heads);
        let normed = self.norm.forward(x);
        match &self.mixer {
            MixerWeights::Diagonal { potential, output, scale } => {
                let ffn = self.moe.forward(&normed, architecture.top_k, width);
                let mut v = potential.forward(&ffn);
                clamp(&mut v, architecture.v_max);
                self.quantize(&mut v, true, architecture);
                let chain = Chain {
                    diagonal: &architecture.resolvent.diagonal,
                    hopping: &architecture.resolvent.hopping,
                    eta: &self.eta,
                };
                let mut features = vec![0.0; 2 * v.len()];
                match architecture.causality {
                    Causality::Causal => chain.left(&v, &mut state.ratio, &mut features),
                    Causality::Bidirectional => chain.whole(&v, &mut features),
                }
                clamp(&mut features, architecture.feature_clamp);
                self.quantize(&mut features, false, architecture);
                for ((x, f), y) in x.iter_mut().zip(&ffn).zip(output.forward(&features)) {
                    *x += f + y * scale;
                }
            }
            MixerWeights::Propagator { hopping, barrier, source, norm, gate, output, moe_norm } => {
                let mut v = barrier.forward(&normed);
                self.quantize(&mut v, true, architecture);
                let (hopping, source) = (hopping.forward(&normed), source.forward(&normed));
                let input = PropagatorInput { hopping: &hopping, barrier: &v, source: &source, eta: &self.eta };
                let mut waves = vec![0.0; v.len() * 2];
                let mut ratios = vec![0.0; v.len() * 2];
                propagate(input, state, &mut waves, &mut ratios);
                self.quantize(&mut waves, false, architecture);
                // The ratios are not needed any more; their room takes the normalized waves.
                rms_norm(&waves, norm, &mut ratios);
                debug_assert_eq!(ratios.len() % (2 * heads), 0);
                let mut mixed = vec![0.0; x.len()];
                silu_gate(&output.forward(&ratios), &gate.forward(&normed), &mut mixed);
                add(x, &mixed);
                add(x, &self.moe.forward(&moe_norm.forward(x), architecture.top_k, width));
            }
        }
    }

    /// Passes a mixer's potential (or else its features) through the calibrated quantizer, if there is one.
    fn quantize(&self, values: &mut [f32], potential: bool, architecture: &Architecture) {
        let bits = architecture.quantization.as_ref().and_then(|policy| policy.activation_bits);
        if let (Some((potential_step, feature_steps)), Some(bits)) = (&self.activation_steps, bits) {
            fake_quantize_channels(values, if potential { potential_step } else { feature_steps }, bits);
        }
    }
}

fn clamp(values: &mut [f32], limit: f32) {
    for x in values {
        *x = x.clamp(-limit, limit);
    }
}

fn add(x: &mut [f32], y: &[f32]) {
    for (x, y) in x.iter_mut().zip(y) {
        *x += y;
    }
}

/// Takes tensors by name and checks their sizes.
struct Tensors<F> {
    specs: std::collections::HashMap<String, usize>,
    find: F,
}

impl<F: FnMut(&str) -> Option<Vec<f32>>> Tensors<F> {
    fn take(&mut self, name: &str) -> Result<Vec<f32>, ModelError> {
        let expected = self.specs[name];
        let values = (self.find)(name).unwrap_or_default();
        if values.len() != expected {
            return Err(ModelError::Tensor { name: name.to_owned(), found: values.len(), expected });
        }
        Ok(values)
    }

    fn linear(&mut self, name: &str) -> Result<Linear, ModelError> {
        Ok(Linear { weight: self.take(&format!("{name}.weight"))?, bias: self.take(&format!("{name}.bias"))? })
    }

    fn layer_norm(&mut self, name: &str) -> Result<LayerNorm, ModelError> {
        Ok(LayerNorm { gamma: self.take(&format!("{name}.gamma"))?, beta: self.take(&format!("{name}.beta"))? })
    }

    fn block(&mut self, architecture: &Architecture, index: usize) -> Result<Block, ModelError> {
        let block = format!("blocks.{index}");
        let mixer = format!("{block}.mixer");
        Ok(Block {
            norm: self.layer_norm(&format!("{block}.norm"))?,
            mixer: match architecture.mixer {
                Mixer::Diagonal => MixerWeights::Diagonal {
                    potential: self.linear(&format!("{mixer}.potential"))?,
                    output: self.linear(&format!("{mixer}.output"))?,
                    scale: self.take(&format!("{mixer}.scale"))?[0],
                },
                Mixer::Propagator => MixerWeights::Propagator {
                    hopping: self.linear(&format!("{mixer}.hopping"))?,
                    barrier: self.linear(&format!("{mixer}.barrier"))?,
                    source: self.linear(&format!("{mixer}.source"))?,
                    norm: self.take(&format!("{mixer}.norm.gamma"))?,
                    gate: self.linear(&format!("{mixer}.gate"))?,
                    output: self.linear(&format!("{mixer}.output"))?,
                    moe_norm: self.layer_norm(&format!("{block}.moe_norm"))?,
                },
            },
            eta: if architecture.learned_eta {
                self.take(&format!("{mixer}.log_eta"))?.into_iter().map(exp).collect()
            } else {
                architecture.resolvent.eta.clone()
            },
            activation_steps: architecture
                .quantizes_activations()
                .then(|| {
                    Ok((self.take(&format!("{mixer}.potential_step"))?, self.take(&format!("{mixer}.feature_step"))?))
                })
                .transpose()?,
            moe: MixtureOfExperts {
                router: self.linear(&format!("{block}.moe.router"))?,
                experts: (0..architecture.experts[index])
                    .map(|expert| {
                        let expert = format!("{block}.moe.experts.{expert}");
                        Ok((self.linear(&format!("{expert}.up"))?, self.linear(&format!("{expert}.down"))?))
                    })
                    .collect::<Result<_, _>>()?,
            },
        })
    }
}
