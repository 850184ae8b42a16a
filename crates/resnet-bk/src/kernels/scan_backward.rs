//! Backward pass of the causal resolvent, for many chains at once or for stretches of one long
//! chain.
//!
//! ```text
//! m_t = u_t + c_t     x_t = m_t g_t^2     dv_t = -Re x_t     deta -= Im x_t     c_{t-1} = s^2 x_t
//! ```
//!
//! `u` is the conjugate of the features' gradient, `c` the carry from later positions. The carry
//! that leaves a stretch is an affine function of the carry that enters it.

use resnet_bk_runtime::internal::dispatched;
use resnet_bk_runtime::internal::kernels::InstructionSet;
use resnet_bk_runtime::internal::kernels::lanes::{BlockMut, Direction, LANES, Lanes, STEPS, Strips, Tile, per_head};
use std::ops::Range;

/// The affine map of a stretch from the carry after it to the carry before it:
/// `c -> slope c + constant`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Affine {
    slope: (f32, f32),
    constant: (f32, f32),
}

impl Affine {
    /// The carry before the stretch, from the carry after it.
    pub fn apply(&self, c: (f32, f32)) -> (f32, f32) {
        let (a, k) = (self.slope, self.constant);
        (a.0 * c.0 - a.1 * c.1 + k.0, a.0 * c.1 + a.1 * c.0 + k.1)
    }
}

/// Inputs: ratios and gradient of the features, in strips.
#[derive(Clone, Copy, Debug)]
pub struct LeftBackward<'a> {
    /// Layout of the chains.
    pub strips: Strips,
    /// Off-diagonal, `[H]`.
    pub hopping: &'a [f32],
    /// The features, `[S, T, 2H]`.
    pub ratios: &'a [f32],
    /// Their gradient, `[S, T, 2H]`.
    pub gradient: &'a [f32],
}

/// Gradients of the potential and of eta.
///
/// # Shapes
/// - `carries`: `[S H]`; in: from the positions after each strip; out: to the positions before it
/// - `dv`: `[S, T, H]`, overwritten
/// - returns `[H]`
pub fn left_backward(input: LeftBackward, carries: &mut [(f32, f32)], dv: &mut [f32]) -> Vec<f32> {
    let mut deta = vec![0.0; input.strips.heads];
    for mut block in input.strips.blocks_mut(dv, LANES) {
        let sums = left_backward_block(input, &mut carries[block.chains()], &mut block);
        add_per_head(&mut deta, &sums, block.chains());
    }
    deta
}

/// Adds the sums of a block of chains to the totals of their heads.
pub fn add_per_head(totals: &mut [f32], sums: &Lanes, chains: Range<usize>) {
    for (chain, sum) in chains.zip(sums) {
        totals[chain % totals.len()] += sum;
    }
}

dispatched! {
    /// [`left_backward`] for the chains of one block of the strips, whose carries are given alone.
    /// Returns the gradient of eta for each chain.
    pub fn left_backward_block(input: LeftBackward, carries: &mut [(f32, f32)], dv: &mut BlockMut<1>) -> Lanes
        = left_backward_block_on(set) => left_backward_body(set, input, carries, dv)
}

#[inline(always)]
fn left_backward_body(
    set: InstructionSet,
    input: LeftBackward,
    carries: &mut [(f32, f32)],
    dv: &mut BlockMut<1>,
) -> Lanes {
    let (first, count) = (dv.chains().start, dv.chains().len());
    assert!(dv.strips() == input.strips && carries.len() == count, "a block of other strips");
    let s2 = per_head(input.hopping, first, count).map(|s| s * s);
    let mut tiles = Tiles::new();
    let mut out = [Tile::EMPTY];
    let (mut c_re, mut c_im, mut sum): (Lanes, Lanes, Lanes) = ([0.0; LANES], [0.0; LANES], [0.0; LANES]);
    for (lane, carry) in carries.iter().enumerate() {
        (c_re[lane], c_im[lane]) = *carry;
    }
    for start in (0..input.strips.length).step_by(STEPS).rev() {
        let steps = STEPS.min(input.strips.length - start);
        tiles.load(set, &input, first..first + count, start, steps);
        for step in (0..steps).rev() {
            for lane in 0..LANES {
                let (re, im) = tiles.square(step, lane);
                let m = (tiles.u[0][step][lane] + c_re[lane], c_im[lane] - tiles.u[1][step][lane]);
                let x = (m.0 * re - m.1 * im, m.0 * im + m.1 * re);
                out[0][step][lane] = -x.0;
                sum[lane] -= x.1;
                (c_re[lane], c_im[lane]) = (s2[lane] * x.0, s2[lane] * x.1);
            }
        }
        dv.store(set, &out, start, steps);
    }
    for (lane, carry) in carries.iter_mut().enumerate() {
        *carry = (c_re[lane], c_im[lane]);
    }
    sum
}

