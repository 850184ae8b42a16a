//! The causal form for a batch.
//!
//! Sequences run through the kernels in parallel. A few long sequences are split into stretches
//! that run in parallel: a first pass computes the map of each stretch, the maps give the state at
//! its start, and a second pass computes its values.

use crate::kernels::{Affine, LeftBackward, add_per_head, compose_left_backward, left_backward, left_backward_block};
use crate::ops::sum_rows;
use rayon::prelude::*;
use resnet_bk_runtime::internal::kernels::lanes::{LANES, Strips};
use resnet_bk_runtime::internal::kernels::{Moebius, compose_left, left_ratios, left_ratios_block};
use resnet_bk_runtime::internal::resolvent::Chain;
use std::ops::Range;

/// Shortest sequence to split. The first state of a stretch is rounded differently than without the
/// split.
const LONG: usize = 1024;
/// Shortest stretch.
const STRETCH: usize = 32;

/// How a sequence is split, and the number of chains per task.
struct Cut {
    strips: Strips,
    /// Number of stretches. After the last one, fewer steps remain than there are stretches.
    count: usize,
    /// Chains per task: enough to fill the lanes, fewer if threads would be idle.
    lanes: usize,
}

impl Cut {
    fn new(sequences: usize, heads: usize, length: usize) -> Self {
        let (threads, chains) = (rayon::current_num_threads(), sequences * heads);
        let wanted = if length < LONG { 1 } else { threads * LANES / chains };
        let count = wanted.min(length / STRETCH).max(1);
        // Stretches of different sequences do not share lanes, and there are two passes over them.
        let blocks = sequences * (count * heads).div_ceil(LANES);
        let count = if 2 * blocks.div_ceil(threads) < count { count } else { 1 };
        let lanes = (count * chains).div_ceil(threads).min(LANES);
        Self { strips: Strips { length: length / count, heads }, count, lanes }
    }

    /// Splits per-chain data into one part per task, with the task's chains.
    fn tasks<'a, T>(&self, mut of_chains: &'a mut [T]) -> Vec<(Range<usize>, &'a mut [T])> {
        let blocks = self.strips.blocks(of_chains.len(), self.lanes);
        blocks.map(|block| (block.clone(), of_chains.split_off_mut(..block.len()).expect("a number a chain"))).collect()
    }
}

/// Ratios of every position. Shapes: `v` `[B, T, H]`; `states` `[B, 2H]`, the ratios before the first
/// position, zeros at the start; `ratios` `[B, T, 2H]`, overwritten.
pub fn forward(chain: Chain, length: usize, v: &[f32], states: &[f32], ratios: &mut [f32]) {
    let heads = chain.heads();
    let sequences = v.len() / (length * heads).max(1);
    if sequences == 0 {
        return;
    }
    let cut = Cut::new(sequences, heads, length);
    if cut.count == 1 {
        forward_strips(chain, &cut, v, states, ratios);
    } else {
        v.par_chunks(length * heads)
            .zip(ratios.par_chunks_mut(2 * length * heads))
            .zip(states.par_chunks(2 * heads))
            .for_each(|((v, ratios), state)| forward_stretches(chain, &cut, v, state, ratios));
    }
}

fn forward_strips(chain: Chain, cut: &Cut, v: &[f32], states: &[f32], ratios: &mut [f32]) {
    let blocks: Vec<_> = cut.strips.blocks_mut(ratios, cut.lanes).collect();
    blocks.into_par_iter().for_each(|mut block| left_ratios_block(v, chain, states, &mut block));
}

fn forward_stretches(chain: Chain, cut: &Cut, v: &[f32], state: &[f32], ratios: &mut [f32]) {
    let heads = cut.strips.heads;
    let (stretched, rest) = v.split_at(cut.count * cut.strips.length * heads);
    let (stretched_ratios, rest_ratios) = ratios.split_at_mut(2 * stretched.len());
    // The last stretch needs no map: only the remaining steps follow it, and they start from its
    // ratios.
    let mut maps = vec![Moebius::default(); (cut.count - 1) * heads];
    let tasks = cut.tasks(&mut maps).into_par_iter();
    tasks.for_each(|(chains, maps)| compose_left(stretched, cut.strips, chain, chains.start, maps));
    let mut states = vec![0.0; 2 * cut.count * heads];
    states[..2 * heads].copy_from_slice(state);
    for (index, map) in maps.iter().enumerate() {
        let (before, head) = (index / heads * 2 * heads, index % heads);
        let (re, im) = map.apply((states[before + head], states[before + heads + head]));
        states[before + 2 * heads + head] = re;
        states[before + 3 * heads + head] = im;
    }
    forward_strips(chain, cut, stretched, &states, stretched_ratios);
    if !rest.is_empty() {
        let strips = Strips { length: rest.len() / heads, heads };
        left_ratios(rest, strips, chain, &stretched_ratios[stretched_ratios.len() - 2 * heads..], rest_ratios);
    }
}

