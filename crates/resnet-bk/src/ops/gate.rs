//! Elementwise functions whose bits the runtime must repeat: the SiLU gate and the exponential.

use super::HostOp;
use burn_tensor::Tensor;
use resnet_bk_runtime::kernels;

#[derive(Debug)]
struct SiluGate;

impl HostOp<2> for SiluGate {
    fn forward(&mut self, [y, gate]: [&[f32]; 2]) -> Vec<f32> {
        let mut out = vec![0.0; y.len()];
        kernels::silu_gate(y, gate, &mut out);
        out
    }

    fn backward(&self, [y, gate]: [&[f32]; 2], _: &[f32], gradient: &[f32], _: [bool; 2]) -> [Vec<f32>; 2] {
        let mut sigmoid = gate.to_vec();
        kernels::sigmoid_in_place(&mut sigmoid);
        let mut grads = [vec![0.0; y.len()], vec![0.0; y.len()]];
        let [dy, dgate] = &mut grads;
        for (i, g) in gradient.iter().enumerate() {
            let (x, s) = (gate[i], sigmoid[i]);
            dy[i] = g * x * s;
            dgate[i] = g * y[i] * (s + x * s * (1.0 - s));
        }
        grads
    }
}

/// `y * silu(gate)`, elementwise; all shapes `[n, D]`.
pub fn silu_gate(y: &Tensor<2>, gate: &Tensor<2>) -> Tensor<2> {
    SiluGate.apply([y.into(), gate.into()], y.dims())
}

#[derive(Debug)]
struct Exp;

impl HostOp<1> for Exp {
    fn forward(&mut self, [x]: [&[f32]; 1]) -> Vec<f32> {
        x.iter().map(|&x| kernels::exp(x)).collect()
    }

    fn backward(&self, _: [&[f32]; 1], output: &[f32], gradient: &[f32], _: [bool; 1]) -> [Vec<f32>; 1] {
        [output.iter().zip(gradient).map(|(y, g)| y * g).collect()]
    }
}

/// `e^x` of a vector.
pub fn exp(x: &Tensor<1>) -> Tensor<1> {
    Exp.apply([x.into()], x.dims())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{check_gradients, values};

    #[test]
    fn gradients_match_finite_differences() {
        check_gradients([&values(20, 1), &values(20, 2)], || SiluGate, 1e-3);
        check_gradients([&values(20, 1)], || Exp, 1e-3);
    }
}
