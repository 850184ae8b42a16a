//! The mixers' states that a model carries from one batch to the next.

use crate::batch::{Batch, Carried};
use crate::buffer::Buffer;
use crate::device::Device;
use resnet_bk_runtime::internal::architecture::{Architecture, Mixer};

/// The state after the windows of a batch, for the windows of the next one. On a GPU it stays at its
/// place, so that a recorded step finds it.
#[derive(Debug, Default)]
pub struct CarriedState {
    /// One of each block, with the shapes of [`Carry`](crate::ops::Carry); empty before the first
    /// batch.
    blocks: Vec<Buffer>,
}

impl CarriedState {
    /// Forgets the state: the next windows begin with the initial state, which is zero.
    pub fn reset(&mut self) {
        self.blocks.iter_mut().for_each(Buffer::set_to_zero);
    }

    /// The states before the windows of a batch. `None` if the batch carries none.
    ///
    /// The first batch, and one with another number of windows, begins with the initial state.
    pub fn before(&mut self, batch: &Batch, architecture: &Architecture, device: &Device) -> Option<&[Buffer]> {
        if batch.carried == Carried::No {
            return None;
        }
        let parts = if architecture.mixer == Mixer::Propagator { 2 } else { 1 };
        let len = parts * batch.batch_size * 2 * architecture.heads;
        if self.blocks.first().is_none_or(|block| block.len() != len) {
            self.blocks = (0..architecture.n_layers()).map(|_| Buffer::zeros(device, len)).collect();
        }
        Some(&self.blocks)
    }

    /// Takes the states after the windows of a batch, once nothing reads those before any more. Without
    /// states, nothing changes.
    pub fn replace(&mut self, after: Vec<Buffer>) {
        for (block, after) in self.blocks.iter_mut().zip(after) {
            block.replace(after);
        }
    }
}
