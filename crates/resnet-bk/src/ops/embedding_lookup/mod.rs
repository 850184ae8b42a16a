//! Embedding lookup: the token's row of the table, projected to the model's width, plus the row of
//! its position, with dropout of elements and of whole words.
//!
//! ```text
//! y_n = m_n (w_v r_v P_b + q_t)  v = token n, in bin b of the table, at position t of its sequence
//! g_n = m_n dy_n                 dq_t = sum of g_n over the tokens at position t
//! dr_v = w_v (sum of g_n over the tokens n that are v) P_b^T
//! dP_b = sum of w_v r_v^T g_n over the tokens n in bin b
//! ```
//!
//! `m` is a dropout mask over the elements. `w` is one over the vocabulary: a word is dropped
//! everywhere in the batch (Gal, Ghahramani, arXiv 1512.05287). Its element is the word's id, so
//! all ranks drop the same words. The head's use of the table is not dropped. `P_b` is the projection of a frequency bin (see
//! [`resnet_bk_runtime::internal::embedding`]). A bin with rows of full width has no projection.

mod cuda;
mod host;

use crate::kernels::DropoutMask;
use crate::tape::{Op, Tensor};
use crate::token_ids::TokenIds;
use resnet_bk_runtime::internal::embedding::TableLayout;

/// Dropout masks of an embedding lookup; `None` for no dropout.
#[derive(Clone, Copy, Debug, Default)]
pub struct EmbeddingDropout {
    /// `w`: over the vocabulary.
    pub words: Option<DropoutMask>,
    /// `m`: over the elements of the output.
    pub elements: Option<DropoutMask>,
}

impl EmbeddingDropout {
    /// `w_v`; 1 without dropout of words.
    fn of_word(&self, word: u32) -> f32 {
        self.words.map_or(1.0, |mask| mask.factor(word as usize))
    }
}

/// Has two inputs with positions, otherwise one.
#[derive(Debug)]
struct Embed {
    tokens: TokenIds,
    /// Length of a sequence in tokens; each starts at position 0.
    length: usize,
    layout: TableLayout,
    dropout: EmbeddingDropout,
}

/// Embeds consecutive sequences of `length` tokens.
///
/// # Shapes
/// - `tokens`: `[n]`, each below `V`
/// - `table`: packed parameters of `layout`
/// - `positions`: `[T, D]` with `T` at least `length`
/// - returns `[n, D]`
pub fn embed(
    tokens: TokenIds,
    length: usize,
    layout: &TableLayout,
    table: &Tensor,
    positions: Option<&Tensor>,
    dropout: EmbeddingDropout,
) -> Tensor {
    let shape = [tokens.len(), layout.d_model];
    let op = Embed { tokens, length, layout: layout.clone(), dropout };
    match positions {
        Some(positions) => op.apply([table, positions], shape),
        None => op.apply([table], shape),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{check_gradients, forward, mask, values};
    use resnet_bk_runtime::internal::embedding::EmbeddingBin;

    #[test]
    fn gradients_match_finite_differences() {
        let bin = |words, width| EmbeddingBin { words, width };
        let binned = TableLayout { bins: vec![bin(1, 3), bin(2, 2), bin(1, 1)], d_model: 3 };
        for layout in [TableLayout::full(4, 3), binned] {
            for (words, elements) in
                [(None, None), (None, Some(mask(0.4))), (Some(mask(0.5)), None), (Some(mask(0.5)), Some(mask(0.4)))]
            {
                let dropout = EmbeddingDropout { words, elements };
                let op = || Embed { tokens: vec![2, 0, 2, 3].into(), length: 2, layout: layout.clone(), dropout };
                check_gradients([&values(layout.len(), 1)], op, 1e-3);
                check_gradients([&values(layout.len(), 1), &values(6, 2)], op, 1e-3);
            }
        }
    }

    #[test]
    fn a_dropped_word_is_dropped_everywhere_and_the_others_are_scaled() {
        const WORDS: usize = 40;
        let layout = TableLayout::full(WORDS, 3);
        let tokens: Vec<u32> = (0..200).map(|n| n * n % WORDS as u32).collect();
        let table = values(layout.len(), 1);
        let words = mask(0.5);
        let dropout = EmbeddingDropout { words: Some(words), elements: None };
        let op = Embed { tokens: tokens.clone().into(), length: 50, layout, dropout };
        let output = forward(op, [&table]);
        let dropped = (0..WORDS).filter(|&word| words.factor(word) == 0.0).count();
        assert!((10..30).contains(&dropped), "{dropped} of {WORDS}");
        for (row, &word) in output.chunks(3).zip(&tokens) {
            let factor = words.factor(word as usize);
            let expected: Vec<f32> = table[3 * word as usize..][..3].iter().map(|x| factor * x).collect();
            assert_eq!(row, expected, "word {word}");
        }
    }
}
