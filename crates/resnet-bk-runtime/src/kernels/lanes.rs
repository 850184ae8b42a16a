//! Many recurrences side by side: each lane of a vector runs one chain.
//!
//! ```text
//! strips   one after another, each [length, row]: sequences of a batch, or stretches of one long sequence
//! chain    one head of one strip          block   up to 32 chains, staged through tiles of 64 steps
//! ```

use super::dispatch::InstructionSet;
use super::transpose::{Row, SIDE, Square, transpose};
use std::array::from_fn;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut, Range};
use std::ptr::NonNull;

/// Chains of a block.
pub const LANES: usize = 32;
/// Steps of a tile.
pub const STEPS: usize = 64;

/// Chains from which on rows or squares are copied rather than single numbers.
const FEWEST: usize = 8;

/// One number per chain of a block.
pub type Lanes = [f32; LANES];

/// Some steps of a block; a row never straddles two lines of the cache.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub struct Tile([Lanes; STEPS]);

impl Tile {
    /// A tile of zeros.
    pub const EMPTY: Self = Self([[0.0; LANES]; STEPS]);
}

impl Deref for Tile {
    type Target = [Lanes; STEPS];

    #[inline(always)]
    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for Tile {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

/// How chains lie in memory: strips of `length` steps, of `heads` heads each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Strips {
    /// Steps of a strip.
    pub length: usize,
    /// Heads, chains of a strip.
    pub heads: usize,
}

/// Which way a kernel goes along its chains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Walk {
    /// From the first step to the last.
    Forwards,
    /// From the last step to the first.
    Backwards,
}

impl Walk {
    /// From a tile's numbers to those of the next, in rows of `stride`.
    #[inline(always)]
    fn to_next_tile(self, stride: usize) -> isize {
        let numbers = (STEPS * stride).cast_signed();
        if self == Self::Forwards { numbers } else { -numbers }
    }
}

/// Where a block's numbers are, in rows of `PARTS * heads`: real numbers, or real parts and
/// imaginary parts.
#[derive(Clone, Copy, Debug)]
pub struct BlockLayout<const PARTS: usize> {
    /// Of the first step of each lane's chain, first part.
    offsets: [usize; LANES],
    count: usize,
    heads: usize,
}

/// A block's numbers, which nobody else reads or writes while it is there.
#[derive(Debug)]
pub struct BlockMut<'a, const PARTS: usize> {
    strips: Strips,
    chains: Range<usize>,
    layout: BlockLayout<PARTS>,
    /// Numbers of all blocks; those that `layout` names belong to this one.
    numbers: NonNull<f32>,
    borrowed: PhantomData<&'a mut [f32]>,
}

// SAFETY: it is a mutable borrow of the numbers that its layout names.
#[expect(unsafe_code, reason = "blocks of interleaved chains are given to threads")]
unsafe impl<const PARTS: usize> Send for BlockMut<'_, PARTS> {}

impl Strips {
    /// Where `count` chains from `first` on are.
    #[inline(always)]
    pub fn block_layout<const PARTS: usize>(self, first: usize, count: usize) -> BlockLayout<PARTS> {
        let mut offsets = [0; LANES];
        for (lane, offset) in offsets[..count].iter_mut().enumerate() {
            let chain = first + lane;
            *offset = chain / self.heads * self.length * PARTS * self.heads + chain % self.heads;
        }
        BlockLayout { offsets, count, heads: self.heads }
    }

    /// Cuts chains into blocks of at most `lanes`. Where a strip has enough of them for rows to be
    /// copied, no block goes past its end.
    ///
    /// # Panics
    /// If `lanes` is not between 1 and [`LANES`], or there are chains without heads.
    pub fn blocks(self, chains: usize, lanes: usize) -> impl Iterator<Item = Range<usize>> {
        assert!((1..=LANES).contains(&lanes), "{lanes} lanes");
        let mut first = 0;
        std::iter::from_fn(move || {
            let to_end = if self.heads < FEWEST { lanes } else { self.heads - first % self.heads };
            let block = first..chains.min(first + lanes.min(to_end));
            first = block.end;
            (!block.is_empty()).then_some(block)
        })
    }

