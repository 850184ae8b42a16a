//! Global norm of the gradients.

use crate::buffer::Buffer;
use crate::kernels::sum_of_squares;
use rayon::prelude::*;

/// Elements per task.
const CHUNK: usize = 1 << 16;

/// Euclidean norm of all gradients together, summed in the given order.
pub fn global_norm<'a>(gradients: impl Iterator<Item = &'a Buffer>) -> f64 {
    let squares = |gradient: &Buffer| -> f64 {
        gradient.par_chunks(CHUNK).map(sum_of_squares).collect::<Vec<f64>>().iter().sum()
    };
    gradients.map(squares).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_norm_is_over_all_tensors() {
        assert_eq!(global_norm([Buffer::from(vec![3.0]), vec![0.0, 4.0].into()].iter()), 5.0);
    }
}
