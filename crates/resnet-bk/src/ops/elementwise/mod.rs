//! Elementwise operations. All tensors of an operation have the same shape.
//!
//! ```text
//! exp      y = e^x                  dx = y dy
//! clamp    y = min(max(x, -b), b)   dx = dy inside [-b, b], else 0
//! gumbel   y = x + c g              dx = dy        g = -ln(-ln u), u uniform in (0, 1)
//! silu     z = y silu(x)            dy = silu(x) dz        dx = y silu'(x) dz
//!
//! silu(x) = x s      silu'(x) = s + x s (1 - s)      s = sigmoid(x)
//! ```

mod cuda;
mod host;

use crate::random::Draw;
use crate::tape::{Op, Tensor};

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

/// Clamps `x` to `[-bound, bound]`; any shape.
pub fn clamp(x: &Tensor, bound: f32) -> Tensor {
    Clamp { bound }.apply([x], x.shape())
}

#[derive(Debug)]
struct Gumbel {
    scale: f32,
    draw: Draw,
}

/// Adds Gumbel noise times `scale` to each element of `x`. Element `i` takes number `i` of `draw`.
pub fn add_gumbel(x: &Tensor, scale: f32, draw: Draw) -> Tensor {
    Gumbel { scale, draw }.apply([x], x.shape())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{check_gradients, values};
    use crate::random::{Random, StepStream};

    #[test]
    fn gradients_match_finite_differences() {
        check_gradients([&values(20, 1), &values(20, 2)], || SiluGate, 1e-3);
        check_gradients([&values(20, 1)], || Exp, 1e-3);
        let draw = StepStream::new(&Random::new(1)).take(20);
        check_gradients([&values(20, 1)], || Gumbel { scale: 0.5, draw }, 1e-3);
        // Keep away from the bound, where finite differences are wrong.
        let x: Vec<f32> = values(20, 1).into_iter().filter(|x| (x.abs() - 0.5).abs() > 0.01).collect();
        assert!(x.iter().any(|x| x.abs() > 0.5) && x.iter().any(|x| x.abs() < 0.5));
        check_gradients([&x], || Clamp { bound: 0.5 }, 1e-3);
    }
}