    /// The [`blocks`](Self::blocks) of `numbers`, `[S, T, PARTS H]`.
    ///
    /// # Panics
    /// If the numbers are not those of whole strips; as `blocks`.
    pub fn blocks_mut<const PARTS: usize>(
        self,
        numbers: &mut [f32],
        lanes: usize,
    ) -> impl Iterator<Item = BlockMut<'_, PARTS>> {
        let per_strip = PARTS.checked_mul(self.length).and_then(|wide| wide.checked_mul(self.heads));
        let per_strip =
            per_strip.filter(|&len| if len == 0 { numbers.is_empty() } else { numbers.len().is_multiple_of(len) });
        let per_strip = per_strip.unwrap_or_else(|| panic!("{} numbers are no whole {self:?}", numbers.len()));
        let chains = numbers.len().checked_div(per_strip).unwrap_or(0) * self.heads;
        let start = NonNull::from(numbers).cast();
        self.blocks(chains, lanes).map(move |block| BlockMut {
            strips: self,
            layout: self.block_layout(block.start, block.len()),
            chains: block,
            numbers: start,
            borrowed: PhantomData,
        })
    }
}

impl<const PARTS: usize> BlockLayout<PARTS> {
    /// Whether the lanes lie side by side, enough of them to copy rows rather than chains.
    #[inline(always)]
    fn has_rows(&self) -> bool {
        self.count >= FEWEST && self.offsets[self.count - 1] == self.offsets[0] + self.count - 1
    }

    /// A part of every chain's first step.
    #[inline(always)]
    pub fn first_step(&self, source: &[f32], part: usize) -> Lanes {
        let mut lanes = [0.0; LANES];
        for (lane, offset) in lanes.iter_mut().zip(&self.offsets[..self.count]) {
            *lane = source[offset + part * self.heads];
        }
        lanes
    }

    /// Copies `steps` steps from `start` on into tiles, one a part. Whole tiles ask for the numbers
    /// of the tile that comes next on this walk.
    #[inline(always)]
    pub fn load(
        &self,
        set: InstructionSet,
        source: &[f32],
        (start, steps): (usize, usize),
        walk: Walk,
        tiles: &mut [Tile; PARTS],
    ) {
        let stride = PARTS * self.heads;
        let ahead = walk.to_next_tile(stride);
        if self.has_rows() {
            for step in 0..steps {
                let row = &source[self.offsets[0] + (start + step) * stride..];
                for (part, tile) in tiles.iter_mut().enumerate() {
                    let row = &row[part * self.heads..];
                    prefetch(row, ahead);
                    prefetch(row, ahead + LANES.cast_signed() / 2);
                    match row.first_chunk() {
                        Some(row) if self.count == LANES => tile[step] = *row,
                        _ => tile[step][..self.count].copy_from_slice(&row[..self.count]),
                    }
                }
            }
            return;
        }
        if self.heads == 1 && steps == STEPS && self.count >= FEWEST {
            return self.load_chains(set, &source[start * stride..], ahead, tiles);
        }
        for (lane, offset) in self.offsets[..self.count].iter().enumerate() {
            let chain = &source[offset + start * stride..];
            for step in 0..steps {
                for (part, tile) in tiles.iter_mut().enumerate() {
                    tile[step][lane] = chain[step * stride + part * self.heads];
                }
            }
        }
    }

    /// Whole tiles of chains of one head each, through squares of 16 lanes and 16 numbers of a
    /// chain.
    #[inline(always)]
    fn load_chains(&self, set: InstructionSet, source: &[f32], ahead: isize, tiles: &mut [Tile; PARTS]) {
        // Gathered first: the processor waits for the rows' memory all at once.
        let mut square = Square { rows: [[0.0; SIDE]; SIDE] };
        for (group, offsets) in self.offsets[..self.count].chunks(SIDE).enumerate() {
            for first in (0..PARTS * STEPS).step_by(SIDE) {
                for (row, offset) in square.rows.iter_mut().zip(offsets) {
                    let chain = &source[offset + first..];
                    row.copy_from_slice(&chain[..SIDE]);
                    prefetch(chain, ahead);
                }
                for (number, lanes) in (first..).zip(transpose(set, square.rows.each_ref()).rows) {
                    tiles[number % PARTS][number / PARTS][group * SIDE..][..SIDE].copy_from_slice(&lanes);
                }
            }
        }
    }
}

