//! Pruning masks.

use crate::device::Cuda;
use crate::device::cuda::Array;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, OnceLock};

/// Which values of a parameter are kept; `false` for pruned values. Shared with copy on write, and
/// copied to a GPU when it is needed there.
#[derive(Clone, Debug)]
pub struct Mask {
    keep: Arc<Vec<bool>>,
    device: OnceLock<Array<u8>>,
}

impl Mask {
    /// The mask on a GPU: 0 for pruned values, else 1.
    pub(crate) fn array(&self, cuda: &Cuda) -> &Array<u8> {
        self.device.get_or_init(|| cuda.upload(&self.keep.iter().map(|&keep| u8::from(keep)).collect::<Vec<u8>>()))
    }
}

impl From<Vec<bool>> for Mask {
    fn from(keep: Vec<bool>) -> Self {
        Self { keep: Arc::new(keep), device: OnceLock::new() }
    }
}

impl FromIterator<bool> for Mask {
    fn from_iter<I: IntoIterator<Item = bool>>(keep: I) -> Self {
        Self::from(keep.into_iter().collect::<Vec<bool>>())
    }
}

impl PartialEq for Mask {
    fn eq(&self, other: &Self) -> bool {
        self.keep == other.keep
    }
}

impl Deref for Mask {
    type Target = Vec<bool>;

    fn deref(&self) -> &Vec<bool> {
        &self.keep
    }
}

impl DerefMut for Mask {
    fn deref_mut(&mut self) -> &mut Vec<bool> {
        self.device.take();
        Arc::make_mut(&mut self.keep)
    }
}

impl<'a> IntoIterator for &'a Mask {
    type Item = &'a bool;
    type IntoIter = std::slice::Iter<'a, bool>;

    fn into_iter(self) -> Self::IntoIter {
        self.keep.iter()
    }
}
