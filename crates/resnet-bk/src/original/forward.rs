//! What a checkpoint's model computes, by the ids of its own file: for comparison with the original.

use super::OriginalModel;
use crate::model::{LanguageModel, Leaves, Mode, Output};
use thiserror::Error;

/// Why a model cannot compute anything for some ids.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum IdsError {
    /// A sequence has a wrong length.
    #[error("a sequence has {length} ids, but must have 1 to {window}")]
    Length {
        /// Its length.
        length: usize,
        /// Length of the model's windows.
        window: usize,
    },
    /// The ids are no whole number of sequences.
    #[error("{ids} ids are no whole number of sequences of {length}")]
    Sequences {
        /// How many ids there are.
        ids: usize,
        /// Length of a sequence.
        length: usize,
    },
    /// An id is not of a word.
    #[error("id {id} at index {index} is not below the {words} words of the model")]
    Word {
        /// The id.
        id: u32,
        /// Its index, in row-major order.
        index: usize,
        /// Number of words.
        words: usize,
    },
}

impl OriginalModel {
    /// The logits of the next token at each position of consecutive sequences of `length` ids. Every
    /// position sees its whole sequence.
    ///
    /// # Shapes
    /// - `ids`: `[n]`, a multiple of `length`, each below `V`; `length` at most the window
    /// - returns `[n, V]`
    ///
    /// # Errors
    /// [`IdsError`] if the ids have other shapes or values.
    pub fn logits(&self, ids: &[u32], length: usize) -> Result<Vec<f32>, IdsError> {
        let (model, output) = self.forward(ids, length)?;
        let mut logits = vec![0.0; ids.len() * self.config.vocab_size];
        model.frozen_head().view().logits(output.hidden.values(), &mut logits);
        Ok(logits)
    }

    /// Real and imaginary part of the resolvent's diagonal in each block, after `feature_clamp`.
    ///
    /// # Shapes
    /// - `ids`: as for [`logits`](Self::logits)
    /// - returns `[n, 2]` for each block
    ///
    /// # Errors
    /// As [`logits`](Self::logits).
    pub fn features(&self, ids: &[u32], length: usize) -> Result<Vec<Vec<f32>>, IdsError> {
        let (_, output) = self.forward(ids, length)?;
        Ok(output.layers.iter().map(|layer| layer.features.values().to_vec()).collect())
    }

    fn forward(&self, ids: &[u32], length: usize) -> Result<(LanguageModel, Output), IdsError> {
        let (window, words) = (self.config.n_seq, self.config.vocab_size);
        if length == 0 || length > window {
            return Err(IdsError::Length { length, window });
        }
        if !ids.len().is_multiple_of(length) {
            return Err(IdsError::Sequences { ids: ids.len(), length });
        }
        if let Some(index) = ids.iter().position(|&id| id as usize >= words) {
            return Err(IdsError::Word { id: ids[index], index, words });
        }
        let leaves = Leaves::plain(&self.parameters);
        let model = LanguageModel::bind(self.parameters.architecture(), self.config.gradient, &leaves);
        let output = model.forward(&ids.to_vec().into(), length, &mut Mode::Evaluate);
        Ok((model, output))
    }
}
