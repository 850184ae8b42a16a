//! The model that runs: decoded weights, and the state that one sequence carries from token to
//! token.
//!
//! ```text
//! x = embedding[token] (+ position)
//! diagonal     n = norm(x); f = moe(n); v = clamp(W_v f); y = f + scale * W_o clamp(resolvent(v));     x += y
//! propagator   n = norm(x); y = W_o rms_norm(psi(n)) * silu(W_g n);     x += y;     x += moe(moe_norm(x))
//! logits = head(norm(x))
//! ```
//!
//! One function serves both a window and a single step: [`Model::hidden`] goes on from the state it
//! is given.

mod block;
mod layers;
mod tensors;

use crate::architecture::{Architecture, Causality};
use crate::embedding::TableLayout;
use crate::head::Head;
use crate::resolvent::PropagatorState;
use crate::tensor_id::{ModelTensor, TensorId};
use block::{Block, add};
use layers::LayerNorm;
use tensors::Tensors;
use thiserror::Error;

/// Why a model cannot do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ModelError {
    /// A tensor is missing or has a wrong number of elements.
    #[error("tensor {id}: {found} elements, expected {expected}")]
    Tensor {
        /// Which.
        id: TensorId,
        /// Elements found; 0 where it is missing.
        found: usize,
        /// Elements expected.
        expected: usize,
    },
    /// Token by token is asked of a model that sees the future.
    #[error("a bidirectional model sees the token it should predict: it can be evaluated, but cannot generate")]
    NotCausal,
}

/// A decoded model.
#[derive(Clone, Debug)]
pub struct Model {
    architecture: Architecture,
    embedding: TableLayout,
    embedding_table: Vec<f32>,
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

impl Model {
    /// Builds a model from its tensors, found by their identity.
    ///
    /// # Errors
    /// [`ModelError::Tensor`] where one is missing or has a wrong size.
    ///
    /// # Panics
    /// If the architecture is not valid.
    pub fn new(architecture: Architecture, find: impl FnMut(TensorId) -> Option<Vec<f32>>) -> Result<Self, ModelError> {
        let mut tensors = Tensors::new(&architecture, find);
        let blocks = (0..architecture.n_layers())
            .map(|index| tensors.block(&architecture, index))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            embedding: architecture.embedding_layout(),
            embedding_table: tensors.embedding_table(&architecture)?,
            positions: architecture.positions.then(|| tensors.take(ModelTensor::Positions)).transpose()?,
            blocks,
            norm: tensors.layer_norm(ModelTensor::Norm)?,
            head: (!architecture.tied_embeddings).then(|| tensors.take(ModelTensor::Head)).transpose()?,
            head_bias: tensors.head_bias(&architecture)?,
            architecture,
        })
    }

    /// Sizes and kind of the model.
    pub fn architecture(&self) -> &Architecture {
        &self.architecture
    }

    /// The output head.
    pub fn head(&self) -> Head<'_> {
        match &self.head {
            Some(table) => {
                let layout = TableLayout::full(self.architecture.vocab_size, self.architecture.d_model);
                Head::new(&layout, table, &self.head_bias)
            }
            None => Head::new(&self.embedding, &self.embedding_table, &self.head_bias),
        }
    }

    /// The state before the first token of a sequence.
    pub fn start(&self) -> State {
        State { position: 0, blocks: vec![PropagatorState::new(self.architecture.heads); self.blocks.len()] }
    }

    /// Hidden states of the next tokens of a sequence, after the last norm; `state` moves on.
    ///
    /// A bidirectional model takes the tokens as one whole window and leaves the recurrent state
    /// alone. Past `n_seq` tokens, position embeddings stay at the last one.
    ///
    /// # Shapes
    /// - `tokens`: `[n]`, each below `V`
    /// - returns `[n, D]`
    ///
    /// # Panics
    /// If a token is not in the vocabulary, or the state is that of another model.
    pub fn hidden(&self, tokens: &[u32], state: &mut State) -> Vec<f32> {
        assert_eq!(state.blocks.len(), self.blocks.len(), "blocks of the state and of the model");
        let width = self.architecture.d_model;
        let mut x = vec![0.0; tokens.len() * width];
        let bins = self.embedding.bins(&self.embedding_table);
        for (x, &token) in x.chunks_mut(width).zip(tokens) {
            // On 32-bit targets the place of a token that is far out could wrap into the table.
            assert!((token as usize) < self.architecture.vocab_size, "token {token} is not in the vocabulary");
            let bin = &bins[self.embedding.bin_of(token as usize)];
            bin.widen(bin.row(token as usize), x);
        }
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
        self.require_causal()?;
        Ok(self.logits_after(tokens, state))
    }

    /// Whether the model can generate.
    ///
    /// # Errors
    /// [`ModelError::NotCausal`] for a bidirectional model.
    pub(crate) fn require_causal(&self) -> Result<(), ModelError> {
        match self.architecture.causality {
            Causality::Causal => Ok(()),
            Causality::Bidirectional => Err(ModelError::NotCausal),
        }
    }

    /// As [`next_logits`](Self::next_logits), for a model that is known to be causal.
    pub(crate) fn logits_after(&self, tokens: &[u32], state: &mut State) -> Vec<f32> {
        let hidden = self.hidden(tokens, state);
        let last = hidden.chunks(self.architecture.d_model).next_back().expect("at least one token");
        let mut logits = vec![0.0; self.architecture.vocab_size];
        self.head().logits(last, &mut logits);
        logits
    }
}
