//! Inverted dropout with a mask from a keyed random stream, so that a resumed run draws the masks it would have drawn.

use super::HostOp;
use crate::random::Random;
use burn_tensor::Tensor;

#[derive(Debug)]
struct Dropout {
    mask: Vec<f32>,
}

impl HostOp<1> for Dropout {
    fn forward(&mut self, [x]: [&[f32]; 1]) -> Vec<f32> {
        x.iter().zip(&self.mask).map(|(x, m)| x * m).collect()
    }

    fn backward(&self, _: [&[f32]; 1], _: &[f32], gradient: &[f32], _: [bool; 1]) -> [Vec<f32>; 1] {
        [gradient.iter().zip(&self.mask).map(|(g, m)| g * m).collect()]
    }
}

/// Zeroes each element with probability `p` and scales the others by `1 / (1 - p)`. Shape: any `[n, D]`.
pub fn dropout(x: &Tensor<2>, p: f32, random: &mut Random) -> Tensor<2> {
    if p == 0.0 {
        return x.clone();
    }
    let keep = 1.0 / (1.0 - p);
    let [rows, width] = x.dims();
    let mask = (0..rows * width).map(|_| if random.uniform() < p { 0.0 } else { keep }).collect();
    Dropout { mask }.apply([x.into()], [rows, width])
}
