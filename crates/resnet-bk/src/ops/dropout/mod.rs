//! Inverted dropout (Srivastava and others, J. Mach. Learn. Res. 15, 2014), alone and in a residual
//! connection.
//!
//! ```text
//! m = 0 with probability p, else 1 / (1 - p)
//! z = m y          dy = m dz
//! z = x + m y      dx = dz      dy = m dz
//! ```

mod cuda;
mod host;

use crate::kernels::DropoutMask;
use crate::tape::{Op, Tensor};
pub(in crate::ops) use cuda::drop;

#[derive(Debug)]
struct Dropout {
    mask: DropoutMask,
    /// `D`.
    width: usize,
}

#[derive(Debug)]
struct AddDropped {
    /// `None` for no dropout.
    mask: Option<DropoutMask>,
    /// `D`.
    width: usize,
}

/// `y` with dropout, or `y` itself without a mask. Shapes: any `[n, D]`.
pub fn dropout(y: &Tensor, mask: Option<DropoutMask>) -> Tensor {
    mask.map_or_else(|| y.clone(), |mask| Dropout { mask, width: y.columns() }.apply([y], y.shape()))
}

/// `x` plus `y` with dropout. Shapes: any `[n, D]`.
pub fn add_dropped(x: &Tensor, y: &Tensor, mask: Option<DropoutMask>) -> Tensor {
    AddDropped { mask, width: x.columns() }.apply([x, y], x.shape())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{check_gradients, forward, mask, values};

    #[test]
    fn gradients_match_finite_differences() {
        check_gradients([&values(20, 1)], || Dropout { mask: mask(0.4), width: 5 }, 1e-3);
        for mask in [None, Some(mask(0.4))] {
            check_gradients([&values(20, 1), &values(20, 2)], || AddDropped { mask, width: 5 }, 1e-3);
        }
    }

    #[test]
    fn a_part_of_the_tokens_has_its_part_of_the_mask() {
        // Longer than a task of the host.
        const WIDTH: usize = 7;
        const TOKENS: usize = 5_000;
        let y = values(WIDTH * TOKENS, 1);
        let whole = forward(Dropout { mask: mask(0.4), width: WIDTH }, [&y]);
        let dropped = whole.iter().filter(|z| **z == 0.0).count() as f64 / whole.len() as f64;
        assert!((dropped - 0.4).abs() < 0.02, "{dropped}");
        for first in [1, 333] {
            let part = forward(Dropout { mask: mask(0.4).at(first), width: WIDTH }, [&y[WIDTH * first..]]);
            assert_eq!(part, whole[WIDTH * first..]);
        }
    }
}
