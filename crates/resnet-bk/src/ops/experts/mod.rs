//! All experts of a block in one operation, so that their work runs in parallel.
//!
//! ```text
//! h_te = dropout(relu(x_t U_e + a_e))      o_te = h_te W_e + b_e      y_t = sum_e p_te o_te
//!
//! dp_te = o_te . dy_t           do_te = p_te dy_t             dh_te = do_te W_e^T
//! dz_te = dh_te / (1 - drop) where h_te > 0, else 0           dx_t = sum_e dz_te U_e^T
//! dW_e = sum_t h_te^T do_te     db_e = sum_t do_te
//! dU_e = sum_t x_t^T dz_te      da_e = sum_t dz_te
//! ```
//!
//! Sums over `e` run in order over the experts that token `t` is routed to. Sums over `t` run over
//! the tokens of expert `e`. `drop` is the dropout probability.
//!
//! The dropout mask of an expert covers the hidden states of all tokens, of which the expert has
//! some. So it does not depend on the routing of other tokens.
//!
//! The parameters of all experts are packed in one vector: `U [D, F]`, `a [F]`, `W [F, D]`, `b [D]`
//! of the first expert, then of the second, and so on.

mod cuda;
mod host;

use crate::buffer::Buffer;
use crate::kernels::DropoutMask;
use crate::tape::{Op, Tensor};
use host::OnHost;

/// Saved by the forward pass.
#[derive(Debug)]
enum Forwarded {
    Nothing,
    Host(OnHost),
    Cuda {
        /// Hidden states after dropout, `[E, n, F]`, zero for tokens that are routed elsewhere.
        hidden: Buffer,
        /// Outputs before bias and weighting, `[E, n, D]`.
        outputs: Buffer,
    },
}

#[derive(Debug)]
struct Experts {
    /// Model width `D`.
    width: usize,
    /// Number of experts `E`.
    count: usize,
    dropout: Option<DropoutMask>,
    /// Saved by the forward pass.
    forwarded: Forwarded,
}

impl Experts {
    fn new(width: usize, count: usize, dropout: Option<DropoutMask>) -> Self {
        Self { width, count, dropout, forwarded: Forwarded::Nothing }
    }

    /// Expert width `F`, from the number of packed parameters.
    fn hidden_width(&self, packed: usize) -> usize {
        (packed / self.count - self.width) / (2 * self.width + 1)
    }
}

/// Applies to each token the experts that it is routed to.
///
/// # Shapes
/// - `x`: `[n, D]`
/// - `weights`: `[n, E]`, zero if a token is not routed to an expert
/// - `packed`: `[E (2 D F + F + D)]`, the parameters
/// - returns `[n, D]`
pub fn experts(x: &Tensor, weights: &Tensor, packed: &Tensor, dropout: Option<DropoutMask>) -> Tensor {
    Experts::new(x.columns(), weights.columns(), dropout).apply([x, weights, packed], x.shape())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{check_gradients_where, forward_and_backward, mask, values};

    #[test]
    fn gradients_match_finite_differences() {
        let (d, f, count) = (3, 5, 2);
        // The second token uses one expert, the third the other, the rest both.
        let mut weights: Vec<f32> = values(2 * 4, 1).iter().map(|x| 0.5 + 0.3 * x).collect();
        (weights[2], weights[5]) = (0.0, 0.0);
        let (x, packed) = (values(4 * d, 3), values(count * (2 * d * f + f + d), 2));
        let inputs = [&x[..], &weights, &packed];
        for dropout in [None, Some(mask(0.3))] {
            let op = || Experts::new(d, count, dropout);
            // Moving a weight away from zero would change the routing.
            let routed = |input: usize, element: usize| input != 1 || weights[element] != 0.0;
            check_gradients_where(routed, inputs, op, 3e-3);
            let (_, [_, dweights, _]) = forward_and_backward(op(), inputs, &values(4 * d, 4));
            assert!(dweights.iter().zip(&weights).all(|(dweight, weight)| *weight != 0.0 || *dweight == 0.0));
        }
    }
}
