//! An allocator for training processes: the system's allocator with two changes.
//!
//! A step allocates and frees the same buffers as the step before. The system's allocator returns
//! large blocks to the kernel each time and gets them back page by page, zeroed. It also places
//! them 16 bytes after the start of a page, so that every full-width vector spans two cache lines.
//! This allocator can keep freed memory, and aligns large blocks to cache lines.

use std::alloc::{GlobalAlloc, Layout, System};

/// Size of a cache line in bytes.
const LINE: usize = 64;
/// Blocks of at least this many bytes are aligned to a cache line. For smaller ones it does not
/// pay.
const LARGE: usize = 1 << 16;
/// Layout of a stored address.
const START: Layout = Layout::new::<*mut u8>();
/// Size from which glibc may return blocks to the kernel: larger than any buffer, or else the
/// largest value that older versions accept.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const KEPT_BELOW: [libc::c_int; 2] = [1 << 30, 1 << 25];

/// The system's allocator with large blocks aligned to cache lines. For `#[global_allocator]`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Allocator;

impl Allocator {
    /// Keeps freed memory in the process until it ends. Call it before the program starts threads.
    /// It has an effect with glibc only.
    pub fn keep_freed_memory(self) {
        #[cfg(all(target_os = "linux", target_env = "gnu"))]
        for size in KEPT_BELOW {
            // SAFETY: sets two parameters of the allocator. A thread that allocates at the same
            // time reads the old or the new value.
            #[expect(unsafe_code, reason = "a C function")]
            let set = unsafe {
                libc::mallopt(libc::M_MMAP_THRESHOLD, size) != 0 && libc::mallopt(libc::M_TRIM_THRESHOLD, size) != 0
            };
            if set {
                return;
            }
        }
    }

    /// Returns freed memory to the kernel, so that what the process holds is what it uses. It has an effect
    /// with glibc only.
    pub(crate) fn return_freed_memory(self) {
        #[cfg(all(target_os = "linux", target_env = "gnu"))]
        // SAFETY: the allocator takes its own locks.
        #[expect(unsafe_code, reason = "a C function")]
        unsafe {
            libc::malloc_trim(0);
        }
    }
}

/// Layout of a large block in the system's allocator, with room to align its start and to store the
/// address of the allocation before it.
///
/// (An aligned allocation would also work. But glibc then splits off the rest of the line, and the
/// freed block is too small to be reused for the same size.)
fn padded_layout(layout: Layout) -> Option<Layout> {
    let large = layout.size() >= LARGE && layout.align() <= LINE;
    if large { Layout::from_size_align(layout.size() + LINE, START.align()).ok() } else { None }
}

/// Aligns a block to the next cache line and stores its original address before it.
///
/// # Safety
/// The block is null or has the layout that [`padded_layout`] returns.
#[expect(unsafe_code, reason = "pointers")]
unsafe fn align_to_line(block: *mut u8) -> *mut u8 {
    if block.is_null() {
        return block;
    }
    // Blocks are aligned to the size of an address, so an address fits before the line.
    let offset = LINE - block as usize % LINE;
    // SAFETY: the line starts at most `LINE` bytes after the block, and the block is that much
    // longer than requested.
    unsafe {
        let line = block.add(offset);
        line.cast::<*mut u8>().sub(1).write(block);
        line
    }
}

// SAFETY: every block is a block of the system's allocator or lies inside a longer one. It is freed
// the way it was allocated, because both depend on the layout alone.
#[expect(unsafe_code, reason = "the trait is unsafe")]
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise is passed on.
        match padded_layout(layout) {
            None => unsafe { System.alloc(layout) },
            Some(padded) => unsafe { align_to_line(System.alloc(padded)) },
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise is passed on.
        match padded_layout(layout) {
            None => unsafe { System.alloc_zeroed(layout) },
            Some(padded) => unsafe { align_to_line(System.alloc_zeroed(padded)) },
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on. The address of the block is stored before the
        // line.
        match padded_layout(layout) {
            None => unsafe { System.dealloc(block, layout) },
            Some(padded) => unsafe { System.dealloc(block.cast::<*mut u8>().sub(1).read(), padded) },
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's promise is passed on.
        let grown = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        if padded_layout(layout).is_none() && padded_layout(grown).is_none() {
            // SAFETY: the caller's promise is passed on; both blocks are the system's own.
            return unsafe { System.realloc(block, layout, size) };
        }
        // SAFETY: the caller's promise is passed on; the blocks do not overlap and both are at
        // least as long as the copy.
        unsafe {
            let moved = self.alloc(grown);
            if !moved.is_null() {
                moved.copy_from_nonoverlapping(block, layout.size().min(size));
                self.dealloc(block, layout);
            }
            moved
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn larger_alignments_use_the_system_allocator() {
        let layout = Layout::from_size_align(2 * LARGE, 4096).expect("a layout");
        // SAFETY: the layout has a nonzero size; the block is freed with it.
        #[expect(unsafe_code, reason = "the trait is unsafe")]
        unsafe {
            let block = Allocator.alloc(layout);
            assert!(!block.is_null() && (block as usize).is_multiple_of(4096));
            Allocator.dealloc(block, layout);
        }
    }

    #[test]
    fn large_blocks_are_aligned_to_cache_lines() {
        for size in [1, LARGE - 1, LARGE, 3 * LARGE + 5] {
            let layout = Layout::from_size_align(size, 4).expect("a layout");
            // SAFETY: the layout has a nonzero size; the block is freed with it.
            #[expect(unsafe_code, reason = "the trait is unsafe")]
            unsafe {
                let block = Allocator.alloc_zeroed(layout);
                assert!(!block.is_null());
                assert!(std::slice::from_raw_parts(block, size).iter().all(|byte| *byte == 0));
                assert!(size < LARGE || (block as usize).is_multiple_of(LINE));
                block.write_bytes(7, size);
                let grown = Allocator.realloc(block, layout, 2 * size);
                assert!(!grown.is_null());
                assert!(std::slice::from_raw_parts(grown, size).iter().all(|byte| *byte == 7));
                let kept = size.div_ceil(3);
                let shrunk = Allocator.realloc(grown, Layout::from_size_align(2 * size, 4).expect("a layout"), kept);
                assert!(!shrunk.is_null());
                assert!(std::slice::from_raw_parts(shrunk, kept).iter().all(|byte| *byte == 7));
                Allocator.dealloc(shrunk, Layout::from_size_align(kept, 4).expect("a layout"));
            }
        }
    }
}
