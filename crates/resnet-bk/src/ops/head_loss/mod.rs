//! The head's linear map and its loss in one operation, so that the logits of all tokens never
//! exist at once.
//!
//! ```text
//! logits  l = x W^T + b                        dx = dl W      dW = dl^T x      db = sum dl
//! hard    L = ln sum e^{l} - l_y               dl = softmax(l) - onehot(y)
//! soft    L = tau^2 KL(p' || p)                dl = tau (p - p')
//!         p = softmax(l / tau)                 p' = softmax(l' / tau)      l': the teacher's logits
//! mixed   L = alpha soft + (1 - alpha) hard
//! ```
//!
//! The formulas are of one token; the result is the mean over tokens. The teacher's logits are
//! computed from its hidden states when they are needed (Hinton, Vinyals, Dean, "Distilling the
//! knowledge in a neural network", arXiv 1503.02531). A table of several frequency bins is never
//! widened: a bin's logits are products with hidden states narrowed by its projection (see
//! [`resnet_bk_runtime::internal::embedding`]).

mod host;

use crate::buffer::Buffer;
use crate::numerics::Precision;
use crate::tape::{HostOp, Tensor};
pub(crate) use host::loss_and_gradients;
pub use host::negative_log_likelihoods;
use resnet_bk_runtime::internal::embedding::TableLayout;
use resnet_bk_runtime::internal::head::Head;
use std::sync::Arc;

/// A head whose values do not change.
#[derive(Clone, Debug)]
pub struct FrozenHead {
    /// How its table is laid out.
    pub layout: TableLayout,
    /// Its table: packed parameters of the layout.
    pub table: Buffer,
    /// `[V]`.
    pub bias: Buffer,
}

impl FrozenHead {
    /// The head.
    pub fn view(&self) -> Head<'_> {
        Head::new(&self.layout, &self.table, &self.bias)
    }
}

/// The teacher's side of a distillation loss.
#[derive(Clone, Debug)]
pub struct SoftTargets {
    /// Hidden states of the same tokens, `[n, D']`.
    pub hidden: Buffer,
    /// The teacher's head.
    pub head: Arc<FrozenHead>,
    /// Temperature tau, above 0.
    pub temperature: f32,
    /// Weight of the soft loss, in `[0, 1]`.
    pub alpha: f32,
}

/// What the loss compares the logits with.
#[derive(Clone, Debug)]
pub struct HeadLoss {
    /// The next tokens, `[n]`.
    pub targets: Arc<[u32]>,
    /// A teacher to learn from as well.
    pub soft: Option<SoftTargets>,
    /// Number format of the products.
    pub precision: Precision,
}

impl HeadLoss {
    /// Weights of the soft and the hard part in a logit's gradient.
    fn weights(&self) -> (f32, f32) {
        self.soft.as_ref().map_or((0.0, 1.0), |soft| (soft.alpha * soft.temperature, 1.0 - soft.alpha))
    }
}

#[derive(Debug)]
struct HeadLossOp {
    loss: HeadLoss,
    layout: TableLayout,
    /// Of hidden states, table and bias: computed by the forward pass, taken by the backward pass.
    gradients: [Vec<f32>; 3],
}

impl HeadLossOp {
    fn new(loss: HeadLoss, layout: &TableLayout) -> Self {
        Self { loss, layout: layout.clone(), gradients: Default::default() }
    }
}

/// Mean loss of the head over all tokens, in nats.
///
/// # Shapes
/// - `hidden`: `[n, D]`
/// - `table`: packed parameters of `layout`
/// - `bias`: `[V]`
/// - returns `[1, 1]`
pub fn head_loss(loss: HeadLoss, layout: &TableLayout, hidden: &Tensor, table: &Tensor, bias: &Tensor) -> Tensor {
    HeadLossOp::new(loss, layout).apply([hidden, table, bias], [1, 1])
}

#[cfg(test)]
mod tests;
