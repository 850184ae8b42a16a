//! Host implementation. In the causal form, many chains run as the lanes of a vector. In the
//! bidirectional form, sequences run in parallel.

mod bidirectional;
pub(crate) mod causal;

use super::ResolventOp;
use crate::numerics::Gradient;
use crate::ops::carry::{before, last_rows};
use crate::ops::sum_rows;
use crate::tape::HostOp;
use rayon::prelude::*;
use resnet_bk_runtime::internal::architecture::Causality;

impl HostOp<2> for ResolventOp {
    fn forward(&mut self, [v, eta]: [&[f32]; 2]) -> Vec<f32> {
        let chain = self.chain(eta);
        let mut features = vec![0.0; 2 * v.len()];
        if self.causality == Causality::Causal {
            let width = 2 * eta.len();
            let states = before(self.carry.as_ref(), v.len() / (eta.len() * self.length) * width);
            causal::forward(chain, self.length, v, &states, &mut features);
            if let Some(carry) = &self.carry {
                carry.set_after(last_rows(&features, self.length, width));
            }
            return features;
        }
        let narrow = eta.len() * self.length;
        features
            .par_chunks_mut(2 * narrow)
            .zip(v.par_chunks(narrow))
            .for_each(|(features, v)| chain.whole(v, features));
        features
    }

    fn backward(self, [v, eta]: [&[f32]; 2], output: &[f32], gradient: Vec<f32>, _: [bool; 2]) -> [Vec<f32>; 2] {
        let heads = eta.len();
        match (self.gradient, self.causality) {
            (Gradient::Blended(blend), _) => [blended(output, &gradient, blend, heads), vec![0.0; heads]],
            (Gradient::Exact, Causality::Causal) => {
                let mut dv = vec![0.0; v.len()];
                let deta = causal::backward(&self.hopping, self.length, output, &gradient, &mut dv);
                [dv, deta]
            }
            (Gradient::Exact, Causality::Bidirectional) => {
                let (chain, narrow, wide) = (self.chain(eta), heads * self.length, 2 * heads * self.length);
                let mut dv = vec![0.0; v.len()];
                let per_sequence: Vec<Vec<f32>> = dv
                    .par_chunks_mut(narrow)
                    .zip(v.par_chunks(narrow))
                    .zip(output.par_chunks(wide).zip(gradient.par_chunks(wide)))
                    .map(|((dv, v), (features, gradient))| bidirectional::backward(chain, v, features, gradient, dv))
                    .collect();
                [dv, sum_rows(&per_sequence, heads)]
            }
        }
    }
}

/// The blended gradient of the potential.
fn blended(features: &[f32], gradient: &[f32], blend: f32, heads: usize) -> Vec<f32> {
    let mut dv = vec![0.0; features.len() / 2];
    for ((g, u), dv) in features.chunks(2 * heads).zip(gradient.chunks(2 * heads)).zip(dv.chunks_mut(heads)) {
        for h in 0..heads {
            let (u, square) = ((u[h], u[heads + h]), square((g[h], g[heads + h])));
            let size = square.0 * square.0 + square.1 * square.1;
            let inverse = (square.0 / size, -square.1 / size);
            dv[h] = -(1.0 - blend) * multiply(u, square).0 - blend * multiply(u, inverse).0;
        }
    }
    dv
}

fn multiply(a: (f32, f32), b: (f32, f32)) -> (f32, f32) {
    (a.0 * b.0 - a.1 * b.1, a.0 * b.1 + a.1 * b.0)
}

fn square(a: (f32, f32)) -> (f32, f32) {
    multiply(a, a)
}
