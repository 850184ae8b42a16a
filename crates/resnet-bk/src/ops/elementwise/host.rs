//! Host implementation. Gradients overwrite the gradient of the output.

use super::{Clamp, Exp, Gumbel, SiluGate};
use crate::tape::HostOp;
use resnet_bk_runtime::internal::kernels;

impl HostOp<2> for SiluGate {
    fn forward(&mut self, [y, gate]: [&[f32]; 2]) -> Vec<f32> {
        let mut out = vec![0.0; y.len()];
        kernels::silu_gate(y, gate, &mut out);
        out
    }

    fn backward(self, [y, gate]: [&[f32]; 2], _: &[f32], mut gradient: Vec<f32>, _: [bool; 2]) -> [Vec<f32>; 2] {
        // First the sigmoid of the gate, then the gate's gradient.
        let mut dgate = gate.to_vec();
        kernels::sigmoid_in_place(&mut dgate);
        for (((dy, dgate), y), x) in gradient.iter_mut().zip(&mut dgate).zip(y).zip(gate) {
            let (g, s) = (*dy, *dgate);
            *dy = g * x * s;
            *dgate = g * y * (s + x * s * (1.0 - s));
        }
        [gradient, dgate]
    }
}

impl HostOp<1> for Exp {
    fn forward(&mut self, [x]: [&[f32]; 1]) -> Vec<f32> {
        x.iter().map(|&x| kernels::exp(x)).collect()
    }

    fn backward(self, _: [&[f32]; 1], output: &[f32], mut gradient: Vec<f32>, _: [bool; 1]) -> [Vec<f32>; 1] {
        gradient.iter_mut().zip(output).for_each(|(g, y)| *g *= y);
        [gradient]
    }
}

impl HostOp<1> for Clamp {
    fn forward(&mut self, [x]: [&[f32]; 1]) -> Vec<f32> {
        x.iter().map(|x| x.clamp(-self.bound, self.bound)).collect()
    }

    fn backward(self, [x]: [&[f32]; 1], _: &[f32], mut gradient: Vec<f32>, _: [bool; 1]) -> [Vec<f32>; 1] {
        for (g, x) in gradient.iter_mut().zip(x) {
            *g = if x.abs() <= self.bound { *g } else { 0.0 };
        }
        [gradient]
    }
}

impl HostOp<1> for Gumbel {
    fn forward(&mut self, [x]: [&[f32]; 1]) -> Vec<f32> {
        let noise = |index: usize| {
            let u = self.draw.uniform(index as u64).clamp(1e-7, 1.0 - 1e-7);
            -(-u.ln()).ln() * self.scale
        };
        x.iter().enumerate().map(|(index, x)| x + noise(index)).collect()
    }

    fn backward(self, _: [&[f32]; 1], _: &[f32], gradient: Vec<f32>, _: [bool; 1]) -> [Vec<f32>; 1] {
        [gradient]
    }
}
