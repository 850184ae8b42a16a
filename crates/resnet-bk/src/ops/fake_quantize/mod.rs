//! Straight-through fake quantization of activations: the forward pass rounds as the artifact will, the backward pass ignores the rounding.
//!
//! Bengio, Léonard, Courville, "Estimating or propagating gradients through stochastic neurons", arXiv 1308.3432.

use crate::tape::{HostOp, Tensor};
use resnet_bk_runtime::quantization::{fake_quantize_channels, q_max};

#[derive(Debug)]
struct Activation {
    steps: Vec<f32>,
    bits: u8,
}

impl HostOp<1> for Activation {
    fn forward(&mut self, [x]: [&[f32]; 1]) -> Vec<f32> {
        let mut out = x.to_vec();
        fake_quantize_channels(&mut out, &self.steps, self.bits);
        out
    }

    fn backward(self, [x]: [&[f32]; 1], _: &[f32], gradient: &[f32], _: [bool; 1]) -> [Vec<f32>; 1] {
        let limit = f32::from(q_max(self.bits)) + 0.5;
        let channels = self.steps.len();
        let pass =
            |(i, (x, g)): (usize, (&f32, &f32))| if x.abs() <= limit * self.steps[i % channels] { *g } else { 0.0 };
        [x.iter().zip(gradient).enumerate().map(pass).collect()]
    }
}

/// Rounds activations to multiples of calibrated steps; saturated ones get no gradient.
///
/// # Shapes
/// - `x`: `[n, C]`
/// - `steps`: `[C]`, or one for all channels
pub fn fake_quantize_activation(x: &Tensor, steps: Vec<f32>, bits: u8) -> Tensor {
    Activation { steps, bits }.apply([x], x.shape())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn saturated_activations_get_no_gradient() {
        let mut op = Activation { steps: vec![0.01], bits: 8 };
        let x = [0.5, -1.27, 1.5, -9.0];
        let y = op.forward([&x]);
        assert_eq!(op.backward([&x], &y, &[1.0; 4], [true]), [vec![1.0, 1.0, 0.0, 0.0]]);
    }
}
