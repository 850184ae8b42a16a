//! Shared arrays with copy on write, for parameters and tensors.

use crate::device::cuda::Array;
use crate::device::{Cuda, Device};
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, OnceLock};

/// A shared array of float32 numbers: on the host, on a GPU, or a copy on both.
///
/// Reading it on the host copies it from the GPU if only the GPU has it; [`array`](Self::array)
/// copies it the other way. Both keep the copy. A change on one side drops the other side's copy,
/// and copies the numbers first if there are other owners. So a training step shares the parameters
/// without copies, and the optimizer, which runs after the step has released them, changes them in
/// place.
#[derive(Clone, Debug)]
pub struct Buffer {
    len: usize,
    host: OnceLock<Arc<Vec<f32>>>,
    device: OnceLock<OnDevice>,
}

#[derive(Clone, Debug)]
struct OnDevice {
    cuda: Cuda,
    array: Array,
}

impl Buffer {
    /// A buffer on a GPU.
    pub fn on(cuda: &Cuda, array: Array) -> Self {
        let len = array.len();
        Self { len, host: OnceLock::new(), device: OnceLock::from(OnDevice { cuda: cuda.clone(), array }) }
    }

    /// Zeros, held by a device.
    pub fn zeros(device: &Device, len: usize) -> Self {
        match device {
            Device::Cpu => Self::from(vec![0.0; len]),
            Device::Cuda(cuda) => Self::on(cuda, cuda.zeros(len)),
        }
    }

    /// Length, without a copy to the host.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the buffer is empty.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The numbers.
    pub fn as_slice(&self) -> &[f32] {
        self
    }

    /// The numbers, without a copy if there is no other owner.
    pub fn into_vec(self) -> Vec<f32> {
        let _ = &*self;
        let host = self.host.into_inner().expect("the numbers were just read");
        Arc::unwrap_or_clone(host)
    }

    /// The GPU that holds the numbers, if one does.
    pub fn cuda(&self) -> Option<&Cuda> {
        self.device.get().map(|device| &device.cuda)
    }

    /// The numbers on a GPU.
    pub fn array(&self, cuda: &Cuda) -> &Array {
        let device = self.device.get_or_init(|| OnDevice { cuda: cuda.clone(), array: cuda.upload(self.as_slice()) });
        assert_eq!(&device.cuda, cuda, "a buffer is on one GPU");
        &device.array
    }

    /// The same numbers, held by a device. Without a copy if they are there.
    pub fn to_device(&self, device: &Device) -> Self {
        match device {
            Device::Cpu => self.clone(),
            Device::Cuda(cuda) => {
                self.array(cuda);
                self.clone()
            }
        }
    }

    /// The numbers on a GPU, for a change in place.
    pub fn array_mut(&mut self, cuda: &Cuda) -> Array {
        self.array(cuda);
        let mut device = self.device.take().expect("the numbers were just copied");
        if !device.array.is_unique() {
            device.array = cuda.copy(&device.array);
        }
        let array = device.array.clone();
        self.host.take();
        self.device = OnceLock::from(device);
        array
    }

    /// Sets all numbers to zero. On a GPU they stay at their place.
    ///
    /// # Panics
    /// If the numbers on a GPU have another owner.
    pub fn set_to_zero(&mut self) {
        match self.cuda().cloned() {
            None => *self = Self::zeros(&Device::Cpu, self.len),
            Some(cuda) => cuda.clear(&self.own_place(&cuda)),
        }
    }

    /// Copies as many other numbers over these. On a GPU they stay at their place.
    ///
    /// # Panics
    /// If the lengths differ, or the numbers on a GPU have another owner.
    pub fn replace(&mut self, other: Self) {
        assert_eq!(self.len, other.len, "numbers to copy");
        match self.cuda().cloned() {
            None => *self = other,
            Some(cuda) => cuda.copy_into(other.array(&cuda), &self.own_place(&cuda)),
        }
    }

    /// The numbers on a GPU, for a change where they are.
    fn own_place(&mut self, cuda: &Cuda) -> Array {
        let place = self.array(cuda).pointer();
        let array = self.array_mut(cuda);
        assert_eq!(array.pointer(), place, "another owner would move the numbers");
        array
    }
}

impl Default for Buffer {
    fn default() -> Self {
        Self::from(Vec::new())
    }
}

impl From<Vec<f32>> for Buffer {
    fn from(values: Vec<f32>) -> Self {
        Self { len: values.len(), host: OnceLock::from(Arc::new(values)), device: OnceLock::new() }
    }
}

impl PartialEq for Buffer {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        self.host.get_or_init(|| {
            let OnDevice { cuda, array } = self.device.get().expect("a buffer is somewhere");
            Arc::new(cuda.download(array))
        })
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        let _ = &**self;
        self.device.take();
        Arc::make_mut(self.host.get_mut().expect("the numbers were just read")).as_mut_slice()
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
