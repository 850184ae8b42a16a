//! The experts of a block in one operation, so that the work of all of them runs in parallel.
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
//! Sums over `e` run over the experts that token `t` is routed to, in their order; sums over `t`
//! over the tokens of expert `e`. `drop` is the probability of dropping.
//!
//! The parameters of all experts are packed in one vector: `U [D, F]`, `a [F]`, `W [F, D]`,
//! `b [D]` of the first, then of the second, and so on.

mod host;

use crate::tape::{HostOp, Tensor};
use host::Forwarded;

/// Dropout of the experts' hidden states.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ExpertDropout {
    /// Probability of dropping.
    pub p: f32,
    /// Where the masks are drawn from.
    pub key: u64,
}

#[derive(Debug)]
struct Experts {
    /// Model width `D`.
    width: usize,
    /// Number of experts `E`.
    count: usize,
    dropout: Option<ExpertDropout>,
    /// From the forward pass.
    forwarded: Forwarded,
}

impl Experts {
    fn new(width: usize, count: usize, dropout: Option<ExpertDropout>) -> Self {
        Self { width, count, dropout, forwarded: Forwarded::default() }
    }

    /// Expert width `F`.
    fn hidden_width(&self, packed: &[f32]) -> usize {
        (packed.len() / self.count - self.width) / (2 * self.width + 1)
    }
}

/// Every token through the experts that it is routed to.
///
/// # Shapes
/// - `x`: `[n, D]`
/// - `weights`: `[n, E]`, zero where a token is not routed to an expert
/// - `packed`: `[E (2 D F + F + D)]`, the parameters
/// - returns `[n, D]`
pub fn experts(x: &Tensor, weights: &Tensor, packed: &Tensor, dropout: Option<ExpertDropout>) -> Tensor {
    Experts::new(x.columns(), weights.columns(), dropout).apply([x, weights, packed], x.shape())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{check_gradients_where, forward_and_backward, values};

    #[test]
    fn gradients_match_finite_differences() {
        let (d, f, count) = (3, 5, 2);
        // The second token goes to one expert, the third to the other, the rest to both.
        let mut weights: Vec<f32> = values(2 * 4, 1).iter().map(|x| 0.5 + 0.3 * x).collect();
        (weights[2], weights[5]) = (0.0, 0.0);
        let (x, packed) = (values(4 * d, 3), values(count * (2 * d * f + f + d), 2));
        let inputs = [&x[..], &weights, &packed];
        for dropout in [None, Some(ExpertDropout { p: 0.3, key: 3 })] {
            let op = || Experts::new(d, count, dropout);
            // A step from a weight of zero changes the routing.
            let routed = |input: usize, element: usize| input != 1 || weights[element] != 0.0;
            check_gradients_where(routed, inputs, op, 3e-3);
            let (_, [_, dweights, _]) = forward_and_backward(op(), inputs, &values(4 * d, 4));
            assert!(dweights.iter().zip(&weights).all(|(dweight, weight)| *weight != 0.0 || *dweight == 0.0));
        }
    }
}
