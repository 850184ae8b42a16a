//! Host implementation. Parts of the mask are computed in parallel.

use super::AddDropped;
use crate::tape::HostOp;
use rayon::prelude::*;
use resnet_bk_runtime::internal::kernels::add_row;

/// Elements per task.
const CHUNK: usize = 1 << 14;

impl HostOp<2> for AddDropped {
    fn forward(&mut self, [x, y]: [&[f32]; 2]) -> Vec<f32> {
        let mut out = y.to_vec();
        out.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).enumerate().for_each(|(index, (out, x))| {
            if let Some(mask) = self.mask {
                mask.apply(mask.first_token() * self.width + CHUNK * index, out);
            }
            add_row(out, x);
        });
        out
    }

    fn backward(self, _: [&[f32]; 2], _: &[f32], gradient: Vec<f32>, _: [bool; 2]) -> [Vec<f32>; 2] {
        let mut dy = gradient.clone();
        if let Some(mask) = self.mask {
            let first = mask.first_token() * self.width;
            dy.par_chunks_mut(CHUNK).enumerate().for_each(|(index, dy)| mask.apply(first + CHUNK * index, dy));
        }
        [gradient, dy]
    }
}
