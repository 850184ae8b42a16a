//! CUDA implementation: products by cuBLAS, then a thread an element.

use super::MixFeatures;
use crate::buffer::Buffer;
use crate::device::Cuda;
use crate::device::cuda::{Array, blocks, launch};
use crate::ops::linear::{WeightGradients, affine, affine_backward, weight_gradients};
use crate::tape::CudaOp;

impl CudaOp<6> for MixFeatures {
    fn forward(&mut self, cuda: &Cuda, [x, ffn, features, weight, bias, scale]: [&Array; 6]) -> Array {
        let (n, y) = (x.len(), cuda.array(x.len()));
        let mixed = affine(cuda, features, weight, bias, self.sizes(x.len(), weight.len()));
        launch!(cuda, "mix_features_forward", blocks(n), 256, x, ffn, &mixed, scale, &y, n);
        self.mixed = Buffer::on(cuda, mixed);
        y
    }

    fn backward(
        self,
        cuda: &Cuda,
        [x, _, features, weight, _, scale]: [&Array; 6],
        _: &Array,
        gradient: Array,
        _: [bool; 6],
    ) -> [Option<Array>; 6] {
        let (n, width, mixed) = (x.len(), self.width, self.mixed.array(cuda));
        let [rows, channels, _] = self.sizes(n, weight.len());
        let (scaled, dscale) = (cuda.array(n), cuda.array(1));
        let (grid, partial) = cuda.element_grid(n);
        launch!(
            cuda,
            "mix_features_backward",
            grid,
            256,
            &gradient,
            mixed,
            scale,
            &scaled,
            &dscale,
            n,
            &partial,
            cuda.counters()
        );
        let dfeatures = affine_backward(cuda, &scaled, weight, [rows, channels, width]);
        let (dweight, dbias) = (cuda.array(weight.len()), cuda.array(width));
        let out = WeightGradients { weights: &dweight, biases: &dbias, stride: 0 };
        weight_gradients(cuda, features, &scaled, [1, rows, channels, width], &out);
        [gradient.clone(), gradient, dfeatures, dweight, dbias, dscale].map(Some)
    }
}