impl<const PARTS: usize> BlockMut<'_, PARTS> {
    /// What it is a block of.
    #[inline(always)]
    pub fn strips(&self) -> Strips {
        self.strips
    }

    /// Its chains.
    #[inline(always)]
    pub fn chains(&self) -> Range<usize> {
        self.chains.clone()
    }

    /// Numbers of a chain or of a row of chains.
    ///
    /// # Safety
    /// They are within the numbers that the block was cut from, and of its own chains.
    #[inline(always)]
    #[expect(unsafe_code, reason = "other blocks' numbers lie between these")]
    unsafe fn write(&mut self, at: usize, numbers: &[f32]) {
        // SAFETY: what the caller promises; nobody else has a reference to them.
        unsafe { self.numbers.add(at).copy_from_nonoverlapping(NonNull::from(numbers).cast(), numbers.len()) }
    }

    /// Copies `steps` steps of tiles out, from `start` on.
    ///
    /// # Panics
    /// If the chains have fewer steps.
    #[inline(always)]
    #[expect(unsafe_code, reason = "other blocks' numbers lie between these")]
    pub fn store(&mut self, set: InstructionSet, tiles: &[Tile; PARTS], start: usize, steps: usize) {
        let length = self.strips.length;
        assert!(start <= length && steps <= length - start, "{steps} steps from {start} on, of {length}");
        let BlockLayout { offsets, count, heads } = self.layout;
        let stride = PARTS * heads;
        if self.layout.has_rows() {
            for step in 0..steps {
                for (part, tile) in tiles.iter().enumerate() {
                    let at = offsets[0] + (start + step) * stride + part * heads;
                    let row = &tile[step];
                    // SAFETY: the step is one of the chains', and the `count` lanes lie side by
                    // side.
                    unsafe { if count == LANES { self.write(at, row) } else { self.write(at, &row[..count]) } }
                }
            }
            return;
        }
        if heads == 1 && steps == STEPS && count >= FEWEST {
            for (group, offsets) in offsets[..count].chunks(SIDE).enumerate() {
                for first in (0..PARTS * STEPS).step_by(SIDE) {
                    let row = |number: usize| row_at(&tiles[number % PARTS][number / PARTS], group * SIDE);
                    let rows = from_fn(|index| row(first + index));
                    for (row, offset) in transpose(set, rows).rows.iter().zip(offsets) {
                        // SAFETY: a chain of one head is `PARTS T` numbers in a row, of which these
                        // are `SIDE`.
                        unsafe { self.write(offset + start * stride + first, row) };
                    }
                }
            }
            return;
        }
        for (lane, offset) in offsets[..count].iter().enumerate() {
            for step in 0..steps {
                for (part, tile) in tiles.iter().enumerate() {
                    // SAFETY: the step is one of the chain's.
                    unsafe { self.write(offset + (start + step) * stride + part * heads, &tile[step][lane..][..1]) };
                }
            }
        }
    }
}

/// Asks for the line of the cache that is `ahead` numbers from the first one.
#[inline(always)]
fn prefetch(numbers: &[f32], ahead: isize) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let address = numbers.as_ptr().wrapping_offset(ahead);
        // SAFETY: a hint, of which an address that is not there is no fault.
        #[expect(unsafe_code, reason = "takes a pointer")]
        unsafe {
            _mm_prefetch::<_MM_HINT_T0>(address.cast());
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (numbers, ahead);
}

/// A square's row.
#[inline(always)]
fn row_at(numbers: &[f32], start: usize) -> &Row {
    numbers[start..].first_chunk().expect("a whole row of numbers")
}

/// A number per head, for every chain of a block.
#[inline(always)]
pub fn per_head(values: &[f32], first: usize, count: usize) -> Lanes {
    let mut lanes = [0.0; LANES];
    for (lane, x) in lanes[..count].iter_mut().enumerate() {
        *x = values[(first + lane) % values.len()];
    }
    lanes
}

