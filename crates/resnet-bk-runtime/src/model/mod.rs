//! The model for inference: decoded weights, and the state that a sequence carries from token to
//! token.
//!
//! ```text
//! x = embedding[token] (+ position)
//! diagonal     n = norm(x); f = moe(n); v = clamp(W_v f); y = f + scale * W_o clamp(resolvent(v));     x += y
//! propagator   n = norm(x); y = W_o rms_norm(psi(n)) * silu(W_g n);     x += y;     x += moe(moe_norm(x))
//! logits = head(norm(x))
//! ```
//!
//! Windows and single tokens use the same function: [`Model::hidden`] continues from the given
//! state.

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

/// Why a model cannot be built or used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ModelError {
    /// A tensor is missing or has a wrong number of elements.
    #[error("tensor {id}: {found} elements, expected {expected}")]
    Tensor {
        /// The tensor.
        id: TensorId,
        /// Elements found; 0 if the tensor is missing.
        found: usize,
        /// Elements expected.
        expected: usize,
    },
    /// A bidirectional model was asked to predict token by token.
    #[error("a bidirectional model depends on the tokens it predicts: it can be evaluated, but it cannot generate")]
    NotCausal,
}

/// A model with decoded weights.
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

/// The state of one sequence: the position and the resolvent state of each block.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    position: usize,
    blocks: Vec<PropagatorState>,
}

impl State {
    /// Number of tokens so far.
    pub fn position(&self) -> usize {
        self.position
    }
}

impl Model {
    /// Builds a model. `find` returns the values of a tensor by its identity.
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

    /// The architecture of the model.
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

    /// Hidden states of the next tokens of a sequence, after the last norm. `state` is updated.
    ///
    /// A bidirectional model processes the tokens as one whole window, without the recurrent state.
    /// Tokens beyond `n_seq` have the last position embedding.
    ///
    /// # Shapes
    /// - `tokens`: `[n]`, each below `V`
    /// - returns `[n, D]`
    ///
    /// # Panics
    /// If a token is not in the vocabulary, or the state belongs to another model.
    pub fn hidden(&self, tokens: &[u32], state: &mut State) -> Vec<f32> {
        assert_eq!(state.blocks.len(), self.blocks.len(), "blocks of the state and of the model");
        let width = self.architecture.d_model;
        let mut x = vec![0.0; tokens.len() * width];
        let bins = self.embedding.bins(&self.embedding_table);
        for (x, &token) in x.chunks_mut(width).zip(tokens) {
            // On 32-bit targets the position of a very large token id could wrap around into the
            // table.
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

    /// Logits of the token after the last of `tokens`, continuing from `state`.
    ///
    /// # Shapes
    /// - `tokens`: `[n]`, at least one
    /// - returns `[V]`
    ///
    /// # Errors
    /// [`ModelError::NotCausal`] for a bidirectional model.
    ///
    /// # Panics
    /// If `tokens` is empty, or a token is not in the vocabulary.
    pub fn next_logits(&self, tokens: &[u32], state: &mut State) -> Result<Vec<f32>, ModelError> {
        self.require_causal()?;
        Ok(self.logits_after(tokens, state))
    }

    /// Checks that the model can generate.
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
