//! Token ids of a batch, on the host and on a GPU.

use crate::device::Cuda;
use crate::device::cuda::Array;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

/// Shared token ids. A GPU gets a copy when it needs them.
#[derive(Clone, Debug)]
pub struct TokenIds {
    ids: Arc<[u32]>,
    device: Arc<OnceLock<DeviceIds>>,
}

/// Token ids in device memory.
#[derive(Debug)]
pub(crate) struct DeviceIds {
    pub ids: Array<u32>,
    order: OnceLock<Array<u32>>,
    host: Arc<[u32]>,
}

impl DeviceIds {
    /// The positions, sorted by id.
    pub fn order(&self, cuda: &Cuda) -> &Array<u32> {
        self.order.get_or_init(|| cuda.upload(&sorted_positions(&self.host)))
    }
}

/// Positions sorted by id, equal ids in their order.
fn sorted_positions(ids: &[u32]) -> Vec<u32> {
    let mut keys: Vec<u64> = ids.iter().enumerate().map(|(at, &id)| u64::from(id) << 32 | at as u64).collect();
    keys.sort_unstable();
    keys.into_iter().map(|key| key as u32).collect()
}

impl TokenIds {
    /// The ids on a GPU.
    pub(crate) fn on(&self, cuda: &Cuda) -> &DeviceIds {
        self.device.get_or_init(|| DeviceIds {
            ids: cuda.upload(&self.ids),
            order: OnceLock::new(),
            host: self.ids.clone(),
        })
    }

    /// Copies other ids of the same number over these, at the same place in device memory.
    pub(crate) fn replace(&mut self, cuda: &Cuda, ids: &Self) {
        self.ids = ids.ids.clone();
        let device = self.on(cuda);
        cuda.overwrite(&device.ids, ids);
        if let Some(order) = device.order.get() {
            cuda.overwrite(order, &sorted_positions(ids));
        }
    }
}

impl Deref for TokenIds {
    type Target = [u32];

    fn deref(&self) -> &[u32] {
        &self.ids
    }
}

impl From<Vec<u32>> for TokenIds {
    fn from(ids: Vec<u32>) -> Self {
        Self { ids: ids.into(), device: Arc::default() }
    }
}

impl PartialEq for TokenIds {
    fn eq(&self, other: &Self) -> bool {
        self.ids == other.ids
    }
}

impl Eq for TokenIds {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_sorted_by_id_and_stable() {
        assert_eq!(sorted_positions(&[5, 1, 5, 0, 1]), [3, 1, 4, 0, 2]);
    }
}
