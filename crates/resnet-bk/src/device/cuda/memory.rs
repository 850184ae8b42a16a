//! Device memory: arrays, and pools of blocks to allocate them from.
//!
//! Allocation by the driver takes longer than most kernels, so freed blocks are kept and used
//! again. Sizes are rounded up to a quarter of a power of two.

use super::{Cuda, check};
use crate::device::DeviceError;
use cudarc::driver::{CudaContext, result};
use std::collections::BTreeMap;
use std::fmt::{self, Debug};
use std::marker::PhantomData;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Smallest block, in bytes.
const SMALLEST: usize = 512;

/// Blocks of device memory.
pub(super) struct Pool {
    context: Arc<CudaContext>,
    /// Free blocks by size.
    free: Mutex<Blocks>,
    /// Of all pools of the device.
    usage: Arc<Usage>,
}

type Blocks = BTreeMap<usize, Vec<u64>>;

/// Device memory that this process holds.
#[derive(Debug, Default)]
pub(super) struct Usage {
    /// Bytes of all blocks.
    pub held: AtomicUsize,
    /// Largest number of bytes so far.
    pub peak: AtomicUsize,
}

/// A block of device memory, given back to its pool when the last owner is dropped.
pub struct Allocation {
    pointer: u64,
    bytes: usize,
    pool: Arc<Pool>,
}

impl Allocation {
    pub(super) fn pointer(&self) -> u64 {
        self.pointer
    }
}

impl Drop for Allocation {
    fn drop(&mut self) {
        self.pool.lock().entry(self.bytes).or_default().push(self.pointer);
    }
}

impl Pool {
    pub(super) fn new(context: Arc<CudaContext>, usage: Arc<Usage>) -> Self {
        Self { context, free: Mutex::default(), usage }
    }

    /// An empty pool of the same device.
    pub(super) fn beside(&self) -> Self {
        Self::new(self.context.clone(), self.usage.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Blocks> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A block of at least `bytes`.
    ///
    /// # Errors
    /// [`DeviceError::OutOfMemory`].
    pub(super) fn allocate(self: Arc<Self>, bytes: usize) -> Result<Arc<Allocation>, DeviceError> {
        let bytes = rounded(bytes);
        let mut free = self.lock();
        let reused = free.get_mut(&bytes).and_then(Vec::pop);
        let pointer = match reused {
            Some(pointer) => pointer,
            None => {
                let pointer = self.new_block(&mut free, bytes)?;
                let held = self.usage.held.fetch_add(bytes, Ordering::Relaxed) + bytes;
                self.usage.peak.fetch_max(held, Ordering::Relaxed);
                pointer
            }
        };
        drop(free);
        Ok(Arc::new(Allocation { pointer, bytes, pool: self }))
    }

    #[expect(unsafe_code, reason = "calls of the driver")]
    fn new_block(&self, blocks: &mut Blocks, bytes: usize) -> Result<u64, DeviceError> {
        check("cuCtxSetCurrent", self.context.bind_to_thread());
        // SAFETY: a plain allocation.
        unsafe { result::malloc_sync(bytes) }.or_else(|_| {
            self.release(blocks);
            // SAFETY: a plain allocation.
            unsafe { result::malloc_sync(bytes) }.map_err(|_| {
                let (free, total) = result::mem_get_info().unwrap_or_default();
                let held = self.usage.held.load(Ordering::Relaxed);
                DeviceError::OutOfMemory { needed: bytes, free, total, held, batch: None }
            })
        })
    }

    /// Gives the free blocks back to the driver.
    pub(super) fn trim(&self) {
        check("cuCtxSetCurrent", self.context.bind_to_thread());
        self.release(&mut self.lock());
    }

    #[expect(unsafe_code, reason = "calls of the driver")]
    fn release(&self, blocks: &mut Blocks) {
        for (bytes, pointers) in std::mem::take(blocks) {
            for pointer in pointers {
                // SAFETY: the block is free, and the driver waits for the work that uses it.
                // A failure leaks the block.
                let _ = unsafe { result::free_sync(pointer) };
                self.usage.held.fetch_sub(bytes, Ordering::Relaxed);
            }
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if self.context.bind_to_thread().is_ok() {
            self.release(&mut self.lock());
        }
    }
}

/// A size that blocks have: a quarter of a power of two, or a multiple of it below the next.
fn rounded(bytes: usize) -> usize {
    let bytes = bytes.max(SMALLEST);
    let step = (bytes.next_power_of_two() / 8).max(SMALLEST);
    bytes.next_multiple_of(step)
}

/// Memory that is kept.
pub(crate) type Kept = Arc<Allocation>;

/// An array in device memory. Clones share it.
///
/// An array is not changed after the call that fills it, except by the optimizer, by the sum of
/// gradients, and by what stays at one place for recorded steps: each owns theirs.
pub struct Array<T = f32> {
    allocation: Arc<Allocation>,
    /// First element.
    offset: usize,
    len: usize,
    element: PhantomData<T>,
}

impl<T> Clone for Array<T> {
    fn clone(&self) -> Self {
        Self { allocation: self.allocation.clone(), element: PhantomData, ..*self }
    }
}

impl<T> Debug for Array<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Array of {} on the device", self.len)
    }
}

impl<T> Array<T> {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Address of the first element.
    pub fn pointer(&self) -> u64 {
        self.allocation.pointer + (self.offset * size_of::<T>()) as u64
    }

