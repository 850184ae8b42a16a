//! Runs many recurrences at once: each lane of a vector computes one chain.
//!
//! ```text
//! strip   [length, row], one after another: the sequences of a batch, or segments of one long sequence
//! chain   one head of one strip
//! block   up to 32 chains, one per lane
//! tile    64 time steps of a block; data is copied from memory to tiles and back
//! ```

use super::dispatch::InstructionSet;
use super::transpose::{Row, SIDE, Square, transpose};
use std::array::from_fn;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut, Range};
use std::ptr::NonNull;

/// Largest number of chains of a block.
pub const LANES: usize = 32;
/// Time steps of a tile.
pub const STEPS: usize = 64;

/// Fewest chains of a block for which whole rows or squares are copied instead of single numbers.
const MIN_LANES: usize = 8;

/// One number for each chain of a block.
pub type Lanes = [f32; LANES];

/// Up to 64 time steps of a block. The alignment keeps each row within cache lines of its own.
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

/// The memory layout of chains: strips of `length` time steps with `heads` heads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Strips {
    /// Time steps of a strip.
    pub length: usize,
    /// Heads, which are the chains of a strip.
    pub heads: usize,
}

/// The direction in which a kernel runs along its chains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the first time step to the last.
    Forward,
    /// From the last time step to the first.
    Backward,
}

impl Direction {
    /// Offset from the numbers of a tile to those of the next tile, in rows of `stride`.
    #[inline(always)]
    fn to_next_tile(self, stride: usize) -> isize {
        let numbers = (STEPS * stride).cast_signed();
        if self == Self::Forward { numbers } else { -numbers }
    }
}

/// Positions of a block's numbers. Rows have `PARTS * heads` numbers: real numbers, or real parts
/// followed by imaginary parts.
#[derive(Clone, Copy, Debug)]
pub struct BlockLayout<const PARTS: usize> {
    /// For each lane, the position of the first time step of its chain, first part.
    offsets: [usize; LANES],
    count: usize,
    heads: usize,
}

/// Exclusive access to the numbers of a block.
#[derive(Debug)]
pub struct BlockMut<'a, const PARTS: usize> {
    strips: Strips,
    chains: Range<usize>,
    layout: BlockLayout<PARTS>,
    /// The numbers of all blocks. Those at the positions of `layout` belong to this block.
    numbers: NonNull<f32>,
    borrowed: PhantomData<&'a mut [f32]>,
}

// SAFETY: a block is a mutable borrow of the numbers of its layout. No other block has access to
// them.
#[expect(unsafe_code, reason = "blocks of interleaved chains are given to threads")]
unsafe impl<const PARTS: usize> Send for BlockMut<'_, PARTS> {}

impl Strips {
    /// The positions of `count` chains from `first` on.
    #[inline(always)]
    pub fn block_layout<const PARTS: usize>(self, first: usize, count: usize) -> BlockLayout<PARTS> {
        let mut offsets = [0; LANES];
        for (lane, offset) in offsets[..count].iter_mut().enumerate() {
            let chain = first + lane;
            *offset = chain / self.heads * self.length * PARTS * self.heads + chain % self.heads;
        }
        BlockLayout { offsets, count, heads: self.heads }
    }

    /// Divides chains into blocks of at most `lanes`. If a strip has enough heads for rows to be
    /// copied, no block extends past the end of a strip.
    ///
    /// # Panics
    /// If `lanes` is not from 1 to [`LANES`], or there are chains without heads.
    pub fn blocks(self, chains: usize, lanes: usize) -> impl Iterator<Item = Range<usize>> {
        assert!((1..=LANES).contains(&lanes), "{lanes} lanes");
        let mut first = 0;
        std::iter::from_fn(move || {
            let to_end = if self.heads < MIN_LANES { lanes } else { self.heads - first % self.heads };
            let block = first..chains.min(first + lanes.min(to_end));
            first = block.end;
            (!block.is_empty()).then_some(block)
        })
    }

    /// Divides `numbers`, `[S, T, PARTS H]`, into [`blocks`](Self::blocks).
    ///
    /// # Panics
    /// If `numbers` is not a whole number of strips, and as [`blocks`](Self::blocks).
    pub fn blocks_mut<const PARTS: usize>(
        self,
        numbers: &mut [f32],
        lanes: usize,
    ) -> impl Iterator<Item = BlockMut<'_, PARTS>> {
        let per_strip = PARTS.checked_mul(self.length).and_then(|wide| wide.checked_mul(self.heads));
        let per_strip =
            per_strip.filter(|&len| if len == 0 { numbers.is_empty() } else { numbers.len().is_multiple_of(len) });
        let per_strip =
            per_strip.unwrap_or_else(|| panic!("{} numbers are not a whole number of {self:?}", numbers.len()));
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
    /// Whether the lanes are adjacent in memory and numerous enough to copy rows.
    #[inline(always)]
    fn has_rows(&self) -> bool {
        self.count >= MIN_LANES && self.offsets[self.count - 1] == self.offsets[0] + self.count - 1
    }