/// Gradients of potential and eta. Shapes: `ratios`, `gradient` `[B, T, 2H]`; `dv` `[B, T, H]`,
/// overwritten; returns `[H]`.
pub fn backward(hopping: &[f32], length: usize, ratios: &[f32], gradient: &[f32], dv: &mut [f32]) -> Vec<f32> {
    let heads = hopping.len();
    let sequences = ratios.len() / (2 * length * heads).max(1);
    if sequences == 0 {
        return vec![0.0; heads];
    }
    let cut = Cut::new(sequences, heads, length);
    if cut.count == 1 {
        let input = LeftBackward { strips: cut.strips, hopping, ratios, gradient };
        backward_strips(input, &cut, &mut vec![(0.0, 0.0); sequences * heads], dv)
    } else {
        let wide = 2 * length * heads;
        let per_sequence: Vec<Vec<f32>> = ratios
            .par_chunks(wide)
            .zip(gradient.par_chunks(wide))
            .zip(dv.par_chunks_mut(length * heads))
            .map(|((ratios, gradient), dv)| {
                backward_stretches(LeftBackward { strips: cut.strips, hopping, ratios, gradient }, &cut, dv)
            })
            .collect();
        sum_rows(&per_sequence, heads)
    }
}

fn backward_strips(input: LeftBackward, cut: &Cut, carries: &mut [(f32, f32)], dv: &mut [f32]) -> Vec<f32> {
    let blocks: Vec<_> = cut.strips.blocks_mut(dv, cut.lanes).zip(cut.tasks(carries)).collect();
    let parts: Vec<_> = blocks
        .into_par_iter()
        .map(|(mut block, (chains, carries))| (left_backward_block(input, carries, &mut block), chains))
        .collect();
    let mut deta = vec![0.0; cut.strips.heads];
    for (sums, chains) in parts {
        add_per_head(&mut deta, &sums, chains);
    }
    deta
}

