//! The propagator of one sequence; each lane computes a head. Equations: [`crate::resolvent`].

use super::dispatch::InstructionSet;
use super::elementwise::{sigmoid, softplus};
use super::lanes::{LANES, put, take};
use super::scan::reciprocal;
use crate::dispatched;

/// Inputs of the propagator for one sequence, before their nonlinearities.
#[derive(Clone, Copy, Debug)]
pub struct PropagatorInput<'a> {
    /// Hopping before the sigmoid, `[T, H]`.
    pub hopping: &'a [f32],
    /// Barrier before the softplus, `[T, H]`.
    pub barrier: &'a [f32],
    /// Complex source, `[T, 2H]`.
    pub source: &'a [f32],
    /// Spectral shift, `[H]`.
    pub eta: &'a [f32],
}

dispatched! {
    /// Computes the waves and ratios of every position, continuing from the given ratio and wave.
    ///
    /// # Shapes
    /// - `ratio`, `wave`: `[2H]`, updated
    /// - `waves`, `ratios`: `[T, 2H]`, overwritten
    pub fn propagate(
        input: PropagatorInput,
        ratio: &mut [f32],
        wave: &mut [f32],
        waves: &mut [f32],
        ratios: &mut [f32],
    ) = propagate_on(set) => propagate_body(input, ratio, wave, waves, ratios)
}

#[inline(always)]
fn propagate_body(input: PropagatorInput, ratio: &mut [f32], wave: &mut [f32], waves: &mut [f32], ratios: &mut [f32]) {
    let heads = input.eta.len();
    let wide = 2 * heads;
    for first in (0..heads).step_by(LANES) {
        let count = LANES.min(heads - first);
        let eta = take(input.eta, first, count);
        let (mut g_re, mut g_im) = (take(ratio, first, count), take(ratio, heads + first, count));
        let (mut psi_re, mut psi_im) = (take(wave, first, count), take(wave, heads + first, count));
        let rows = input.hopping.chunks_exact(heads).zip(input.barrier.chunks_exact(heads));
        let outputs = waves.chunks_exact_mut(wide).zip(ratios.chunks_exact_mut(wide));
        for (((hopping, barrier), source), (waves, ratios)) in rows.zip(input.source.chunks_exact(wide)).zip(outputs) {
            let (hopping, barrier) = (take(hopping, first, count), take(barrier, first, count));
            let (u_re, u_im) = (take(source, first, count), take(source, heads + first, count));
            for lane in 0..LANES {
                let s = sigmoid(hopping[lane]);
                let s2 = s * s;
                let a = 1.0 + s2 + softplus(barrier[lane]);
                let (re, im) = reciprocal(a - s2 * g_re[lane], -eta[lane] - s2 * g_im[lane]);
                let w_re = (1.0 - s) * u_re[lane] + s * psi_re[lane];
                let w_im = (1.0 - s) * u_im[lane] + s * psi_im[lane];
                (g_re[lane], g_im[lane]) = (re, im);
                (psi_re[lane], psi_im[lane]) = (re * w_re - im * w_im, re * w_im + im * w_re);
            }
            put(&psi_re, waves, first, count);
            put(&psi_im, waves, heads + first, count);
            put(&g_re, ratios, first, count);
            put(&g_im, ratios, heads + first, count);
        }
        put(&g_re, ratio, first, count);
        put(&g_im, ratio, heads + first, count);
        put(&psi_re, wave, first, count);
        put(&psi_im, wave, heads + first, count);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{equal_bits, values};
    use super::*;

    #[test]
    fn every_instruction_set_gives_the_same_bits() {
        for heads in [1, 15, 16, 17, 31, 32, 33, 65] {
            for length in [0, 1, 5] {
                let (hopping, barrier) = (values(length * heads, 1), values(length * heads, 2));
                let (source, eta) = (values(2 * length * heads, 3), values(heads, 4));
                let input = PropagatorInput { hopping: &hopping, barrier: &barrier, source: &source, eta: &eta };
                equal_bits("propagate", |set| {
                    let (mut ratio, mut wave) = (values(2 * heads, 5), values(2 * heads, 6));
                    let (mut waves, mut ratios) = (vec![f32::NAN; source.len()], vec![f32::NAN; source.len()]);
                    propagate_on(set, input, &mut ratio, &mut wave, &mut waves, &mut ratios);
                    [ratio, wave, waves, ratios].concat()
                });
            }
        }
    }
}
