//! A mixer's state that goes on from one window of a text to the next.
//!
//! ```text
//! diagonal     g_T            the ratio at the last position
//! propagator   g_T, psi_T     the ratio and the wave at the last position
//! ```
//!
//! These are the states of [`resnet_bk_runtime::internal::model::State`]. The state before a window
//! is a constant: no gradient flows into it (truncated backpropagation through time; Williams and
//! Peng, Neural Computation 2, 1990).

use crate::buffer::Buffer;
use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

/// The state before a batch's windows, and after them once the operation has run.
///
/// # Shapes
/// - diagonal: `[B, 2H]`, ratios
/// - propagator: `[2, B, 2H]`, ratios of all sequences, then waves
#[derive(Clone, Debug)]
pub struct Carry {
    before: Buffer,
    after: Arc<OnceLock<Buffer>>,
}

impl Carry {
    /// Carries the state `before` on.
    pub fn new(before: Buffer) -> Self {
        Self { before, after: Arc::default() }
    }

    /// The state before the first position.
    pub fn before(&self) -> &Buffer {
        &self.before
    }

    /// The state after the last position.
    ///
    /// # Panics
    /// If the operation has not run.
    pub fn after(&self) -> Buffer {
        self.after.get().expect("the operation has run").clone()
    }

    pub(super) fn set_after(&self, state: impl Into<Buffer>) {
        let first = self.after.set(state.into());
        assert!(first.is_ok(), "a state is carried through one operation");
    }
}

/// The state before the first position on the host; without a carry it has `len` zeros.
pub(super) fn before(carry: Option<&Carry>, len: usize) -> Cow<'_, [f32]> {
    match carry {
        Some(carry) => {
            assert_eq!(carry.before.len(), len, "numbers of a state");
            Cow::Borrowed(&carry.before)
        }
        None => Cow::Owned(vec![0.0; len]),
    }
}

/// The last row of every sequence. Shapes: `x` `[B, T, width]`; returns `[B, width]`.
pub(super) fn last_rows(x: &[f32], length: usize, width: usize) -> Vec<f32> {
    x.chunks(length * width).flat_map(|sequence| &sequence[(length - 1) * width..]).copied().collect()
}
