//! CUDA implementation: a lane a chain, which is a head of a sequence.

use super::Propagator;
use crate::buffer::Buffer;
use crate::device::Cuda;
use crate::device::cuda::{Array, blocks, chain_grid, launch};
use crate::tape::CudaOp;

impl Propagator {
    /// The hopping `s` and the diagonal `a` of every position.
    fn coefficients(cuda: &Cuda, hopping: &Array, barrier: &Array) -> (Array, Array) {
        let n = hopping.len();
        let (s, a) = (cuda.array(n), cuda.array(n));
        launch!(cuda, "propagator_coefficients", blocks(n), 256, hopping, barrier, &s, &a, n);
        (s, a)
    }
}

impl CudaOp<4> for Propagator {
    fn forward(&mut self, cuda: &Cuda, [hopping, barrier, source, eta]: [&Array; 4]) -> Array {
        let heads = eta.len();
        let chains = hopping.len() / self.length;
        let (s, a) = Self::coefficients(cuda, hopping, barrier);
        let (waves, ratios) = (cuda.array(source.len()), cuda.array(source.len()));
        launch!(
            cuda,
            "propagator_forward",
            chain_grid(heads, chains),
            128,
            &s,
            &a,
            source,
            eta,
            &waves,
            &ratios,
            heads,
            self.length
        );
        self.ratios = Buffer::on(cuda, ratios);
        waves
    }

    fn backward(
        self,
        cuda: &Cuda,
        [hopping, barrier, source, eta]: [&Array; 4],
        output: &Array,
        gradient: Array,
        needed: [bool; 4],
    ) -> [Option<Array>; 4] {
        let (heads, n) = (eta.len(), hopping.len());
        let chains = n / self.length;
        let (s, _) = Self::coefficients(cuda, hopping, barrier);
        let (dhopping, dbarrier, dsource) = (cuda.array(n), cuda.array(n), cuda.array(source.len()));
        let detas = cuda.array(chains);
        launch!(
            cuda,
            "propagator_backward",
            chain_grid(heads, chains),
            128,
            &s,
            source,
            output,
            self.ratios.array(cuda),
            &gradient,
            &dhopping,
            &dbarrier,
            &dsource,
            &detas,
            heads,
            self.length
        );
        launch!(cuda, "propagator_barrier", blocks(n), 256, barrier, &dbarrier, n);
        let deta = needed[3].then(|| {
            let deta = cuda.array(heads);
            cuda.column_sums(&detas, [1, chains / heads, heads], &deta, 0);
            deta
        });
        [Some(dhopping), Some(dbarrier), Some(dsource), deta]
    }
}
