//! The left ratios `g_t` of many chains at once, and maps that allow one long chain to be computed
//! in segments.
//!
//! ```text
//! g_t = 1 / (a_t - i eta - s^2 g_{t-1})           a_t = a0 + v_t
//! ```
//!
//! A time step is a Moebius map of the previous ratio, so a segment of time steps is one too. With
//! `g = n / d`, the pair `(n, d)` becomes `(d, (a_t - i eta) d - s^2 n)`, which is linear.
//! [`compose_left`] computes the matrix of a segment, up to a factor.

use super::dispatch::InstructionSet;
use super::lanes::{BlockMut, Direction, LANES, Lanes, STEPS, Strips, Tile, per_head};
use crate::dispatched;

/// Number of time steps after which a matrix is scaled to magnitude 1. It grows by a factor of at
/// most `|a| + eta + s^2` per time step.
const RESCALE: usize = 4;

/// Constants of the chains of the diagonal mixer, one number per head.
#[derive(Clone, Copy, Debug)]
pub struct Chain<'a> {
    /// Constant part of the diagonal, `[H]`.
    pub diagonal: &'a [f32],
    /// Off-diagonal, `[H]`.
    pub hopping: &'a [f32],
    /// Spectral shift, `[H]`.
    pub eta: &'a [f32],
}

/// `1 / (re + i im)`, finite for finite numbers.
#[inline(always)]
pub fn reciprocal(re: f32, im: f32) -> (f32, f32) {
    // The square of a modulus below 1e-19 is zero. Its reciprocal times zero would be NaN.
    let size = re * re + im * im;
    let scale = 1.0 / if size > f32::MIN_POSITIVE { size } else { f32::MIN_POSITIVE };
    (re * scale, -im * scale)
}

/// Computes the left ratios of strips, continuing from a state for each.
///
/// # Shapes
/// - `potential`: `[S, T, H]`
/// - `states`: `[S, 2H]`, the ratios before the first; zeros at the start
/// - `ratios`: `[S, T, 2H]`, overwritten
pub fn left_ratios(potential: &[f32], strips: Strips, chain: Chain, states: &[f32], ratios: &mut [f32]) {
    for mut block in strips.blocks_mut(ratios, LANES) {
        left_ratios_block(potential, chain, states, &mut block);
    }
}

dispatched! {
    /// [`left_ratios`] of the chains of one block.
    pub fn left_ratios_block(potential: &[f32], chain: Chain, states: &[f32], ratios: &mut BlockMut<2>)
        = left_ratios_block_on(set) => left_ratios_body(set, potential, chain, states, ratios)
}

#[inline(always)]
fn left_ratios_body(set: InstructionSet, potential: &[f32], chain: Chain, states: &[f32], ratios: &mut BlockMut<2>) {
    let (strips, first, count) = (ratios.strips(), ratios.chains().start, ratios.chains().len());
    let (a0, s2, eta) = block_constants(chain, first, count);
    let source = strips.block_layout::<1>(first, count);
    let state = Strips { length: 1, ..strips }.block_layout::<2>(first, count);
    let (mut re, mut im) = (state.first_step(states, 0), state.first_step(states, 1));
    let (mut v, mut g) = ([Tile::EMPTY], [Tile::EMPTY; 2]);
    for start in (0..strips.length).step_by(STEPS) {
        let steps = STEPS.min(strips.length - start);
        source.load(set, potential, (start, steps), Direction::Forward, &mut v);
        for step in 0..steps {
            for lane in 0..LANES {
                let a = a0[lane] + v[0][step][lane] - s2[lane] * re[lane];
                (re[lane], im[lane]) = reciprocal(a, -eta[lane] - s2[lane] * im[lane]);
            }
            (g[0][step], g[1][step]) = (re, im);
        }
        ratios.store(set, &g, start, steps);
    }
}

/// Diagonal, squared hopping and spectral shift for the chains of a block.
#[inline(always)]
fn block_constants(chain: Chain, first: usize, count: usize) -> (Lanes, Lanes, Lanes) {
    let squared = per_head(chain.hopping, first, count).map(|s| s * s);
    (per_head(chain.diagonal, first, count), squared, per_head(chain.eta, first, count))
}

/// The map from the ratio before a segment to the ratio after it: `g -> (n_g g + n_1) / (d_g g +
/// d_1)`. Each coefficient is complex.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Moebius {
    n_g: (f32, f32),
    n_1: (f32, f32),
    d_g: (f32, f32),
    d_1: (f32, f32),
}

impl Moebius {
    /// The ratio after the segment, from the ratio `g` before it.
    pub fn apply(&self, g: (f32, f32)) -> (f32, f32) {
        let affine = |slope: (f32, f32), constant: (f32, f32)| {
            let [a, b, c, d, e, f] = [slope.0, slope.1, g.0, g.1, constant.0, constant.1].map(f64::from);
            (a * c - b * d + e, a * d + b * c + f)
        };
        let (n, d) = (affine(self.n_g, self.n_1), affine(self.d_g, self.d_1));
        let size = (d.0 * d.0 + d.1 * d.1).max(f64::MIN_POSITIVE);
        (((n.0 * d.0 + n.1 * d.1) / size) as f32, ((n.1 * d.0 - n.0 * d.1) / size) as f32)
    }
}

