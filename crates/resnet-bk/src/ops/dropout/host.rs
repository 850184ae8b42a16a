//! Host implementation. Parts of the mask are computed in parallel.

use super::{AddDropped, Dropout};
use crate::kernels::DropoutMask;
use crate::tape::HostOp;
use rayon::prelude::*;
use resnet_bk_runtime::internal::kernels::add_row;

/// Elements per task.
const CHUNK: usize = 1 << 14;

/// Applies a mask whose rows are `width` wide.
fn drop(mask: DropoutMask, width: usize, values: &mut [f32]) {
    let first = mask.first_token() * width;
    let parts = values.par_chunks_mut(CHUNK).enumerate();
    parts.for_each(|(index, part)| mask.apply(first + CHUNK * index, part));
}

impl HostOp<1> for Dropout {
    fn forward(&mut self, [y]: [&[f32]; 1]) -> Vec<f32> {
        let mut z = y.to_vec();
        drop(self.mask, self.width, &mut z);
        z
    }

    fn backward(self, _: [&[f32]; 1], _: &[f32], mut gradient: Vec<f32>, _: [bool; 1]) -> [Vec<f32>; 1] {
        drop(self.mask, self.width, &mut gradient);
        [gradient]
    }
}

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
            drop(mask, self.width, &mut dy);
        }
        [gradient, dy]
    }
}
