//! CUDA implementation: a lane a chain, which is a head of a sequence.

use super::ResolventOp;
use crate::device::Cuda;
use crate::device::cuda::{Array, blocks, chain_grid, launch};
use crate::numerics::Gradient;
use crate::tape::CudaOp;
use resnet_bk_runtime::internal::architecture::Causality;

/// Threads of a block of the bidirectional form. There are few chains, so small blocks spread over
/// more multiprocessors.
const CHAINS: usize = 32;

impl CudaOp<2> for ResolventOp {
    fn forward(&mut self, cuda: &Cuda, [v, eta]: [&Array; 2]) -> Array {
        let (heads, chains) = (eta.len(), v.len() / self.length);
        let (diagonal, hopping) = (cuda.upload(&self.diagonal), cuda.upload(&self.hopping));
        let (features, grid, length) = (cuda.array(2 * v.len()), chains.div_ceil(CHAINS), self.length);
        match self.causality {
            Causality::Causal => launch!(
                cuda,
                "resolvent_causal_forward",
                chain_grid(heads, chains),
                128,
                v,
                &diagonal,
                &hopping,
                eta,
                &features,
                heads,
                length
            ),
            Causality::Bidirectional => {
                let right: Array = cuda.array(2 * v.len());
                launch!(
                    cuda,
                    "resolvent_whole_forward",
                    grid,
                    CHAINS,
                    v,
                    &diagonal,
                    &hopping,
                    eta,
                    &right,
                    &features,
                    chains,
                    heads,
                    length
                );
            }
        }
        features
    }

    fn backward(
        self,
        cuda: &Cuda,
        [v, eta]: [&Array; 2],
        output: &Array,
        gradient: Array,
        needed: [bool; 2],
    ) -> [Option<Array>; 2] {
        let (heads, chains, n) = (eta.len(), v.len() / self.length, v.len());
        let (dv, grid, length) = (cuda.array(n), chains.div_ceil(CHAINS), self.length);
        if let Gradient::Blended(blend) = self.gradient {
            launch!(cuda, "resolvent_blended_backward", blocks(n), 256, output, &gradient, &dv, blend, n, heads);
            return [Some(dv), needed[1].then(|| cuda.zeros(heads))];
        }
        let hopping = cuda.upload(&self.hopping);
        let detas = cuda.array(chains);
        match self.causality {
            Causality::Causal => launch!(
                cuda,
                "resolvent_causal_backward",
                chain_grid(heads, chains),
                128,
                &hopping,
                output,
                &gradient,
                &dv,
                &detas,
                heads,
                length
            ),
            Causality::Bidirectional => {
                let diagonal = cuda.upload(&self.diagonal);
                let (left, right): (Array, Array) = (cuda.array(2 * n), cuda.array(2 * n));
                launch!(
                    cuda,
                    "resolvent_whole_backward",
                    grid,
                    CHAINS,
                    v,
                    &diagonal,
                    &hopping,
                    eta,
                    output,
                    &gradient,
                    &left,
                    &right,
                    &dv,
                    &detas,
                    chains,
                    heads,
                    length
                );
            }
        }
        let deta = needed[1].then(|| {
            let deta = cuda.array(heads);
            cuda.column_sums(&detas, [1, chains / heads, heads], &deta, 0);
            deta
        });
        [Some(dv), deta]
    }
}
