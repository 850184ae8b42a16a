//! Elementwise operations.
//!
//! ```text
//! exp      y = e^x                  dx = y dy
//! clamp    y = min(max(x, a), b)    dx = dy inside [a, b], else 0
//! shift    y = x + c                dx = dy
//! silu     y = x silu(z)            dx = silu(z) dy        dz = x silu'(z) dy
//! ```

use crate::tape::{HostOp, Tensor};
use resnet_bk_runtime::kernels;

#[derive(Debug)]
struct SiluGate;

impl HostOp<2> for SiluGate {
    fn forward(&mut self, [y, gate]: [&[f32]; 2]) -> Vec<f32> {
        let mut out = vec![0.0; y.len()];
        kernels::silu_gate(y, gate, &mut out);
        out
    }

    fn backward(self, [y, gate]: [&[f32]; 2], _: &[f32], gradient: &[f32], _: [bool; 2]) -> [Vec<f32>; 2] {
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

/// `y * silu(gate)`; all shapes `[n, D]`.
pub fn silu_gate(y: &Tensor, gate: &Tensor) -> Tensor {
    SiluGate.apply([y, gate], y.shape())
}

#[derive(Debug)]
struct Exp;

impl HostOp<1> for Exp {
    fn forward(&mut self, [x]: [&[f32]; 1]) -> Vec<f32> {
        x.iter().map(|&x| kernels::exp(x)).collect()
    }

    fn backward(self, _: [&[f32]; 1], output: &[f32], gradient: &[f32], _: [bool; 1]) -> [Vec<f32>; 1] {
        [output.iter().zip(gradient).map(|(y, g)| y * g).collect()]
    }
}

/// `e^x`, of any shape.
pub fn exp(x: &Tensor) -> Tensor {
    Exp.apply([x], x.shape())
}

#[derive(Debug)]
struct Clamp {
    bound: f32,
}

impl HostOp<1> for Clamp {
    fn forward(&mut self, [x]: [&[f32]; 1]) -> Vec<f32> {
        x.iter().map(|x| x.clamp(-self.bound, self.bound)).collect()
    }

    fn backward(self, [x]: [&[f32]; 1], _: &[f32], gradient: &[f32], _: [bool; 1]) -> [Vec<f32>; 1] {
        let pass = |(x, g): (&f32, &f32)| if x.abs() <= self.bound { *g } else { 0.0 };
        [x.iter().zip(gradient).map(pass).collect()]
    }
}

/// `x` within `[-bound, bound]`, of any shape.
pub fn clamp(x: &Tensor, bound: f32) -> Tensor {
    Clamp { bound }.apply([x], x.shape())
}

#[derive(Debug)]
struct Shift {
    by: Vec<f32>,
}

impl HostOp<1> for Shift {
    fn forward(&mut self, [x]: [&[f32]; 1]) -> Vec<f32> {
        x.iter().zip(&self.by).map(|(x, by)| x + by).collect()
    }

    fn backward(self, _: [&[f32]; 1], _: &[f32], gradient: &[f32], _: [bool; 1]) -> [Vec<f32>; 1] {
        [gradient.to_vec()]
    }
}

/// `x` plus constants, one for each of its elements.
pub fn shift(x: &Tensor, by: Vec<f32>) -> Tensor {
    assert_eq!(by.len(), x.values().len(), "constants to add");
    Shift { by }.apply([x], x.shape())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{check_gradients, values};

    #[test]
    fn gradients_match_finite_differences() {
        check_gradients([&values(20, 1), &values(20, 2)], || SiluGate, 1e-3);
        check_gradients([&values(20, 1)], || Exp, 1e-3);
        check_gradients([&values(20, 1)], || Shift { by: values(20, 2) }, 1e-3);
        // No value lies within a finite step of the bound.
        let x: Vec<f32> = values(20, 1).into_iter().filter(|x| (x.abs() - 0.5).abs() > 0.01).collect();
        assert!(x.iter().any(|x| x.abs() > 0.5) && x.iter().any(|x| x.abs() < 0.5));
        check_gradients([&x], || Clamp { bound: 0.5 }, 1e-3);
    }
}
