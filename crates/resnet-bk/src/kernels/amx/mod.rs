//! bf16 products on the processor's tile unit, Intel AMX, with float32 sums; chosen at run time.
//!
//! Everything is in blocks of 32 x 32. A block of bf16 is laid out for the side of the product that
//! it stands on:
//!
//! ```text
//! left    32 rows of 32 numbers along the inner size            out += left right: two tiles high, two wide,
//! right   16 rows of 32 pairs, a pair along the inner size      one step of 32 along the inner size a block
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

/// Proof that this process may use the tile unit.
#[derive(Clone, Copy, Debug)]
pub struct Amx(());

impl Amx {
    /// The unit, where processor and operating system have it. The first call asks the operating
    /// system for it.
    pub fn detect() -> Option<Self> {
        static AVAILABLE: OnceLock<bool> = OnceLock::new();
        AVAILABLE.get_or_init(permission::request).then_some(Self(()))
    }

    /// Configures the unit for the calling thread.
    pub fn session(self) -> Session {
        unit::configure();
        Session { _this_thread: PhantomData }
    }
}

/// A thread's configured tile unit, until it is dropped. One at a time on a thread: while it lives,
/// nothing may be handed to a thread pool, which could run another's work, with a session of its
/// own, on this thread.
#[derive(Debug)]
pub struct Session {
    /// Tile registers belong to a thread.
    _this_thread: PhantomData<*const ()>,
}

impl Session {
    /// `out = left right` or `out += left right`, over as many blocks of the inner size as the
    /// slices hold.
    ///
    /// # Panics
    /// If the slices differ in length.
    pub fn multiply(&self, out: &mut Block, write: Write, left: &[Operand], right: &[Operand]) {
        assert_eq!(left.len(), right.len(), "blocks of the inner size");
        unit::multiply(out, write, left, right);
    }

    /// `out[i] = left[i] right`, where `left[i]` is as many blocks as the right side has.
    ///
    /// # Panics
    /// If the left side does not have that many blocks for each of the output.
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
