//! Backward pass of the propagator for one sequence; each lane is a head. Equations in
//! [`crate::ops::propagator`].

use resnet_bk_runtime::internal::dispatched;
use resnet_bk_runtime::internal::kernels::lanes::{LANES, put, take};
use resnet_bk_runtime::internal::kernels::{InstructionSet, PropagatorInput, sigmoid};

/// One sequence's slices.
#[derive(Clone, Copy, Debug)]
pub struct PropagatorSequence<'a> {
    /// Inputs of the forward pass.
    pub input: PropagatorInput<'a>,
    /// `g` before the first position, `[2H]`.
    pub ratio: &'a [f32],
    /// `psi` before the first position, `[2H]`.
    pub wave: &'a [f32],
    /// `psi_t`, `[T, 2H]`.
    pub waves: &'a [f32],
    /// `g_t`, `[T, 2H]`.
    pub ratios: &'a [f32],
    /// Gradient of the waves, `[T, 2H]`.
    pub gradient: &'a [f32],
}

/// Gradients of one sequence; overwritten.
#[derive(Debug)]
pub struct PropagatorGradients<'a> {
    /// `[T, H]`.
    pub hopping: &'a mut [f32],
    /// `[T, H]`.
    pub barrier: &'a mut [f32],
    /// `[T, 2H]`.
    pub source: &'a mut [f32],
}

dispatched! {
    /// Computes the gradients of one sequence and returns that of eta, `[H]`.
    pub fn propagator_backward(sequence: PropagatorSequence, results: PropagatorGradients) -> Vec<f32>
        = propagator_backward_on(set) => backward_body(sequence, results)
}

#[inline(always)]
fn backward_body(sequence: PropagatorSequence, results: PropagatorGradients) -> Vec<f32> {
    let heads = sequence.input.eta.len();
    let mut deta = vec![0.0; heads];
    let (narrow, wide) = (|t: usize| t * heads..(t + 1) * heads, |t: usize| 2 * t * heads..2 * (t + 1) * heads);
    for first in (0..heads).step_by(LANES) {
        let count = LANES.min(heads - first);
        let complex = |row: &[f32]| (take(row, first, count), take(row, heads + first, count));
        let mut eta_sum = [0.0; LANES];
        // Gradients of psi and g that come from the next position.
        let (mut psi_back, mut g_back) = (([0.0; LANES], [0.0; LANES]), ([0.0; LANES], [0.0; LANES]));
        for t in (0..sequence.gradient.len() / (2 * heads)).rev() {
            let g = complex(&sequence.ratios[wide(t)]);
            let gradient = complex(&sequence.gradient[wide(t)]);
            let source = complex(&sequence.input.source[wide(t)]);
            let g_before = complex(if t == 0 { sequence.ratio } else { &sequence.ratios[wide(t - 1)] });
            let psi_before = complex(if t == 0 { sequence.wave } else { &sequence.waves[wide(t - 1)] });
            let hopping = take(&sequence.input.hopping[narrow(t)], first, count);
            let barrier = take(&sequence.input.barrier[narrow(t)], first, count);
            let (mut dhopping, mut dbarrier) = ([0.0; LANES], [0.0; LANES]);
            let (mut du_re, mut du_im) = ([0.0; LANES], [0.0; LANES]);
            for h in 0..LANES {
                let s = sigmoid(hopping[h]);
                let s2 = s * s;
                let (g, u) = ((g.0[h], g.1[h]), (source.0[h], source.1[h]));
                let (g_before, psi_before) = ((g_before.0[h], g_before.1[h]), (psi_before.0[h], psi_before.1[h]));
                let q = ((1.0 - s) * u.0 + s * psi_before.0, (1.0 - s) * u.1 + s * psi_before.1);
                let dpsi = (gradient.0[h] + psi_back.0[h], gradient.1[h] + psi_back.1[h]);
                let dq = (g.0 * dpsi.0 + g.1 * dpsi.1, g.0 * dpsi.1 - g.1 * dpsi.0);
                let dg = (q.0 * dpsi.0 + q.1 * dpsi.1 + g_back.0[h], q.0 * dpsi.1 - q.1 * dpsi.0 + g_back.1[h]);
                let square = (g.0 * g.0 - g.1 * g.1, 2.0 * g.0 * g.1);
                let dd = (-(square.0 * dg.0 + square.1 * dg.1), -(square.0 * dg.1 - square.1 * dg.0));
                let mut ds = psi_before.0 * dq.0 + psi_before.1 * dq.1;
                ds -= 2.0 * s * (g_before.0 * dd.0 + g_before.1 * dd.1);
                ds += 2.0 * s * dd.0;
                ds -= u.0 * dq.0 + u.1 * dq.1;
                eta_sum[h] -= dd.1;
                dhopping[h] = s * (1.0 - s) * ds;
                dbarrier[h] = sigmoid(barrier[h]) * dd.0;
                (du_re[h], du_im[h]) = ((1.0 - s) * dq.0, (1.0 - s) * dq.1);
                (psi_back.0[h], psi_back.1[h]) = (s * dq.0, s * dq.1);
                (g_back.0[h], g_back.1[h]) = (-s2 * dd.0, -s2 * dd.1);
            }
            put(&dhopping, &mut results.hopping[narrow(t)], first, count);
            put(&dbarrier, &mut results.barrier[narrow(t)], first, count);
            let dsource = &mut results.source[wide(t)];
            put(&du_re, dsource, first, count);
            put(&du_im, dsource, heads + first, count);
        }
        put(&eta_sum, &mut deta, first, count);
    }
    deta
}

#[cfg(test)]
mod tests {
    use super::super::testing::{equal_bits, values};
    use super::*;

    #[test]
    fn every_instruction_set_gives_the_same_bits() {
        for heads in [1, 15, 16, 17, 31, 32, 33, 65] {
            for length in [0, 1, 5] {
                let narrow = [1, 2].map(|salt| values(length * heads, salt));
                let wide = [3, 4, 5, 6].map(|salt| values(2 * length * heads, salt));
                let eta = values(heads, 7);
                let input = PropagatorInput { hopping: &narrow[0], barrier: &narrow[1], source: &wide[0], eta: &eta };
                let [ratio, wave] = &[8, 9].map(|salt| values(2 * heads, salt));
                let (waves, ratios, gradient) = (&wide[1][..], &wide[2][..], &wide[3][..]);
                let sequence = PropagatorSequence { input, ratio, wave, waves, ratios, gradient };
                equal_bits("propagator_backward", |set| {
                    let (mut hopping, mut barrier) = (vec![f32::NAN; length * heads], vec![f32::NAN; length * heads]);
                    let mut source = vec![f32::NAN; 2 * length * heads];
                    let gradients =
                        PropagatorGradients { hopping: &mut hopping, barrier: &mut barrier, source: &mut source };
                    let deta = propagator_backward_on(set, sequence, gradients);
                    [hopping, barrier, source, deta].concat()
                });
            }
        }
    }
}
