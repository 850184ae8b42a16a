//! On the host: parts of the mask are drawn in parallel.

use super::AddDropped;
use crate::tape::HostOp;
use rayon::prelude::*;
use resnet_bk_runtime::internal::kernels::add_row;

/// Elements of one task.
const CHUNK: usize = 1 << 14;

impl HostOp<2> for AddDropped {
    fn forward(&mut self, [x, y]: [&[f32]; 2]) -> Vec<f32> {
        let mut out = y.to_vec();
        out.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).enumerate().for_each(|(index, (out, x))| {
            if let Some(mask) = self.mask {
                mask.apply(CHUNK * index, out);
            }
            add_row(out, x);
        });
        out
    }

    fn backward(self, _: [&[f32]; 2], _: &[f32], gradient: Vec<f32>, _: [bool; 2]) -> [Vec<f32>; 2] {
        let mut dy = gradient.clone();
        if let Some(mask) = self.mask {
            dy.par_chunks_mut(CHUNK).enumerate().for_each(|(index, dy)| mask.apply(CHUNK * index, dy));
        }
        [gradient, dy]
    }
}