/// `count` numbers of a row from `first` on, one a lane; the other lanes are zero.
#[inline(always)]
pub fn take(row: &[f32], first: usize, count: usize) -> Lanes {
    match row[first..].first_chunk() {
        Some(lanes) if count == LANES => *lanes,
        _ => {
            let mut lanes = [0.0; LANES];
            lanes[..count].copy_from_slice(&row[first..first + count]);
            lanes
        }
    }
}

/// Puts the first `count` lanes into a row from `first` on.
#[inline(always)]
pub fn put(lanes: &Lanes, row: &mut [f32], first: usize, count: usize) {
    match row[first..].first_chunk_mut() {
        Some(out) if count == LANES => *out = *lanes,
        _ => row[first..first + count].copy_from_slice(&lanes[..count]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A number that tells where it belongs.
    fn value(chain: usize, step: usize, part: usize) -> f32 {
        (1000 * chain + 10 * step + part) as f32
    }

    /// Stores every block's values, from the last block on: one that wrote into a later block's
    /// numbers would leave its own there.
    fn fill(set: InstructionSet, shape: Strips, lanes: usize, numbers: &mut [f32]) {
        let blocks: Vec<BlockMut<2>> = shape.blocks_mut(numbers, lanes).collect();
        for mut block in blocks.into_iter().rev() {
            let chains = block.chains();
            assert!(chains.len() <= lanes);
            for start in (0..shape.length).step_by(STEPS) {
                let steps = STEPS.min(shape.length - start);
                let mut tiles = [Tile::EMPTY; 2];
                for (part, tile) in tiles.iter_mut().enumerate() {
                    for (step, row) in tile[..steps].iter_mut().enumerate() {
                        *row = from_fn(|lane| value(chains.start + lane, start + step, part));
                    }
                }
                block.store(set, &tiles, start, steps);
            }
        }
    }

    #[test]
    fn blocks_share_all_numbers_out_and_write_none_of_another() {
        for set in InstructionSet::available() {
            for (heads, strips) in [(1, 50), (3, 7), (8, 3), (12, 2), (33, 2), (40, 1), (64, 2)] {
                for (lanes, length) in [(1, 3), (10, 64), (32, 70)] {
                    let shape = Strips { length, heads };
                    let mut numbers = vec![f32::NAN; strips * length * 2 * heads];
                    fill(set, shape, lanes, &mut numbers);
                    for (index, &number) in numbers.iter().enumerate() {
                        let (row, head) = (index / heads, index % heads);
                        let (strip, step, part) = (row / 2 / length, row / 2 % length, row % 2);
                        let expected = value(strip * heads + head, step, part);
                        assert_eq!(
                            number, expected,
                            "{set:?}, {heads} heads, {lanes} lanes, strip {strip}, step {step}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn what_does_not_fit_panics() {
        for (length, lanes, numbers) in
            [(2, 4, 13), (0, 4, 12), (usize::MAX / 2 + 2, 1, 2), (2, LANES + 1, 12), (2, 0, 12)]
        {
            let cut = std::panic::catch_unwind(|| {
                Strips { length, heads: 3 }.blocks_mut::<2>(&mut vec![0.0; numbers], lanes).count()
            });
            assert!(cut.is_err(), "{numbers} numbers in strips of {length} steps, by {lanes}");
        }
        for (start, steps) in [(0, 3), (2, 1), (usize::MAX, 1)] {
            let beyond = std::panic::catch_unwind(|| {
                let mut numbers = [0.0; 12];
                let mut blocks = Strips { length: 2, heads: 3 }.blocks_mut::<2>(&mut numbers, 32);
                blocks.next().expect("a block").store(InstructionSet::detect(), &[Tile::EMPTY; 2], start, steps);
            });
            assert!(beyond.is_err(), "{steps} steps from {start} on");
        }
        assert_eq!(Strips { length: 2, heads: 3 }.blocks_mut::<2>(&mut [], 4).count(), 0);
    }
}
