//! Many recurrences side by side: each lane of a vector runs one chain.
//!
//! ```text
//! strips   one after another, each [length, row]: sequences of a batch, or stretches of one long sequence
//! chain    one head of one strip          block   up to 32 chains, staged through tiles of 16 steps
//! ```

/// Chains of a block.
pub const LANES: usize = 32;
/// Steps of a tile.
pub const STEPS: usize = 16;

/// One number per chain of a block.
pub type Lanes = [f32; LANES];
/// Some steps of a block.
pub type Tile = [Lanes; STEPS];

/// How chains lie in memory: strips of `length` steps, of `heads` heads each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Strips {
    /// Steps of a strip.
    pub length: usize,
    /// Heads, chains of a strip.
    pub heads: usize,
}

/// A block's numbers in rows of some width.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Of the first step of each lane's chain.
    offsets: [usize; LANES],
    count: usize,
    stride: usize,
}

impl Strips {
    /// The block of `count` chains from `first` on, in rows of `parts * heads` numbers, of which it takes the `part`-th heads.
    #[inline(always)]
    pub fn block(self, first: usize, count: usize, parts: usize, part: usize) -> Place {
        let stride = parts * self.heads;
        let mut offsets = [0; LANES];
        for (lane, offset) in offsets[..count].iter_mut().enumerate() {
            let chain = first + lane;
            *offset = chain / self.heads * self.length * stride + part * self.heads + chain % self.heads;
        }
        Place { offsets, count, stride }
    }
}

impl Place {
    /// Whether the lanes lie side by side.
    #[inline(always)]
    fn is_contiguous(&self) -> bool {
        self.offsets[self.count - 1] == self.offsets[0] + self.count - 1
    }

    /// Copies `steps` steps from `start` on into a tile.
    #[inline(always)]
    pub fn load(&self, source: &[f32], start: usize, steps: usize, tile: &mut Tile) {
        if self.is_contiguous() {
            for (step, lanes) in tile[..steps].iter_mut().enumerate() {
                let row = &source[self.offsets[0] + (start + step) * self.stride..][..self.count];
                lanes[..self.count].copy_from_slice(row);
            }
        } else {
            for (lane, offset) in self.offsets[..self.count].iter().enumerate() {
                let chain = source[offset + start * self.stride..].iter().step_by(self.stride);
                tile[..steps].iter_mut().zip(chain).for_each(|(lanes, x)| lanes[lane] = *x);
            }
        }
    }

    /// Copies `steps` steps of a tile out, from `start` on.
    #[inline(always)]
    pub fn store(&self, tile: &Tile, start: usize, steps: usize, out: &mut [f32]) {
        if self.is_contiguous() {
            for (step, lanes) in tile[..steps].iter().enumerate() {
                let row = &mut out[self.offsets[0] + (start + step) * self.stride..][..self.count];
                row.copy_from_slice(&lanes[..self.count]);
            }
        } else {
            for (lane, offset) in self.offsets[..self.count].iter().enumerate() {
                let chain = out[offset + start * self.stride..].iter_mut().step_by(self.stride);
                tile[..steps].iter().zip(chain).for_each(|(lanes, x)| *x = lanes[lane]);
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
