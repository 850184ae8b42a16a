//! A residual connection with dropout: `x + mask * y` (inverted dropout, Srivastava et al. 2014).

use crate::kernels::DropoutMask;
use crate::tape::HostOp;
use crate::tape::Tensor;
use rayon::prelude::*;
use resnet_bk_runtime::kernels::add_row;

/// Elements of one task.
const CHUNK: usize = 1 << 14;

#[derive(Debug)]
struct AddDropped {
    mask: Option<DropoutMask>,
}

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

    fn backward(self, _: [&[f32]; 2], _: &[f32], gradient: &[f32], _: [bool; 2]) -> [Vec<f32>; 2] {
        let mut dy = gradient.to_vec();
        if let Some(mask) = self.mask {
            dy.par_chunks_mut(CHUNK).enumerate().for_each(|(index, dy)| mask.apply(CHUNK * index, dy));
        }
        [gradient.to_vec(), dy]
    }
}

/// `x` plus `y` with some of its elements dropped. Shapes: any `[n, D]`.
pub fn add_dropped(x: &Tensor, y: &Tensor, mask: Option<DropoutMask>) -> Tensor {
    AddDropped { mask }.apply([x, y], x.shape())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{check_gradients, values};

    #[test]
    fn gradients_match_finite_differences() {
        for mask in [None, Some(DropoutMask::new(0.4, 5))] {
            check_gradients([&values(20, 1), &values(20, 2)], || AddDropped { mask }, 1e-3);
        }
    }
}
