//! The head's linear map and its loss in one operation, so that the logits of all tokens are never
//! in memory at once.
//!
//! ```text
//! logits  l = x W^T + b                        dx = dl W      dW = dl^T x      db = sum dl
//! hard    L = ln sum e^{l} - l_y               dl = softmax(l) - onehot(y)
//! soft    L = tau^2 KL(p' || p)                dl = tau (p - p')
//!         p = softmax(l / tau)                 p' = softmax(l' / tau)   l': teacher's logits
//! mixed   L = alpha soft + (1 - alpha) hard
//! ```
//!
//! The formulas are for one token; the result is the mean over tokens. The teacher's logits are
//! computed from its hidden states on demand (Hinton, Vinyals, Dean, "Distilling the knowledge in a
//! neural network", arXiv 1503.02531). A table in frequency bins is never expanded: the hidden
//! states are narrowed by the bin's projection instead (see
//! [`resnet_bk_runtime::internal::embedding`]).

mod cuda;
mod cuda_tiles;
mod host;

use crate::buffer::Buffer;
use crate::numerics::Precision;
use crate::tape::{Op, Tensor};
use crate::token_ids::TokenIds;
pub(crate) use host::loss_and_gradients;
use resnet_bk_runtime::internal::embedding::TableLayout;
use resnet_bk_runtime::internal::head::Head;
use std::sync::Arc;

/// A head with constant values.
#[derive(Clone, Debug)]
pub struct FrozenHead {
    /// Layout of its table.
    pub layout: TableLayout,
    /// Packed parameters of the table.
    pub table: Buffer,
    /// `[V]`.
    pub bias: Buffer,
}

impl FrozenHead {
    /// A borrowed view.
    pub fn view(&self) -> Head<'_> {
        Head::new(&self.layout, &self.table, &self.bias)
    }
}

/// The teacher's part of a distillation loss.
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

/// The targets of the loss.
#[derive(Clone, Debug)]
pub struct HeadLoss {
    /// The next tokens, `[n]`.
    pub targets: TokenIds,
    /// Soft targets of a teacher, if any.
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
    /// Gradients of hidden states, table and bias. The forward pass computes them, the backward
    /// pass returns them.
    gradients: [Buffer; 3],
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

/// `-ln p(target)` of every token, in nats; where the hidden states are.
///
/// # Shapes
/// - `hidden`: `[n, D]`
/// - `targets`: `[n]`
/// - returns `[n]`
pub fn negative_log_likelihoods(hidden: &Tensor, targets: &[u32], head: &FrozenHead) -> Vec<f32> {
    match hidden.buffer().cuda() {
        None => host::negative_log_likelihoods(hidden.values(), targets, &head.view()),
        Some(cuda) => cuda::negative_log_likelihoods_on(cuda, hidden.buffer().array(cuda), targets, head),
    }
}

#[cfg(test)]
mod tests;
