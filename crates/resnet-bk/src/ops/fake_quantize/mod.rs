//! Fake quantization of activations. The forward pass rounds like the runtime. The backward pass
//! uses the straight-through estimator (Bengio, Léonard, Courville, arXiv 1308.3432).
//!
//! ```text
//! y = s clamp(round(x / s), -qmax, qmax)      dx = dy where |x| <= (qmax + 1/2) s, else 0
//! ```

mod cuda;
mod host;

use crate::tape::{Op, Tensor};

#[derive(Debug)]
struct FakeQuantizeActivation {
    /// `s`, one per channel or one for all.
    scales: Vec<f32>,
    /// Bits of a code; they determine qmax.
    bits: u8,
}

/// Rounds activations to multiples of calibrated scales. Saturated ones get no gradient.
///
/// # Shapes
/// - `x`: `[n, C]`
/// - `scales`: `[C]`, or one for all channels
pub fn fake_quantize_activation(x: &Tensor, scales: Vec<f32>, bits: u8) -> Tensor {
    FakeQuantizeActivation { scales, bits }.apply([x], x.shape())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::forward_and_backward;

    #[test]
    fn saturated_activations_get_no_gradient() {
        let op = FakeQuantizeActivation { scales: vec![0.01], bits: 8 };
        let (_, [dx]) = forward_and_backward(op, [&[0.5, -1.27, 1.5, -9.0]], &[1.0; 4]);
        assert_eq!(dx, [1.0, 1.0, 0.0, 0.0]);
    }
}