    /// One part of the first time step of every chain.
    #[inline(always)]
    pub fn first_step(&self, source: &[f32], part: usize) -> Lanes {
        let mut lanes = [0.0; LANES];
        for (lane, offset) in lanes.iter_mut().zip(&self.offsets[..self.count]) {
            *lane = source[offset + part * self.heads];
        }
        lanes
    }

    /// Copies `steps` time steps from `start` on into tiles, one for each part. Prefetches the
    /// numbers of the next tile in this direction.
    #[inline(always)]
    pub fn load(
        &self,
        set: InstructionSet,
        source: &[f32],
        (start, steps): (usize, usize),
        direction: Direction,
        tiles: &mut [Tile; PARTS],
    ) {
        let stride = PARTS * self.heads;
        let ahead = direction.to_next_tile(stride);
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
        if self.heads == 1 && steps == STEPS && self.count >= MIN_LANES {
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

    /// Copies whole tiles of single-head chains, in squares of 16 lanes and 16 numbers of a chain.
    #[inline(always)]
    fn load_chains(&self, set: InstructionSet, source: &[f32], ahead: isize, tiles: &mut [Tile; PARTS]) {
        // All rows are gathered before the transpose, so that their cache misses overlap.
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
    /// The strips that the block belongs to.
    #[inline(always)]
    pub fn strips(&self) -> Strips {
        self.strips
    }

    /// The range of its chains.
    #[inline(always)]
    pub fn chains(&self) -> Range<usize> {
        self.chains.clone()
    }

    /// Writes numbers of a chain, or of a row of chains.
    ///
    /// # Safety
    /// The positions are within the numbers that the block was made from, and belong to its chains.
    #[inline(always)]
    #[expect(unsafe_code, reason = "other blocks' numbers lie between these")]
    unsafe fn write(&mut self, at: usize, numbers: &[f32]) {
        // SAFETY: guaranteed by the caller. Nothing else has a reference to these numbers.
        unsafe { self.numbers.add(at).copy_from_nonoverlapping(NonNull::from(numbers).cast(), numbers.len()) }
    }

    /// Copies `steps` time steps from tiles to memory, from time step `start` on.
    ///
    /// # Panics
    /// If the chains have fewer time steps.
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
                    // SAFETY: the time step is within the chains, and the `count` lanes are
                    // adjacent.
                    unsafe { if count == LANES { self.write(at, row) } else { self.write(at, &row[..count]) } }
                }
            }
            return;
        }
        if heads == 1 && steps == STEPS && count >= MIN_LANES {
            for (group, offsets) in offsets[..count].chunks(SIDE).enumerate() {
                for first in (0..PARTS * STEPS).step_by(SIDE) {
                    let row = |number: usize| row_at(&tiles[number % PARTS][number / PARTS], group * SIDE);
                    let rows = from_fn(|index| row(first + index));
                    for (row, offset) in transpose(set, rows).rows.iter().zip(offsets) {
                        // SAFETY: a single-head chain is `PARTS * length` consecutive numbers, and
                        // these are `SIDE` of them.
                        unsafe { self.write(offset + start * stride + first, row) };
                    }
                }
            }
            return;
        }
        for (lane, offset) in offsets[..count].iter().enumerate() {
            for step in 0..steps {
                for (part, tile) in tiles.iter().enumerate() {
                    // SAFETY: the time step is within the chain.
                    unsafe { self.write(offset + (start + step) * stride + part * heads, &tile[step][lane..][..1]) };
                }
            }
        }
    }
}

/// Prefetches the cache line that is `ahead` numbers from the first one.
#[inline(always)]
fn prefetch(numbers: &[f32], ahead: isize) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let address = numbers.as_ptr().wrapping_offset(ahead);
        // SAFETY: a prefetch is a hint. An invalid address has no effect.
        #[expect(unsafe_code, reason = "takes a pointer")]
        unsafe {
            _mm_prefetch::<_MM_HINT_T0>(address.cast());
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (numbers, ahead);
}

/// One row of a square, from `start` on.
#[inline(always)]
fn row_at(numbers: &[f32], start: usize) -> &Row {
    numbers[start..].first_chunk().expect("a whole row of numbers")
}

/// The value of its head for every chain of a block.
#[inline(always)]
pub fn per_head(values: &[f32], first: usize, count: usize) -> Lanes {
    let mut lanes = [0.0; LANES];
    for (lane, x) in lanes[..count].iter_mut().enumerate() {
        *x = values[(first + lane) % values.len()];
    }
    lanes
}

/// Copies `count` numbers of a row from `first` on into lanes. The other lanes are zero.
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

/// Copies the first `count` lanes into a row from `first` on.
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

    /// A value that encodes its position.
    fn value(chain: usize, step: usize, part: usize) -> f32 {
        (1000 * chain + 10 * step + part) as f32
    }

    /// Stores the values of every block, last block first. If a block wrote into a later one, the
    /// wrong values would remain.
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
    fn blocks_cover_all_numbers_and_do_not_overlap() {
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
    fn invalid_shapes_and_ranges_panic() {
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