fn backward_stretches(input: LeftBackward, cut: &Cut, dv: &mut [f32]) -> Vec<f32> {
    let Strips { length, heads } = cut.strips;
    let chains = cut.count * heads;
    let (ratios, rest_ratios) = input.ratios.split_at(2 * chains * length);
    let (gradient, rest_gradient) = input.gradient.split_at(2 * chains * length);
    let (dv, rest_dv) = dv.split_at_mut(chains * length);
    let mut deta = vec![0.0; heads];
    let mut carries = vec![(0.0, 0.0); chains];
    if !rest_dv.is_empty() {
        let strips = Strips { length: rest_dv.len() / heads, heads };
        let rest = LeftBackward { strips, ratios: rest_ratios, gradient: rest_gradient, ..input };
        deta = left_backward(rest, &mut carries[chains - heads..], rest_dv);
    }
    let input = LeftBackward { ratios, gradient, ..input };
    // Nothing precedes the first stretch.
    let mut maps = vec![Affine::default(); chains - heads];
    let tasks = cut.tasks(&mut maps).into_par_iter();
    tasks.for_each(|(chains, maps)| compose_left_backward(input, heads + chains.start, maps));
    for chain in (0..chains - heads).rev() {
        carries[chain] = maps[chain].apply(carries[chain + heads]);
    }
    let stretched = backward_strips(input, cut, &mut carries, dv);
    deta.iter_mut().zip(stretched).for_each(|(total, part)| *total += part);
    deta
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::values;

    fn chain<'a>(constants: &'a [Vec<f32>; 3]) -> Chain<'a> {
        Chain { diagonal: &constants[0], hopping: &constants[1], eta: &constants[2] }
    }

    fn constants(heads: usize) -> [Vec<f32>; 3] {
        let per_head = |from: f32, to: f32| (0..heads).map(|h| from + (to - from) * h as f32 / heads as f32).collect();
        [per_head(-2.0, 1.0), per_head(0.7, 1.1), per_head(0.6, 1.0)]
    }

    /// Reference: the formulas, one element at a time. Ratios, then gradients of potential and eta.
    fn slow(chain: Chain, length: usize, v: &[f32], states: &[f32], gradient: &[f32]) -> [Vec<f32>; 3] {
        let heads = chain.heads();
        let (mut g, mut dv, mut deta) = (vec![0.0; 2 * v.len()], vec![0.0; v.len()], vec![0.0f32; heads]);
        for sequence in 0..v.len() / (length * heads) {
            for h in 0..heads {
                let s2 = chain.hopping[h] * chain.hopping[h];
                let row = |t: usize| sequence * length + t;
                let state = &states[2 * heads * sequence..];
                let (mut re, mut im) = (state[h], state[heads + h]);
                for t in 0..length {
                    let a = chain.diagonal[h] + v[row(t) * heads + h] - s2 * re;
                    let b = -chain.eta[h] - s2 * im;
                    let scale = 1.0 / (a * a + b * b);
                    (re, im) = (a * scale, -b * scale);
                    g[2 * row(t) * heads + h] = re;
                    g[(2 * row(t) + 1) * heads + h] = im;
                }
                let mut carry = (0.0f32, 0.0f32);
                for t in (0..length).rev() {
                    let (i, j) = (2 * row(t) * heads + h, (2 * row(t) + 1) * heads + h);
                    let m = (gradient[i] + carry.0, carry.1 - gradient[j]);
                    let square = (g[i] * g[i] - g[j] * g[j], 2.0 * g[i] * g[j]);
                    let x = (m.0 * square.0 - m.1 * square.1, m.0 * square.1 + m.1 * square.0);
                    dv[row(t) * heads + h] = -x.0;
                    deta[h] -= x.1;
                    carry = (s2 * x.0, s2 * x.1);
                }
            }
        }
        [g, dv, deta]
    }

    #[test]
    fn lanes_and_stretches_equal_the_formulas_over_awkward_sizes() {
        // The first state of a stretch is rounded differently; the error does not grow along the
        // stretch. The gradient of eta is a sum over a sequence.
        const ABSOLUTE: f32 = 2e-5;
        for heads in [1, 3, 12, 31, 32, 33, 40, 64] {
            for (sequences, length) in
                [(0, 20), (1, 1), (2, 15), (33, 16), (20, 17), (1, 1023), (1, 1024), (3, 1500), (1, 20_011)]
            {
                let constants = constants(heads);
                let chain = chain(&constants);
                let v: Vec<f32> = values(sequences * length * heads, 1).iter().map(|x| 2.0 * x).collect();
                let gradient = values(2 * v.len(), 2);
                // As in a chain, no imaginary part is negative: the first ratio is far from a pole.
                let states: Vec<f32> = values(2 * heads * sequences, 3).iter().map(|x| 0.3 * x.abs()).collect();
                let [expected, expected_dv, expected_deta] = slow(chain, length, &v, &states, &gradient);
                let (mut ratios, mut dv) = (vec![f32::NAN; 2 * v.len()], vec![f32::NAN; v.len()]);
                forward(chain, length, &v, &states, &mut ratios);
                let deta = backward(chain.hopping, length, &ratios, &gradient, &mut dv);
                let place = format!("{sequences} x {length} x {heads}");
                let check = |name: &str, got: &[f32], expected: &[f32], tolerance: f32| {
                    assert_eq!(got.len(), expected.len(), "{name}, {place}");
                    for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
                        assert!(
                            (got - expected).abs() <= tolerance,
                            "{name}, {place}, {i}: {got}, expected {expected}"
                        );
                    }
                };
                let exact = length < LONG;
                check("ratios", &ratios, &expected, if exact { 0.0 } else { ABSOLUTE });
                check("potential", &dv, &expected_dv, if exact { 0.0 } else { ABSOLUTE });
                check("eta", &deta, &expected_deta, 1e-6 * (sequences * length) as f32 + 1e-4);
            }
        }
    }
}
