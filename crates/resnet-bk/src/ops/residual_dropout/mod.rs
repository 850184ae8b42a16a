//! A residual connection with inverted dropout (Srivastava and others, J. Mach. Learn. Res. 15,
//! 2014).
//!
//! ```text
//! z = x + m y      m = 0 with probability p, else 1 / (1 - p)      dx = dz      dy = m dz
//! ```

mod cuda;
mod host;

use crate::kernels::DropoutMask;
use crate::tape::{Op, Tensor};
pub(in crate::ops) use cuda::drop;

#[derive(Debug)]
struct AddDropped {
    /// `None` for no dropout.
    mask: Option<DropoutMask>,
    /// `D`.
    width: usize,
}

/// `x` plus `y` with dropout. Shapes: any `[n, D]`.
pub fn add_dropped(x: &Tensor, y: &Tensor, mask: Option<DropoutMask>) -> Tensor {
    AddDropped { mask, width: x.columns() }.apply([x, y], x.shape())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{check_gradients, mask, values};

    #[test]
    fn gradients_match_finite_differences() {
        for mask in [None, Some(mask(0.4))] {
            check_gradients([&values(20, 1), &values(20, 2)], || AddDropped { mask, width: 5 }, 1e-3);
        }
    }
}
