//! CUDA implementation: a lane a chain, which is a head of a sequence or of a stretch of a long one.

use super::ResolventOp;
use crate::buffer::Buffer;
use crate::device::Cuda;
use crate::device::cuda::{Array, Cut, blocks, launch};
use crate::numerics::Gradient;
use crate::tape::CudaOp;
use resnet_bk_runtime::internal::architecture::Causality;

/// Threads of a block whose threads run along chains. There are few chains, so small blocks spread
/// over more multiprocessors.
pub(in crate::ops) const CHAINS: usize = 32;
/// Numbers of the maps in `cuda.cu`.
pub(in crate::ops) const MOEBIUS: usize = 8;
pub(in crate::ops) const AFFINE: usize = 4;

impl CudaOp<2> for ResolventOp {
    fn forward(&mut self, cuda: &Cuda, [v, eta]: [&Array; 2]) -> Array {
        let (heads, length) = (eta.len(), self.length);
        let sequences = v.len() / (heads * length);
        let (diagonal, hopping) = (cuda.upload(&self.diagonal), cuda.upload(&self.hopping));
        let features = cuda.array(2 * v.len());
        if self.causality == Causality::Bidirectional {
            let (chains, right) = (sequences * heads, cuda.array(2 * v.len()));
            launch!(
                cuda,
                "resolvent_whole_forward",
                chains.div_ceil(CHAINS),
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
            return features;
        }
        let cut = Cut::new(length, sequences * heads);
        let before = self.carry.as_ref().map_or(0, |carry| carry.before().array(cuda).pointer());
        let after = self.carry.as_ref().map(|_| cuda.array(2 * heads * sequences));
        let states = (cut.count() > 1).then(|| {
            let chains = sequences * cut.count() * heads;
            let maps = cuda.array(MOEBIUS * chains);
            let grid = blocks(chains);
            launch!(cuda, "resolvent_compose", grid, 256, v, &diagonal, &hopping, eta, &maps, chains, heads, cut.arg());
            moebius_scan(cuda, &maps, before, [sequences, heads], &cut)
        });
        let states = states.as_ref().map_or(before, Array::pointer);
        launch!(
            cuda,
            "resolvent_causal_forward",
            cut.grid(heads, sequences),
            128,
            v,
            &diagonal,
            &hopping,
            eta,
            states,
            &features,
            after.as_ref().map_or(0, Array::pointer),
            heads,
            cut.arg()
        );
        if let (Some(carry), Some(after)) = (&self.carry, after) {
            carry.set_after(Buffer::on(cuda, after));
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
        let (heads, length, n) = (eta.len(), self.length, v.len());
        let (sequences, dv) = (n / (heads * length), cuda.array(n));
        if let Gradient::Blended(blend) = self.gradient {
            launch!(cuda, "resolvent_blended_backward", blocks(n), 256, output, &gradient, &dv, blend, n, heads);
            return [Some(dv), needed[1].then(|| cuda.zeros(heads))];
        }
        let hopping = cuda.upload(&self.hopping);
        let detas = match self.causality {
            Causality::Causal => causal_backward(cuda, &hopping, [output, &gradient], &dv, [sequences, heads, length]),
            Causality::Bidirectional => {
                let diagonal = cuda.upload(&self.diagonal);
                let (left, right, chains) = (cuda.array(2 * n), cuda.array(2 * n), sequences * heads);
                let detas = cuda.array(chains);
                launch!(
                    cuda,
                    "resolvent_whole_backward",
                    chains.div_ceil(CHAINS),
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
                detas
            }
        };
        let deta = needed[1].then(|| {
            let deta = cuda.array(heads);
            let (rows, scratch) = (detas.len() / heads, cuda.column_grid(1, detas.len() / heads, heads, 1));
            cuda.column_sums(&detas, [rows, heads], &deta, 0, &scratch);
            deta
        });
        [Some(dv), deta]
    }
}

/// Writes the gradient of the potential; returns that of eta for each chain.
fn causal_backward(
    cuda: &Cuda,
    hopping: &Array,
    [features, gradient]: [&Array; 2],
    dv: &Array,
    [sequences, heads, length]: [usize; 3],
) -> Array {
    let cut = Cut::new(length, sequences * heads);
    let chains = sequences * cut.count() * heads;
    let carries = (cut.count() > 1).then(|| {
        let maps = cuda.array(AFFINE * chains);
        let grid = blocks(chains);
        launch!(
            cuda,
            "resolvent_compose_backward",
            grid,
            256,
            hopping,
            features,
            gradient,
            &maps,
            chains,
            heads,
            cut.arg()
        );
        affine_scan(cuda, &maps, 0, [sequences, heads], &cut, true)
    });
    let detas = cuda.array(chains);
    launch!(
        cuda,
        "resolvent_causal_backward",
        cut.grid(heads, sequences),
        128,
        hopping,
        features,
        gradient,
        carries.as_ref().map_or(0, Array::pointer),
        dv,
        &detas,
        heads,
        cut.arg()
    );
    detas
}

/// The ratio before each stretch, from the stretches' maps. `before` is the place of the ratios before
/// the sequences, or 0.
pub(in crate::ops) fn moebius_scan(
    cuda: &Cuda,
    maps: &Array,
    before: u64,
    [sequences, heads]: [usize; 2],
    cut: &Cut,
) -> Array {
    let (chains, count) = (sequences * heads, cut.count());
    let states = cuda.array(2 * chains * count);
    launch!(cuda, "moebius_scan", chains.div_ceil(CHAINS), CHAINS, maps, before, &states, chains, heads, count);
    states
}

/// The state before each stretch, or after it if the maps lead backward. `before` is the place of the
/// states that the scan begins with, or 0.
pub(in crate::ops) fn affine_scan(
    cuda: &Cuda,
    maps: &Array,
    before: u64,
    [sequences, heads]: [usize; 2],
    cut: &Cut,
    backward: bool,
) -> Array {
    let (chains, count) = (sequences * heads, cut.count());
    let states = cuda.array(2 * chains * count);
    let grid = chains.div_ceil(CHAINS);
    launch!(cuda, "affine_scan", grid, CHAINS, maps, before, &states, chains, heads, count, u32::from(backward));
    states
}