    /// Keeps the memory from being used again.
    pub(crate) fn kept(&self) -> Kept {
        self.allocation.clone()
    }

    /// Whether this is the array's memory.
    pub(super) fn shares(&self, kept: &Kept) -> bool {
        Arc::ptr_eq(&self.allocation, kept)
    }

    /// Whether no other array shares the memory.
    pub fn is_unique(&self) -> bool {
        Arc::strong_count(&self.allocation) == 1
    }

    /// A part of the array, which shares its memory.
    ///
    /// # Panics
    /// If the part is not inside.
    pub fn part(&self, first: usize, len: usize) -> Self {
        assert!(first + len <= self.len, "elements {first} to {} of {}", first + len, self.len);
        Self { offset: self.offset + first, len, ..self.clone() }
    }
}

impl Cuda {
    /// An array of float32 with undefined values.
    pub fn array(&self, len: usize) -> Array {
        self.array_of(len)
    }

    /// An array with undefined values.
    pub fn array_of<T>(&self, len: usize) -> Array<T> {
        let allocation = self.pool().allocate(len * size_of::<T>()).unwrap_or_else(|error| error.throw());
        Array { allocation, offset: 0, len, element: PhantomData }
    }

    /// An array of float32 zeros.
    pub fn zeros(&self, len: usize) -> Array {
        self.zeros_of(len)
    }

    /// An array whose bytes are zero.
    pub fn zeros_of<T: Copy>(&self, len: usize) -> Array<T> {
        let array = self.array_of(len);
        self.zero(array.pointer(), len * size_of::<T>());
        array
    }

    /// Sets an array to zero.
    pub fn clear<T>(&self, array: &Array<T>) {
        self.zero(array.pointer(), array.len * size_of::<T>());
    }

    /// A copy of numbers of the host.
    pub fn upload<T: Copy>(&self, values: &[T]) -> Array<T> {
        if self.is_recording() {
            return self.upload_beside_recording(values);
        }
        let array = self.array_of(values.len());
        self.write(array.pointer(), values);
        array
    }

    /// Overwrites an array with numbers of the host.
    pub fn overwrite<T: Copy>(&self, array: &Array<T>, values: &[T]) {
        assert_eq!(array.len, values.len(), "numbers to copy");
        self.write(array.pointer(), values);
    }

    /// A copy on the device.
    pub fn copy<T>(&self, from: &Array<T>) -> Array<T> {
        let to = self.array_of(from.len);
        self.copy_into(from, &to);
        to
    }

