//! Rows of a table by index: embedding lookup, and gathering an expert's tokens.

use super::HostOp;
use burn_tensor::Tensor;
use std::sync::Arc;

#[derive(Debug)]
struct SelectRows {
    rows: Arc<[usize]>,
    width: usize,
}

impl HostOp<1> for SelectRows {
    fn forward(&mut self, [table]: [&[f32]; 1]) -> Vec<f32> {
        let mut out = Vec::with_capacity(self.rows.len() * self.width);
        for &row in &*self.rows {
            out.extend_from_slice(&table[row * self.width..][..self.width]);
        }
        out
    }

    fn backward(&self, [table]: [&[f32]; 1], _: &[f32], gradient: &[f32], _: [bool; 1]) -> [Vec<f32>; 1] {
        let mut dtable = vec![0.0; table.len()];
        for (&row, g) in self.rows.iter().zip(gradient.chunks(self.width)) {
            for (d, g) in dtable[row * self.width..][..self.width].iter_mut().zip(g) {
                *d += g;
            }
        }
        [dtable]
    }
}

/// The named rows of a table, in the order of `rows`.
///
/// # Shapes
/// - `table`: `[V, D]`
/// - `rows`: `[n]`, each below `V`
/// - returns `[n, D]`
pub fn select_rows(table: &Tensor<2>, rows: Arc<[usize]>) -> Tensor<2> {
    let width = table.dims()[1];
    let shape = [rows.len(), width];
    SelectRows { rows, width }.apply([table.into()], shape)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{check_gradients, values};

    #[test]
    fn gradients_match_finite_differences() {
        let rows: Arc<[usize]> = [2, 0, 2, 3].into();
        check_gradients([&values(12, 1)], || SelectRows { rows: rows.clone(), width: 3 }, 1e-3);
    }
}
