//! bf16 matrix products on Intel AMX with float32 sums. Whether the processor has AMX is detected
//! at run time.
//!
//! Matrices are split into blocks of 32 x 32. The layout of a bf16 block depends on its side of the
//! product:
//!
//! ```text
//! left    32 rows of 32 numbers along the inner dimension
//! right   16 rows of 32 pairs; a pair lies along the inner dimension
//!
//! out += left right      2 x 2 tiles; 32 of the inner dimension per block
//! ```
//!
//! A tile is 16 rows of 64 bytes (Intel 64 and IA-32 Architectures Software Developer's Manual,
//! volume 1, chapter 18).

mod block;
mod gradient;
mod lanes;
mod permission;
mod power;
mod sums;
mod unit;

pub use block::{Block, Layout, Operand, Part, Source};
pub use gradient::{GradientBlock, Mixture, TokenNormalizers};
pub use lanes::Lanes;
pub use sums::{Exponentials, LIFT, MixedSums, PlainSums};

use resnet_bk_runtime::internal::kernels::Write;
use std::marker::PhantomData;
use std::sync::OnceLock;

/// Rows and columns of a block.
pub const BLOCK: usize = 32;

/// Proof that this process may use AMX.
#[derive(Clone, Copy, Debug)]
pub struct Amx(());

impl Amx {
    /// Detects AMX in processor and operating system. The first call requests it from the operating
    /// system.
    pub fn detect() -> Option<Self> {
        static AVAILABLE: OnceLock<bool> = OnceLock::new();
        AVAILABLE.get_or_init(permission::request).then_some(Self(()))
    }

    /// Configures the tiles of the calling thread.
    pub fn session(self) -> Session {
        unit::configure();
        Session { _this_thread: PhantomData }
    }
}

/// The configured tiles of a thread. They are released on drop.
///
/// A thread can have one session at a time. Do not use a thread pool while it exists: the pool
/// could run another task with its own session on this thread.
#[derive(Debug)]
pub struct Session {
    /// Tile registers belong to a thread.
    _this_thread: PhantomData<*const ()>,
}

impl Session {
    /// `out = left right` or `out += left right`, summed over all blocks in the slices.
    ///
    /// # Panics
    /// If the slices differ in length.
    pub fn multiply(&self, out: &mut Block, write: Write, left: &[Operand], right: &[Operand]) {
        assert_eq!(left.len(), right.len(), "blocks of the inner size");
        unit::multiply(out, write, left, right);
    }

    /// `out[i] = left[i] right`, where `left[i]` has as many blocks as `right`.
    ///
    /// # Panics
    /// If the length of `left` is not `out.len()` times that of `right`.
    pub fn multiply_each(&self, out: &mut [Block], left: &[Operand], right: &[Operand]) {
        assert_eq!(left.len(), out.len() * right.len(), "blocks of the inner size");
        if right.len() <= 2 {
            unit::multiply_each(out, left, right);
        } else {
            for (out, left) in out.iter_mut().zip(left.chunks(right.len())) {
                unit::multiply(out, Write::Overwrite, left, right);
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        unit::release();
    }
}

#[cfg(test)]
mod tests;
