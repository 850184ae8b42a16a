//! Embedding lookup: a token's row, plus its position's, with dropout.

use super::HostOp;
use crate::kernels::DropoutMask;
use burn_tensor::Tensor;
use rayon::prelude::*;
use resnet_bk_runtime::kernels::add_row;
use std::sync::Arc;

/// Tokens of one task.
const ROWS: usize = 256;

#[derive(Debug)]
struct Embed {
    tokens: Arc<[u32]>,
    /// Tokens of a sequence, each of which starts at position 0.
    length: usize,
    width: usize,
    mask: Option<DropoutMask>,
}

impl Embed {
    fn look_up(&self, table: &[f32], positions: Option<&[f32]>) -> Vec<f32> {
        let width = self.width;
        let mut out = vec![0.0; self.tokens.len() * width];
        let tasks = out.par_chunks_mut(ROWS * width).zip(self.tokens.par_chunks(ROWS)).enumerate();
        tasks.for_each(|(task, (out, tokens))| {
            for (index, (out, &token)) in out.chunks_mut(width).zip(tokens).enumerate() {
                out.copy_from_slice(&table[token as usize * width..][..width]);
                if let Some(positions) = positions {
                    add_row(out, &positions[(ROWS * task + index) % self.length * width..][..width]);
                }
            }
            if let Some(mask) = self.mask {
                mask.apply(ROWS * task * width, out);
            }
        });
        out
    }

    /// Gradient of the sum before the mask.
    fn unmask(&self, gradient: &[f32]) -> Vec<f32> {
        let mut gradient = gradient.to_vec();
        if let Some(mask) = self.mask {
            let size = ROWS * self.width;
            gradient.par_chunks_mut(size).enumerate().for_each(|(task, part)| mask.apply(size * task, part));
        }
        gradient
    }

    /// Sums rows of the gradient into those of a table with `len` elements.
    fn scatter(&self, gradient: &[f32], len: usize, row_of: impl Fn(usize, u32) -> usize) -> Vec<f32> {
        let mut table = vec![0.0; len];
        for (index, (&token, g)) in self.tokens.iter().zip(gradient.chunks(self.width)).enumerate() {
            add_row(&mut table[row_of(index, token) * self.width..][..self.width], g);
        }
        table
    }
}

impl HostOp<1> for Embed {
    fn forward(&mut self, [table]: [&[f32]; 1]) -> Vec<f32> {
        self.look_up(table, None)
    }

    fn backward(&self, [table]: [&[f32]; 1], _: &[f32], gradient: &[f32], _: [bool; 1]) -> [Vec<f32>; 1] {
        [self.scatter(&self.unmask(gradient), table.len(), |_, token| token as usize)]
    }
}

impl HostOp<2> for Embed {
    fn forward(&mut self, [table, positions]: [&[f32]; 2]) -> Vec<f32> {
        self.look_up(table, Some(positions))
    }

    fn backward(&self, [table, positions]: [&[f32]; 2], _: &[f32], gradient: &[f32], _: [bool; 2]) -> [Vec<f32>; 2] {
        let gradient = self.unmask(gradient);
        let dpositions = self.scatter(&gradient, positions.len(), |index, _| index % self.length);
        [self.scatter(&gradient, table.len(), |_, token| token as usize), dpositions]
    }
}

/// Embeds sequences of `length` tokens that lie one after another.
///
/// # Shapes
/// - `tokens`: `[n]`, each below `V`
/// - `table`: `[V, D]`
/// - `positions`: `[T, D]` with `T` at least `length`
/// - returns `[n, D]`
pub fn embed(
    tokens: Arc<[u32]>,
    length: usize,
    table: &Tensor<2>,
    positions: Option<&Tensor<2>>,
    mask: Option<DropoutMask>,
) -> Tensor<2> {
    let shape = [tokens.len(), table.dims()[1]];
    let op = Embed { tokens, length, width: shape[1], mask };
    match positions {
        Some(positions) => op.apply([table.into(), positions.into()], shape),
        None => op.apply([table.into()], shape),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{check_gradients, values};

    #[test]
    fn gradients_match_finite_differences() {
        for mask in [None, Some(DropoutMask::new(0.4, 5))] {
            let op = || Embed { tokens: [2, 0, 2, 3].into(), length: 2, width: 3, mask };
            check_gradients([&values(12, 1)], op, 1e-3);
            check_gradients([&values(12, 1), &values(6, 2)], op, 1e-3);
        }
    }
}
