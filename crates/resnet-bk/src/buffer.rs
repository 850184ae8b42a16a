//! Shared arrays with copy on write, for parameters and tensors.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

/// A shared array of float32 numbers in host memory. A change copies it if there are other owners.
///
/// A training step shares the parameters without copies. The optimizer runs after the step has
/// released them, so it changes them in place.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Buffer(Arc<Vec<f32>>);

impl Buffer {
    /// The numbers.
    pub fn as_slice(&self) -> &[f32] {
        &self.0
    }

    /// The numbers, without a copy if there is no other owner.
    pub fn into_vec(self) -> Vec<f32> {
        Arc::unwrap_or_clone(self.0)
    }
}

impl From<Vec<f32>> for Buffer {
    fn from(values: Vec<f32>) -> Self {
        Self(Arc::new(values))
    }
}

impl Deref for Buffer {
    type Target = Vec<f32>;

    fn deref(&self) -> &Vec<f32> {
        &self.0
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut Vec<f32> {
        Arc::make_mut(&mut self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_not_visible_to_other_owners() {
        let mut changed = Buffer::from(vec![1.0, 2.0]);
        let place = changed.as_ptr();
        changed[0] = 3.0;
        assert_eq!(changed.as_ptr(), place, "there is no other owner");
        let kept = changed.clone();
        changed[0] = 4.0;
        assert_eq!((kept.as_slice(), changed.as_slice()), (&[3.0, 2.0][..], &[4.0, 2.0][..]));
    }
}
