//! CUDA implementation: a lane a chain, which is a head of a sequence or of a stretch of a long one.

use super::Propagator;
use crate::buffer::Buffer;
use crate::device::Cuda;
use crate::device::cuda::{Array, Cut, blocks, launch};
use crate::ops::resolvent::{AFFINE, CHAINS, MOEBIUS, affine_scan, moebius_scan};
use crate::tape::CudaOp;

/// Numbers of a `BackwardMap` of `cuda.cu`.
const BACKWARD_MAP: usize = 10;

impl Propagator {
    /// Places of the ratios and of the waves before the sequences, or zeros.
    fn places_before(&self, cuda: &Cuda) -> [u64; 2] {
        self.carry.as_ref().map_or([0; 2], |carry| halves(carry.before().array(cuda)))
    }

    /// The hopping `s` and the diagonal `a` of every position.
    fn coefficients(cuda: &Cuda, hopping: &Array, barrier: &Array) -> (Array, Array) {
        let n = hopping.len();
        let (s, a) = (cuda.array(n), cuda.array(n));
        launch!(cuda, "propagator_coefficients", blocks(n), 256, hopping, barrier, &s, &a, n);
        (s, a)
    }
}

/// Places of the halves of a state: ratios and waves.
fn halves(state: &Array) -> [u64; 2] {
    let half = state.len() / 2;
    [0, half].map(|first| state.part(first, half).pointer())
}

impl CudaOp<4> for Propagator {
    fn forward(&mut self, cuda: &Cuda, [hopping, barrier, source, eta]: [&Array; 4]) -> Array {
        let heads = eta.len();
        let sequences = hopping.len() / (heads * self.length);
        let (s, a) = Self::coefficients(cuda, hopping, barrier);
        let (waves, ratios) = (cuda.array(source.len()), cuda.array(source.len()));
        let cut = Cut::new(self.length, sequences * heads);
        let [ratios_before, waves_before] = self.places_before(cuda);
        let after = self.carry.as_ref().map(|_| cuda.array(4 * heads * sequences));
        let [ratios_after, waves_after] = after.as_ref().map_or([0; 2], halves);
        let states = (cut.count() > 1).then(|| {
            let chains = sequences * cut.count() * heads;
            let grid = blocks(chains);
            let maps = cuda.array(MOEBIUS * chains);
            launch!(cuda, "propagator_compose", grid, 256, &s, &a, eta, &maps, chains, heads, cut.arg());
            let ratios = moebius_scan(cuda, &maps, ratios_before, [sequences, heads], &cut);
            let maps = cuda.array(AFFINE * chains);
            launch!(
                cuda,
                "propagator_compose_waves",
                grid,
                256,
                &s,
                &a,
                source,
                eta,
                &ratios,
                &maps,
                chains,
                heads,
                cut.arg()
            );
            let waves = affine_scan(cuda, &maps, waves_before, [sequences, heads], &cut, false);
            (ratios, waves)
        });
        let (states, wave_states) = states
            .as_ref()
            .map_or((ratios_before, waves_before), |(ratios, waves)| (ratios.pointer(), waves.pointer()));
        launch!(
            cuda,
            "propagator_forward",
            cut.grid(heads, sequences),
            128,
            &s,
            &a,
            source,
            eta,
            states,
            wave_states,
            &waves,
            &ratios,
            waves_after,
            ratios_after,
            heads,
            cut.arg()
        );
        if let (Some(carry), Some(after)) = (&self.carry, after) {
            carry.set_after(Buffer::on(cuda, after));
        }
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
        let (heads, n, ratios) = (eta.len(), hopping.len(), self.ratios.array(cuda));
        let sequences = n / (heads * self.length);
        let [ratios_before, waves_before] = self.places_before(cuda);
        let (s, _) = Self::coefficients(cuda, hopping, barrier);
        let (dhopping, dbarrier, dsource) = (cuda.array(n), cuda.array(n), cuda.array(source.len()));
        let cut = Cut::new(self.length, sequences * heads);
        let chains = sequences * cut.count() * heads;
        let carries = (cut.count() > 1).then(|| {
            let maps = cuda.array(BACKWARD_MAP * chains);
            let grid = blocks(chains);
            launch!(
                cuda,
                "propagator_compose_backward",
                grid,
                256,
                &s,
                source,
                output,
                ratios,
                &gradient,
                &maps,
                chains,
                heads,
                cut.arg()
            );
            let (psi, g) = (cuda.array(2 * chains), cuda.array(2 * chains));
            let (all, count) = (sequences * heads, cut.count());
            let grid = all.div_ceil(CHAINS);
            launch!(cuda, "propagator_scan_backward", grid, CHAINS, &maps, &psi, &g, all, heads, count);
            (psi, g)
        });
        let (psi_carries, g_carries) = carries.as_ref().map_or((0, 0), |(psi, g)| (psi.pointer(), g.pointer()));
        let detas = cuda.array(chains);
        launch!(
            cuda,
            "propagator_backward",
            cut.grid(heads, sequences),
            128,
            &s,
            source,
            output,
            ratios,
            &gradient,
            psi_carries,
            g_carries,
            waves_before,
            ratios_before,
            &dhopping,
            &dbarrier,
            &dsource,
            &detas,
            heads,
            cut.arg()
        );
        launch!(cuda, "propagator_barrier", blocks(n), 256, barrier, &dbarrier, n);
        let deta = needed[3].then(|| {
            let deta = cuda.array(heads);
            let scratch = cuda.column_grid(1, chains / heads, heads, 1);
            cuda.column_sums(&detas, [chains / heads, heads], &deta, 0, &scratch);
            deta
        });
        [Some(dhopping), Some(dbarrier), Some(dsource), deta]
    }
}
