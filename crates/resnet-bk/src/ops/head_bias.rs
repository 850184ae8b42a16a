//! The head's bias: a value for each word, plus the curve over the ranks. Equations in [`resnet_bk_runtime::rank_curve`].

use crate::tape::{HostOp, Tensor};
use resnet_bk_runtime::rank_curve::{KnotPosition, rank_curve};

#[derive(Debug)]
struct HeadBias;

impl HostOp<2> for HeadBias {
    fn forward(&mut self, [words, knots]: [&[f32]; 2]) -> Vec<f32> {
        words.iter().zip(rank_curve(knots, words.len())).map(|(word, curve)| word + curve).collect()
    }

    fn backward(self, [words, knots]: [&[f32]; 2], _: &[f32], gradient: &[f32], _: [bool; 2]) -> [Vec<f32>; 2] {
        let mut dknots = vec![0.0; knots.len()];
        for (word, g) in gradient.iter().enumerate() {
            let KnotPosition { knot, fraction } = KnotPosition::of(word, words.len(), knots.len());
            dknots[knot] += (1.0 - fraction) * g;
            dknots[knot + 1] += fraction * g;
        }
        [gradient.to_vec(), dknots]
    }
}

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
