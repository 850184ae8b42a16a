//! The resolvent's diagonal as a differentiable operation, with an exact O(T) backward pass.
//!
//! Forward as in [`resnet_bk_runtime::internal::resolvent`]: the features of position `t` are the
//! real and imaginary part of `g_t` (causal) or `G_tt` (bidirectional), where `v` is the variable
//! part of the diagonal. Backward, with `u_t = dL/dRe - i dL/dIm`, the conjugate of the feature's
//! gradient:
//!
//! ```text
//! causal         m_t = u_t + s^2 g_{t+1}^2 m_{t+1}                X_t = m_t g_t^2
//! bidirectional  w_t = u_t G_tt^2                                 X_t = A_t + B_t - w_t
//!                A_t = w_t + s^2 h_t^2 A_{t-1}                    B_t = w_t + s^2 g_t^2 B_{t+1}
//! both           dv_t = -Re X_t                                   deta = -sum_t Im X_t
//! ```
//!
//! The blended gradient is that of the followed project, kept for comparison. It uses one entry of
//! the resolvent only, and it multiplies by the gradient of the feature instead of the conjugate
//! that the chain rule requires:
//!
//! ```text
//! dv = (1 - b) (-Re(G^2 u*)) + b (-Re(u* / G^2))
//! ```
//!
//! It is not the gradient of the loss. The test `blended_gradient_has_the_documented_cosine`
//! measures the cosine between the two on random potentials: 0.389 causal, 0.516 bidirectional.

mod cuda;
mod host;

use super::Carry;
use crate::numerics::Gradient;
use crate::tape::{Op, Tensor};
pub(in crate::ops) use cuda::{AFFINE, CHAINS, MOEBIUS, affine_scan, moebius_scan};
pub(crate) use host::causal;
use resnet_bk_runtime::internal::architecture::Causality;
use resnet_bk_runtime::internal::resolvent::Chain;

/// Constants of the operation.
#[derive(Clone, Debug)]
pub struct ResolventOp {
    /// Constant part of the diagonal, `[H]`.
    pub diagonal: Vec<f32>,
    /// Off-diagonal, `[H]`.
    pub hopping: Vec<f32>,
    /// Length `T` of a sequence.
    pub length: usize,
    /// Which positions a position can see.
    pub causality: Causality,
    /// The gradient of the potential: exact or blended.
    pub gradient: Gradient,
    /// The state before and after the sequences, `[B, 2H]`; without it they begin with zeros. Only a
    /// causal resolvent has one.
    pub carry: Option<Carry>,
}

impl ResolventOp {
    fn chain<'a>(&'a self, eta: &'a [f32]) -> Chain<'a> {
        Chain { diagonal: &self.diagonal, hopping: &self.hopping, eta }
    }
}

/// Diagonal features of consecutive sequences.
///
/// # Shapes
/// - `potential`: `[B T, H]`
/// - `eta`: `[H]`
/// - returns `[B T, 2H]`: real parts, then imaginary parts
pub fn resolvent(op: ResolventOp, potential: &Tensor, eta: &Tensor) -> Tensor {
    let [rows, heads] = potential.shape();
    op.apply([potential, eta], [rows, 2 * heads])
}

#[cfg(test)]
mod tests;
