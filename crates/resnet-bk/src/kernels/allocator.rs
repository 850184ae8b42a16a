//! The allocator of a process that trains: the system's, with two habits changed.
//!
//! A step allocates and frees the same buffers as the step before. The system's allocator gives
//! large ones back to the kernel each time and gets them again page by page, zeroed; and it starts
//! them 16 bytes after a page, so that every full-width vector of theirs straddles two lines of the
//! cache.

use std::alloc::{GlobalAlloc, Layout, System};

/// A line of the cache, in bytes.
const LINE: usize = 64;
/// Blocks of at least these bytes start at a line. Smaller ones do not pay.
const LARGE: usize = 1 << 16;
/// An address.
const START: Layout = Layout::new::<*mut u8>();
/// Sizes from which on glibc would give blocks back to the kernel: one that no buffer has, or else
/// the largest that older versions take.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const KEPT_BELOW: [libc::c_int; 2] = [1 << 30, 1 << 25];

/// The system's allocator, with large blocks at the start of a line of the cache. For
/// `#[global_allocator]`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Allocator;

impl Allocator {
    /// Lets freed memory stay with the process until it ends. To be called before the program
    /// starts a thread. Does something with glibc only.
    pub fn keep_freed_memory(self) {
        #[cfg(all(target_os = "linux", target_env = "gnu"))]
        for size in KEPT_BELOW {
            // SAFETY: sets two numbers of the allocator. Another thread that allocates meanwhile
            // would read one or the other.
            #[expect(unsafe_code, reason = "a C function")]
            let set = unsafe {
                libc::mallopt(libc::M_MMAP_THRESHOLD, size) != 0 && libc::mallopt(libc::M_TRIM_THRESHOLD, size) != 0
            };
            if set {
                return;
            }
        }
    }
}

/// A large block's layout in the system's allocator: room for its start to move to a line, past the
/// address of what was allocated.
///
/// (An aligned allocation would do, but glibc cuts off what is left of the line, so that the freed
/// block is too small for its like.)
fn roomy(layout: Layout) -> Option<Layout> {
    let large = layout.size() >= LARGE && layout.align() <= LINE;
    if large { Layout::from_size_align(layout.size() + LINE, START.align()).ok() } else { None }
}

/// Moves a block to the line after it, and notes where it was.
///
/// # Safety
/// The block is null or has the layout that [`roomy`] gave.
#[expect(unsafe_code, reason = "pointers")]
unsafe fn to_line(block: *mut u8) -> *mut u8 {
    if block.is_null() {
        return block;
    }
    // Blocks start at multiples of an address's size, so that one fits before the line.
    let offset = LINE - block as usize % LINE;
    // SAFETY: the line starts at most `LINE` bytes after the block, which is so much longer than
    // what was asked for.
    unsafe {
        let line = block.add(offset);
        line.cast::<*mut u8>().sub(1).write(block);
        line
    }
}

// SAFETY: every block is one of the system's allocator, or lies in one that is longer by what its
// start has moved; it is given back as it was got, for both depend on the layout alone.
#[expect(unsafe_code, reason = "the trait is unsafe")]
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as promised to this function.
        match roomy(layout) {
            None => unsafe { System.alloc(layout) },
            Some(roomy) => unsafe { to_line(System.alloc(roomy)) },
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as promised to this function.
        match roomy(layout) {
            None => unsafe { System.alloc_zeroed(layout) },
            Some(roomy) => unsafe { to_line(System.alloc_zeroed(roomy)) },
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as promised to this function; before a line is the address of its block.
        match roomy(layout) {
            None => unsafe { System.dealloc(block, layout) },
            Some(roomy) => unsafe { System.dealloc(block.cast::<*mut u8>().sub(1).read(), roomy) },
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as promised to this function.
        let grown = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        if roomy(layout).is_none() && roomy(grown).is_none() {
            // SAFETY: as promised to this function; both are the system's own.
            return unsafe { System.realloc(block, layout, size) };
        }
        // SAFETY: as promised to this function; the blocks do not overlap and both hold what is
        // copied.
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
    fn wider_alignments_are_the_systems() {
        let layout = Layout::from_size_align(2 * LARGE, 4096).expect("a layout");
        // SAFETY: the layout has a size; the block is freed with it.
        #[expect(unsafe_code, reason = "the trait is unsafe")]
        unsafe {
            let block = Allocator.alloc(layout);
            assert!(!block.is_null() && (block as usize).is_multiple_of(4096));
            Allocator.dealloc(block, layout);
        }
    }

    #[test]
    fn large_blocks_start_at_a_line() {
        for size in [1, LARGE - 1, LARGE, 3 * LARGE + 5] {
            let layout = Layout::from_size_align(size, 4).expect("a layout");
            // SAFETY: the layout has a size; the block is freed with it.
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
