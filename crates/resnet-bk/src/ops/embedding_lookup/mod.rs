//! Embedding lookup: the token's row of the table, projected to the model's width, plus the row of
//! its position, with dropout.
//!
//! ```text
//! y_n = m_n (r_v P_b + q_t)      v = token n, in bin b of the table, at position t of its sequence
//! g_n = m_n dy_n                 dq_t = sum of g_n over the tokens at position t
//! dr_v = sum of g_n P_b^T over the tokens n that are v
//! dP_b = sum of r_v^T g_n over the tokens n in bin b
//! ```
//!
//! `m` is a dropout mask. `P_b` is the projection of a frequency bin (see
//! [`resnet_bk_runtime::internal::embedding`]). A bin with rows of full width has no projection.

mod cuda;
mod host;

use crate::kernels::DropoutMask;
use crate::tape::{Op, Tensor};
use crate::token_ids::TokenIds;
use resnet_bk_runtime::internal::embedding::TableLayout;

/// Has two inputs with positions, otherwise one.
#[derive(Debug)]
struct Embed {
    tokens: TokenIds,
    /// Length of a sequence in tokens; each starts at position 0.
    length: usize,
    layout: TableLayout,
    mask: Option<DropoutMask>,
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
    mask: Option<DropoutMask>,
) -> Tensor {
    let shape = [tokens.len(), layout.d_model];
    let op = Embed { tokens, length, layout: layout.clone(), mask };
    match positions {
        Some(positions) => op.apply([table, positions], shape),
        None => op.apply([table], shape),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{check_gradients, mask, values};
    use resnet_bk_runtime::internal::embedding::EmbeddingBin;

    #[test]
    fn gradients_match_finite_differences() {
        let bin = |words, width| EmbeddingBin { words, width };
        let binned = TableLayout { bins: vec![bin(1, 3), bin(2, 2), bin(1, 1)], d_model: 3 };
        for layout in [TableLayout::full(4, 3), binned] {
            for mask in [None, Some(mask(0.4))] {
                let op = || Embed { tokens: vec![2, 0, 2, 3].into(), length: 2, layout: layout.clone(), mask };
                check_gradients([&values(layout.len(), 1)], op, 1e-3);
                check_gradients([&values(layout.len(), 1), &values(6, 2)], op, 1e-3);
            }
        }
    }
}
