//! Elementwise operations; all tensors of one have the same shape.
//!
//! ```text
//! exp      y = e^x                  dx = y dy
//! clamp    y = min(max(x, -b), b)   dx = dy inside [-b, b], else 0
//! shift    y = x + c                dx = dy
//! silu     z = y silu(x)            dy = silu(x) dz        dx = y silu'(x) dz
//!
//! silu(x) = x s      silu'(x) = s + x s (1 - s)      s = sigmoid(x)
//! ```

mod host;

use crate::tape::{HostOp, Tensor};

#[derive(Debug)]
struct SiluGate;

/// `y * silu(gate)`; all shapes `[n, D]`.
pub fn silu_gate(y: &Tensor, gate: &Tensor) -> Tensor {
    SiluGate.apply([y, gate], y.shape())
}

#[derive(Debug)]
struct Exp;

/// `e^x`, of any shape.
pub fn exp(x: &Tensor) -> Tensor {
    Exp.apply([x], x.shape())
}

#[derive(Debug)]
struct Clamp {
    bound: f32,
}

/// `x` within `[-bound, bound]`, of any shape.
pub fn clamp(x: &Tensor, bound: f32) -> Tensor {
    Clamp { bound }.apply([x], x.shape())
}

#[derive(Debug)]
struct Shift {
    by: Vec<f32>,
}

/// `x` plus constants, one for each of its elements.
///
/// # Panics
/// If there is another number of constants.
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
