//! Affine map of every row.
//!
//! ```text
//! y = x W + b      dx = dy W^T      dW = x^T dy      db = sum_n dy_n
//! ```

mod cuda;
mod host;

pub(in crate::ops) use cuda::{Maps, WeightGradients, affine, affine_backward, affine_maps, weight_gradients};

use crate::tape::{Op, Tensor};

#[derive(Debug)]
struct Linear {
    rows: usize,
    input: usize,
    output: usize,
}

/// Affine map of every row.
///
/// # Shapes
/// - `x`: `[n, input]`
/// - `weight`: `[input, output]`
/// - `bias`: `[output]`
/// - returns `[n, output]`
pub fn linear(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Tensor {
    let ([rows, input], output) = (x.shape(), weight.columns());
    Linear { rows, input, output }.apply([x, weight, bias], [rows, output])
}

/// A linear map of every row, without a bias: `y = x W`.
///
/// # Shapes
/// - `x`: `[n, input]`
/// - `weight`: `[input, output]`
/// - returns `[n, output]`
pub fn project(x: &Tensor, weight: &Tensor) -> Tensor {
    linear(x, weight, &Tensor::constant(vec![0.0; weight.columns()].into(), [1, weight.columns()]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{check_gradients, values};

    #[test]
    fn gradients_match_finite_differences() {
        for rows in [1, 5] {
            check_gradients(
                [&values(rows * 3, 1), &values(6, 2), &values(2, 3)],
                || Linear { rows, input: 3, output: 2 },
                1e-3,
            );
        }
    }
}
