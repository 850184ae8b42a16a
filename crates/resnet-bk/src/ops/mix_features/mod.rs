//! The output of a diagonal block: the residual stream `x`, plus the feed-forward part `f`, plus
//! the mixed features `c` scaled by `a`.
//!
//! ```text
//! y = x + (f + a (c W + b))
//! dx = dy            df = dy               dc = a dy W^T
//! dW = a c^T dy      db = a sum_n dy_n     da = sum_n dy_n . (c_n W + b)
//! ```

mod cuda;
mod host;

use crate::buffer::Buffer;
use crate::tape::{Op, Tensor};

#[derive(Debug)]
struct MixFeatures {
    /// Model width `D`.
    width: usize,
    /// `c W + b`, saved by the forward pass on a GPU.
    mixed: Buffer,
}

impl MixFeatures {
    /// Rows, channels and width, from the numbers of elements of `x` and of the weight.
    fn sizes(&self, elements: usize, weight: usize) -> [usize; 3] {
        [elements / self.width, weight / self.width, self.width]
    }
}

/// Adds the feed-forward part and the mixed features to the residual stream.
///
/// # Shapes
/// - `x`, `ffn`: `[n, D]`
/// - `features`: `[n, 2H]`
/// - `weight`: `[2H, D]`, `bias`: `[D]`, `scale`: `[1]`
/// - returns `[n, D]`
pub fn mix_features(
    x: &Tensor,
    ffn: &Tensor,
    features: &Tensor,
    (weight, bias): (&Tensor, &Tensor),
    scale: &Tensor,
) -> Tensor {
    let op = MixFeatures { width: x.columns(), mixed: Buffer::default() };
    op.apply([x, ffn, features, weight, bias, scale], x.shape())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{check_gradients, values};

    #[test]
    fn gradients_match_finite_differences() {
        let (x, ffn, features) = (values(15, 1), values(15, 2), values(20, 3));
        let inputs = [&x[..], &ffn, &features, &values(12, 4), &values(3, 5), &[0.7]];
        check_gradients(inputs, || MixFeatures { width: 3, mixed: Buffer::default() }, 2e-3);
    }
}