dispatched! {
    /// Computes the maps of the chains of a block, from chain `first` on. Shapes: `potential` `[S,
    /// T, H]`; `maps`, overwritten, has one map per chain.
    pub fn compose_left(potential: &[f32], strips: Strips, chain: Chain, first: usize, maps: &mut [Moebius])
        = compose_left_on(set) => compose_left_body(set, potential, strips, chain, first, maps)
}

#[inline(always)]
fn compose_left_body(
    set: InstructionSet,
    potential: &[f32],
    strips: Strips,
    chain: Chain,
    first: usize,
    maps: &mut [Moebius],
) {
    let mut v = [Tile::EMPTY];
    let (a0, s2, eta) = block_constants(chain, first, maps.len());
    let source = strips.block_layout::<1>(first, maps.len());
    // Real and imaginary parts of n and d, from the start values (1, 0) and (0, 1).
    let mut n = [[[1.0f32; LANES], [0.0; LANES]], [[0.0; LANES], [0.0; LANES]]];
    let mut d = [[[0.0f32; LANES], [0.0; LANES]], [[1.0; LANES], [0.0; LANES]]];
    for start in (0..strips.length).step_by(STEPS) {
        let steps = STEPS.min(strips.length - start);
        source.load(set, potential, (start, steps), Direction::Forward, &mut v);
        for (step, v) in v[0][..steps].iter().enumerate() {
            for (n, d) in n.iter_mut().zip(&mut d) {
                for lane in 0..LANES {
                    let a = a0[lane] + v[lane];
                    let (re, im) = (d[0][lane], d[1][lane]);
                    d[0][lane] = a * re + eta[lane] * im - s2[lane] * n[0][lane];
                    d[1][lane] = a * im - eta[lane] * re - s2[lane] * n[1][lane];
                    (n[0][lane], n[1][lane]) = (re, im);
                }
            }
            if step % RESCALE == RESCALE - 1 {
                rescale(&mut n, &mut d);
            }
        }
    }
    for (lane, map) in maps.iter_mut().enumerate() {
        let complex = |x: &[Lanes; 2]| (x[0][lane], x[1][lane]);
        *map = Moebius { n_g: complex(&n[0]), n_1: complex(&n[1]), d_g: complex(&d[0]), d_1: complex(&d[1]) };
    }
}

#[inline(always)]
fn rescale(n: &mut [[Lanes; 2]; 2], d: &mut [[Lanes; 2]; 2]) {
    let mut size = [f32::MIN_POSITIVE; LANES];
    for part in n.as_flattened().iter().chain(d.as_flattened()) {
        for (size, x) in size.iter_mut().zip(part) {
            let x = x.abs();
            *size = if x > *size { x } else { *size };
        }
    }
    let scale = size.map(|size| 1.0 / size);
    for part in n.as_flattened_mut().iter_mut().chain(d.as_flattened_mut()) {
        for (x, scale) in part.iter_mut().zip(&scale) {
            *x *= scale;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{equal_bits, values};
    use super::*;

    /// Numbers of heads and strips: single chains, rows of chains, and single-head chains that are
    /// transposed.
    const SHAPES: [(usize, usize); 9] = [(1, 1), (1, 8), (1, 15), (1, 33), (3, 7), (15, 2), (16, 1), (33, 2), (64, 1)];
    /// Lengths below a tile, of a tile, and of more than one.
    const LENGTHS: [usize; 6] = [0, 1, 17, 63, 64, 129];

    #[test]
    fn every_instruction_set_gives_the_same_bits() {
        for (heads, strips) in SHAPES {
            let (diagonal, hopping, eta) = (values(heads, 1), values(heads, 2), vec![1.0; heads]);
            let chain = Chain { diagonal: &diagonal, hopping: &hopping, eta: &eta };
            let states = vec![0.0; 2 * strips * heads];
            for length in LENGTHS {
                let shape = Strips { length, heads };
                let potential = values(strips * length * heads, 3);
                equal_bits("left_ratios", |set| {
                    let mut ratios = vec![f32::NAN; 2 * potential.len()];
                    for mut block in shape.blocks_mut(&mut ratios, LANES) {
                        left_ratios_block_on(set, &potential, chain, &states, &mut block);
                    }
                    ratios
                });
                equal_bits("compose_left", |set| {
                    let mut maps = vec![Moebius::default(); strips * heads];
                    for block in shape.blocks(strips * heads, LANES) {
                        compose_left_on(set, &potential, shape, chain, block.start, &mut maps[block]);
                    }
                    maps.iter()
                        .flat_map(|map| [map.n_g, map.n_1, map.d_g, map.d_1])
                        .flat_map(<[f32; 2]>::from)
                        .collect()
                });
            }
        }
    }
}