dispatched! {
    /// The maps of consecutive chains, beginning with `first`. Shapes: `maps` `[n]` of the
    /// `[S, H]`, overwritten.
    pub fn compose_left_backward(input: LeftBackward, first: usize, maps: &mut [Affine])
        = compose_left_backward_on(set) => compose_left_backward_body(set, input, first, maps)
}

#[inline(always)]
fn compose_left_backward_body(set: InstructionSet, input: LeftBackward, first: usize, maps: &mut [Affine]) {
    let mut tiles = Tiles::new();
    let s2 = per_head(input.hopping, first, maps.len()).map(|s| s * s);
    let (mut a_re, mut a_im): (Lanes, Lanes) = ([1.0; LANES], [0.0; LANES]);
    let (mut k_re, mut k_im): (Lanes, Lanes) = ([0.0; LANES], [0.0; LANES]);
    for start in (0..input.strips.length).step_by(STEPS).rev() {
        let steps = STEPS.min(input.strips.length - start);
        tiles.load(set, &input, first..first + maps.len(), start, steps);
        for step in (0..steps).rev() {
            for lane in 0..LANES {
                let (re, im) = tiles.square(step, lane);
                let (re, im) = (s2[lane] * re, s2[lane] * im);
                let m = (tiles.u[0][step][lane] + k_re[lane], k_im[lane] - tiles.u[1][step][lane]);
                (k_re[lane], k_im[lane]) = (m.0 * re - m.1 * im, m.0 * im + m.1 * re);
                (a_re[lane], a_im[lane]) = (a_re[lane] * re - a_im[lane] * im, a_re[lane] * im + a_im[lane] * re);
            }
        }
    }
    for (lane, map) in maps.iter_mut().enumerate() {
        *map = Affine { slope: (a_re[lane], a_im[lane]), constant: (k_re[lane], k_im[lane]) };
    }
}

/// Staged ratios and gradients of a block.
struct Tiles {
    g: [Tile; 2],
    u: [Tile; 2],
}

impl Tiles {
    #[inline(always)]
    fn new() -> Self {
        Self { g: [Tile::EMPTY; 2], u: [Tile::EMPTY; 2] }
    }

    #[inline(always)]
    fn load(&mut self, set: InstructionSet, input: &LeftBackward, chains: Range<usize>, start: usize, steps: usize) {
        let layout = input.strips.block_layout::<2>(chains.start, chains.len());
        layout.load(set, input.ratios, (start, steps), Direction::Backward, &mut self.g);
        layout.load(set, input.gradient, (start, steps), Direction::Backward, &mut self.u);
    }

    /// `g^2`.
    #[inline(always)]
    fn square(&self, step: usize, lane: usize) -> (f32, f32) {
        let (re, im) = (self.g[0][step][lane], self.g[1][step][lane]);
        (re * re - im * im, 2.0 * re * im)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{equal_bits, values};
    use super::*;

    /// Heads and strips: single chains, rows of chains, and chains of one head that are transposed.
    const SHAPES: [(usize, usize); 9] = [(1, 1), (1, 8), (1, 15), (1, 33), (3, 7), (15, 2), (16, 1), (33, 2), (64, 1)];
    /// Shorter than a tile, one tile, and longer.
    const LENGTHS: [usize; 6] = [0, 1, 17, 63, 64, 129];

    #[test]
    fn every_instruction_set_gives_the_same_bits() {
        for (heads, sequences) in SHAPES {
            let (hopping, chains) = (values(heads, 1), sequences * heads);
            for length in LENGTHS {
                let strips = Strips { length, heads };
                let (ratios, gradient) = (values(2 * chains * length, 2), values(2 * chains * length, 3));
                let input = LeftBackward { strips, hopping: &hopping, ratios: &ratios, gradient: &gradient };
                equal_bits("left_backward", |set| {
                    let mut carries: Vec<(f32, f32)> = values(chains, 4).into_iter().zip(values(chains, 5)).collect();
                    let mut dv = vec![f32::NAN; chains * length];
                    let mut sums = Vec::new();
                    for mut block in strips.blocks_mut(&mut dv, LANES) {
                        let carries = &mut carries[block.chains()];
                        sums.extend(left_backward_block_on(set, input, carries, &mut block));
                    }
                    sums.extend(dv);
                    sums.extend(carries.into_iter().flat_map(<[f32; 2]>::from));
                    sums
                });
                equal_bits("compose_left_backward", |set| {
                    let mut maps = vec![Affine::default(); chains];
                    for block in strips.blocks(chains, LANES) {
                        compose_left_backward_on(set, input, block.start, &mut maps[block]);
                    }
                    maps.iter().flat_map(|map| [map.slope, map.constant]).flat_map(<[f32; 2]>::from).collect()
                });
            }
        }
    }
}
