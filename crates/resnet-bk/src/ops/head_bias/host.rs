//! On the host: one pass over the words.

use super::HeadBias;
use crate::tape::HostOp;
use resnet_bk_runtime::internal::rank_curve::{KnotPosition, rank_curve};

impl HostOp<2> for HeadBias {
    fn forward(&mut self, [words, knots]: [&[f32]; 2]) -> Vec<f32> {
        words.iter().zip(rank_curve(knots, words.len())).map(|(word, curve)| word + curve).collect()
    }

    fn backward(self, [words, knots]: [&[f32]; 2], _: &[f32], gradient: Vec<f32>, _: [bool; 2]) -> [Vec<f32>; 2] {
        let mut dknots = vec![0.0; knots.len()];
        for (word, g) in gradient.iter().enumerate() {
            let KnotPosition { knot, fraction } = KnotPosition::of(word, words.len(), knots.len());
            dknots[knot] += (1.0 - fraction) * g;
            dknots[knot + 1] += fraction * g;
        }
        [gradient, dknots]
    }
}