    /// Copies an array over another of the same length.
    #[expect(unsafe_code, reason = "a call of the driver")]
    pub fn copy_into<T>(&self, from: &Array<T>, to: &Array<T>) {
        assert_eq!(from.len, to.len, "numbers to copy");
        self.bind();
        let bytes = from.len * size_of::<T>();
        if bytes > 0 {
            self.timed(
                || "copy".to_owned(),
                || {
                    let (to, from) = (to.pointer(), from.pointer());
                    // SAFETY: both arrays have this many bytes.
                    let done = unsafe { result::memcpy_dtod_async(to, from, bytes, self.stream()) };
                    check("cuMemcpyDtoDAsync", done);
                },
            );
        }
    }

    /// Copies the numbers to the host. Waits for the work before.
    #[expect(unsafe_code, reason = "a call of the driver")]
    pub fn download<T: Copy + Default>(&self, array: &Array<T>) -> Vec<T> {
        self.join();
        let mut values = vec![T::default(); array.len];
        if !values.is_empty() {
            self.bind();
            // SAFETY: the vector has as many elements as the array and lives until the stream is
            // done.
            let done = unsafe { result::memcpy_dtoh_async(&mut values, array.pointer(), self.0.stream) };
            check("cuMemcpyDtoHAsync", done);
        }
        self.synchronize();
        values
    }

    #[expect(unsafe_code, reason = "a call of the driver")]
    pub(super) fn write<T: Copy>(&self, pointer: u64, values: &[T]) {
        if values.is_empty() {
            return;
        }
        self.bind();
        // SAFETY: the array has room for the values. The driver copies pageable memory before it
        // returns, so they may change then.
        let done = unsafe { result::memcpy_htod_async(pointer, values, self.stream()) };
        check("cuMemcpyHtoDAsync", done);
    }

    #[expect(unsafe_code, reason = "a call of the driver")]
    pub(super) fn zero(&self, pointer: u64, bytes: usize) {
        if bytes > 0 {
            self.bind();
            self.timed(
                || "zero".to_owned(),
                || {
                    // SAFETY: the array has this many bytes.
                    let done = unsafe { result::memset_d8_async(pointer, 0, bytes, self.stream()) };
                    check("cuMemsetD8Async", done);
                },
            );
        }
    }

    /// An upload must not become part of the graph: the host memory is gone when the graph runs. It
    /// goes through another stream, into memory that the graph keeps for itself.
    #[expect(unsafe_code, reason = "calls of the driver")]
    fn upload_beside_recording<T: Copy>(&self, values: &[T]) -> Array<T> {
        let pool = Arc::new(self.pool().beside());
        let allocation = pool.allocate(size_of_val(values)).unwrap_or_else(|error| error.throw());
        let array = Array { allocation: allocation.clone(), offset: 0, len: values.len(), element: PhantomData };
        if !values.is_empty() {
            self.bind();
            // SAFETY: the new array has room for the values, which live until the stream is done.
            unsafe {
                let done = result::memcpy_htod_async(array.pointer(), values, self.0.upload_stream);
                check("cuMemcpyHtoDAsync", done);
                check("cuStreamSynchronize", result::stream::synchronize(self.0.upload_stream));
            }
        }
        if let Some(kept) = &mut *self.0.recording.lock().unwrap_or_else(PoisonError::into_inner) {
            kept.push(allocation);
        }
        array
    }
}

#[cfg(test)]
mod tests {
    use super::rounded;

    #[test]
    fn sizes_are_rounded_up_by_at_most_a_quarter() {
        assert_eq!((rounded(0), rounded(512), rounded(513), rounded(5_000)), (512, 512, 1024, 5_120));
        for bytes in (4096..2_000_000).step_by(977) {
            assert!(rounded(bytes) >= bytes && rounded(bytes) * 4 <= bytes * 5, "{bytes}");
        }
    }
}
