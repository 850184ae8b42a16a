//! Host implementation. Sequences run in parallel; heads are the lanes of a vector.

use super::Propagator;
use crate::kernels::{PropagatorGradients, PropagatorSequence, propagator_backward};
use crate::ops::carry::{before, last_rows};
use crate::ops::sum_rows;
use crate::tape::HostOp;
use rayon::prelude::*;
use resnet_bk_runtime::internal::resolvent::{PropagatorInput, PropagatorState, propagate};

impl HostOp<4> for Propagator {
    fn forward(&mut self, [hopping, barrier, source, eta]: [&[f32]; 4]) -> Vec<f32> {
        let heads = eta.len();
        let (narrow, wide) = (heads * self.length, 2 * heads * self.length);
        let before = before(self.carry.as_ref(), 4 * (hopping.len() / narrow) * heads);
        let (ratios_before, waves_before) = before.split_at(before.len() / 2);
        let mut waves = vec![0.0; source.len()];
        let mut ratios = vec![0.0; source.len()];
        waves
            .par_chunks_mut(wide)
            .zip(ratios.par_chunks_mut(wide))
            .zip(hopping.par_chunks(narrow).zip(barrier.par_chunks(narrow)).zip(source.par_chunks(wide)))
            .zip(ratios_before.par_chunks(2 * heads).zip(waves_before.par_chunks(2 * heads)))
            .for_each(|(((waves, ratios), ((hopping, barrier), source)), (ratio, wave))| {
                let input = PropagatorInput { hopping, barrier, source, eta };
                let mut state = PropagatorState { ratio: ratio.to_vec(), wave: wave.to_vec() };
                propagate(input, &mut state, waves, ratios);
            });
        if let Some(carry) = &self.carry {
            carry.set_after([&ratios, &waves].map(|x| last_rows(x, self.length, 2 * heads)).concat());
        }
        self.ratios = ratios.into();
        waves
    }

    fn backward(
        self,
        [hopping, barrier, source, eta]: [&[f32]; 4],
        output: &[f32],
        gradient: Vec<f32>,
        _: [bool; 4],
    ) -> [Vec<f32>; 4] {
        let heads = eta.len();
        let (narrow, wide) = (heads * self.length, 2 * heads * self.length);
        let before = before(self.carry.as_ref(), 4 * (hopping.len() / narrow) * heads);
        let (ratios_before, waves_before) = before.split_at(before.len() / 2);
        let mut dhopping = vec![0.0; hopping.len()];
        let mut dbarrier = vec![0.0; barrier.len()];
        let mut dsource = vec![0.0; source.len()];
        let inputs = hopping.par_chunks(narrow).zip(barrier.par_chunks(narrow)).zip(source.par_chunks(wide));
        let saved = output.par_chunks(wide).zip(self.ratios.par_chunks(wide)).zip(gradient.par_chunks(wide));
        let results = dhopping
            .par_chunks_mut(narrow)
            .zip(dbarrier.par_chunks_mut(narrow))
            .zip(dsource.par_chunks_mut(wide))
            .map(|((hopping, barrier), source)| PropagatorGradients { hopping, barrier, source });
        let deta: Vec<Vec<f32>> = results
            .zip(inputs.zip(saved))
            .zip(ratios_before.par_chunks(2 * heads).zip(waves_before.par_chunks(2 * heads)))
            .map(|((results, (((hopping, barrier), source), ((waves, ratios), gradient))), (ratio, wave))| {
                let input = PropagatorInput { hopping, barrier, source, eta };
                propagator_backward(PropagatorSequence { input, ratio, wave, waves, ratios, gradient }, results)
            })
            .collect();
        [dhopping, dbarrier, dsource, sum_rows(&deta, heads)]
    }
}
