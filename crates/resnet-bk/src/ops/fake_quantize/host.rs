//! Host implementation; uses the runtime's rounding.

use super::FakeQuantizeActivation;
use crate::tape::HostOp;
use resnet_bk_runtime::internal::quantization::{fake_quantize_activations, q_max};

impl HostOp<1> for FakeQuantizeActivation {
    fn forward(&mut self, [x]: [&[f32]; 1]) -> Vec<f32> {
        let mut out = x.to_vec();
        fake_quantize_activations(&mut out, &self.scales, self.bits);
        out
    }

    fn backward(self, [x]: [&[f32]; 1], _: &[f32], mut gradient: Vec<f32>, _: [bool; 1]) -> [Vec<f32>; 1] {
        // Values up to half a scale beyond qmax round to it.
        let saturated = f32::from(q_max(self.bits)) + 0.5;
        for ((g, x), scale) in gradient.iter_mut().zip(x).zip(self.scales.iter().cycle()) {
            *g = if x.abs() <= saturated * scale { *g } else { 0.0 };
        }
        [gradient]
    }
}
