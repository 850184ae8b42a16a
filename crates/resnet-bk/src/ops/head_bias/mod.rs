//! The bias of the head: one value per word plus a curve over the frequency ranks. The curve is
//! interpolated between knots (see [`resnet_bk_runtime::internal::rank_curve`]).
//!
//! ```text
//! b_w = a_w + (1 - f) c_k + f c_{k+1}
//! da_w = db_w      dc_k += (1 - f) db_w      dc_{k+1} += f db_w
//! ```
//!
//! `k` is the knot before the word, `f` the fraction of the way to the next knot.

mod cuda;
mod host;

use crate::tape::{Op, Tensor};

#[derive(Debug)]
struct HeadBias;

/// Bias of every word.
///
/// # Shapes
/// - `words`: `[V]`
/// - `knots`: `[K]`, at least two
/// - returns `[V]`
pub fn head_bias(words: &Tensor, knots: &Tensor) -> Tensor {
    HeadBias.apply([words, knots], words.shape())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{check_gradients, values};

    #[test]
    fn gradients_match_finite_differences() {
        for (words, knots) in [(1, 2), (9, 2), (9, 4)] {
            check_gradients([&values(words, 1), &values(knots, 2)], || HeadBias, 1e-3);
        }
    }
}
