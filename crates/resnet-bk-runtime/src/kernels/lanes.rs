//! Many recurrences side by side: each lane of a vector runs one chain.
//!
//! ```text
//! strips   one after another, each [length, row]: sequences of a batch, or stretches of one long sequence
//! chain    one head of one strip          block   up to 32 chains, staged through tiles of 64 steps
//! ```

use super::transpose::{SIDE, Square, transpose};

/// Chains of a block.
pub const LANES: usize = 32;
/// Steps of a tile.
pub const STEPS: usize = 64;

/// Chains from which on rows or squares are copied rather than single numbers.
const FEWEST: usize = 8;

/// One number per chain of a block.
pub type Lanes = [f32; LANES];
/// Some steps of a block.
pub type Tile = [Lanes; STEPS];

/// A tile of zeros.
pub const EMPTY: Tile = [[0.0; LANES]; STEPS];

/// How chains lie in memory: strips of `length` steps, of `heads` heads each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Strips {
    /// Steps of a strip.
    pub length: usize,
    /// Heads, chains of a strip.
    pub heads: usize,
}

/// A block's numbers in rows of `PARTS * heads`: real numbers, or real parts and imaginary parts.
#[derive(Clone, Copy, Debug)]
pub struct Place<const PARTS: usize> {
    /// Of the first step of each lane's chain, first part.
    offsets: [usize; LANES],
    count: usize,
    heads: usize,
}

impl Strips {
    /// The block of `count` chains from `first` on.
    #[inline(always)]
    pub fn block<const PARTS: usize>(self, first: usize, count: usize) -> Place<PARTS> {
        let mut offsets = [0; LANES];
        for (lane, offset) in offsets[..count].iter_mut().enumerate() {
            let chain = first + lane;
            *offset = chain / self.heads * self.length * PARTS * self.heads + chain % self.heads;
        }
        Place { offsets, count, heads: self.heads }
    }
}

impl<const PARTS: usize> Place<PARTS> {
    /// Whether the lanes lie side by side, enough of them to copy rows rather than chains.
    #[inline(always)]
    fn has_rows(&self) -> bool {
        self.count >= FEWEST && self.offsets[self.count - 1] == self.offsets[0] + self.count - 1
    }

    /// Copies `steps` steps from `start` on into tiles, one a part.
    #[inline(always)]
    pub fn load(&self, source: &[f32], start: usize, steps: usize, tiles: &mut [Tile; PARTS]) {
        let stride = PARTS * self.heads;
        if self.has_rows() {
            for step in 0..steps {
                let row = &source[self.offsets[0] + (start + step) * stride..];
                for (part, tile) in tiles.iter_mut().enumerate() {
                    let row = &row[part * self.heads..];
                    match row.first_chunk() {
                        Some(row) if self.count == LANES => tile[step] = *row,
                        _ => tile[step][..self.count].copy_from_slice(&row[..self.count]),
                    }
                }
            }
            return;
        }
        if self.heads == 1 && steps == STEPS && self.count >= FEWEST {
            return self.load_chains(&source[start * stride..], tiles);
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

    /// Whole tiles of chains of one head each, through squares of 16 lanes and 16 numbers of a chain.
    #[inline(always)]
    fn load_chains(&self, source: &[f32], tiles: &mut [Tile; PARTS]) {
        let mut square: Square = [[0.0; SIDE]; SIDE];
        for (group, offsets) in self.offsets[..self.count].chunks(SIDE).enumerate() {
            for first in (0..PARTS * STEPS).step_by(SIDE) {
                for (row, offset) in square.iter_mut().zip(offsets) {
                    row.copy_from_slice(&source[offset + first..offset + first + SIDE]);
                }
                for (number, lanes) in (first..).zip(transpose(&square)) {
                    tiles[number % PARTS][number / PARTS][group * SIDE..][..SIDE].copy_from_slice(&lanes);
                }
            }
        }
    }

    /// Copies `steps` steps of tiles out, from `start` on.
    #[inline(always)]
    pub fn store(&self, tiles: &[Tile; PARTS], start: usize, steps: usize, out: &mut [f32]) {
        let stride = PARTS * self.heads;
        if self.has_rows() {
            for step in 0..steps {
                let row = &mut out[self.offsets[0] + (start + step) * stride..];
                for (part, tile) in tiles.iter().enumerate() {
                    let row = &mut row[part * self.heads..];
                    match row.first_chunk_mut() {
                        Some(row) if self.count == LANES => *row = tile[step],
                        _ => row[..self.count].copy_from_slice(&tile[step][..self.count]),
                    }
                }
            }
            return;
        }
        if self.heads == 1 && steps == STEPS && self.count >= FEWEST {
            return self.store_chains(tiles, &mut out[start * stride..]);
        }
        for (lane, offset) in self.offsets[..self.count].iter().enumerate() {
            let chain = &mut out[offset + start * stride..];
            for step in 0..steps {
                for (part, tile) in tiles.iter().enumerate() {
                    chain[step * stride + part * self.heads] = tile[step][lane];
                }
            }
        }
    }

    /// The inverse of [`Self::load_chains`].
    #[inline(always)]
    fn store_chains(&self, tiles: &[Tile; PARTS], out: &mut [f32]) {
        for (group, offsets) in self.offsets[..self.count].chunks(SIDE).enumerate() {
            for first in (0..PARTS * STEPS).step_by(SIDE) {
                let square: Square = std::array::from_fn(|row| {
                    let number = first + row;
                    std::array::from_fn(|lane| tiles[number % PARTS][number / PARTS][group * SIDE + lane])
                });
                for (row, offset) in transpose(&square).iter().zip(offsets) {
                    out[offset + first..offset + first + SIDE].copy_from_slice(row);
                }
            }
        }
    }
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
