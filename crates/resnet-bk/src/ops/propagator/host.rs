//! Host implementation. Sequences run in parallel; heads are the lanes of a vector.

use super::Propagator;
use crate::kernels::{PropagatorGradients, PropagatorSequence, propagator_backward};
use crate::ops::sum_rows;
use crate::tape::HostOp;
use rayon::prelude::*;
use resnet_bk_runtime::internal::resolvent::{PropagatorInput, PropagatorState, propagate};

impl HostOp<4> for Propagator {
    fn forward(&mut self, [hopping, barrier, source, eta]: [&[f32]; 4]) -> Vec<f32> {
        let heads = eta.len();
        let (narrow, wide) = (heads * self.length, 2 * heads * self.length);
        let mut waves = vec![0.0; source.len()];
        let mut ratios = vec![0.0; source.len()];
        waves
            .par_chunks_mut(wide)
            .zip(ratios.par_chunks_mut(wide))
            .zip(hopping.par_chunks(narrow).zip(barrier.par_chunks(narrow)).zip(source.par_chunks(wide)))
            .for_each(|((waves, ratios), ((hopping, barrier), source))| {
                let input = PropagatorInput { hopping, barrier, source, eta };
                propagate(input, &mut PropagatorState::new(heads), waves, ratios);
            });
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
            .map(|(results, (((hopping, barrier), source), ((waves, ratios), gradient)))| {
                let input = PropagatorInput { hopping, barrier, source, eta };
                propagator_backward(PropagatorSequence { input, waves, ratios, gradient }, results)
            })
            .collect();
        [dhopping, dbarrier, dsource, sum_rows(&deta, heads)]
    }
}
