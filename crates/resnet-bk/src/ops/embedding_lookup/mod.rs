//! Embedding lookup: a token's row, plus its position's, with dropout.

use crate::kernels::DropoutMask;
use crate::tape::HostOp;
use crate::tape::Tensor;
use rayon::prelude::*;
use resnet_bk_runtime::embedding::TableLayout;
use resnet_bk_runtime::kernels::{Matrix, Threads, Write, add_row, matmul};
use std::sync::Arc;

/// Tokens of one task.
const ROWS: usize = 256;

#[derive(Debug)]
struct Embed {
    tokens: Arc<[u32]>,
    /// Tokens of a sequence, each of which starts at position 0.
    length: usize,
    layout: TableLayout,
    mask: Option<DropoutMask>,
}

impl Embed {
    fn look_up(&self, bank: &[f32], positions: Option<&[f32]>) -> Vec<f32> {
        let width = self.layout.d_model;
        let bins = self.layout.bins(bank);
        let mut out = vec![0.0; self.tokens.len() * width];
        let tasks = out.par_chunks_mut(ROWS * width).zip(self.tokens.par_chunks(ROWS)).enumerate();
        tasks.for_each(|(task, (out, tokens))| {
            for (index, (out, &token)) in out.chunks_mut(width).zip(tokens).enumerate() {
                let bin = &bins[self.layout.bin_of(token as usize)];
                bin.widen(bin.row(token as usize), out);
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
            let size = ROWS * self.layout.d_model;
            gradient.par_chunks_mut(size).enumerate().for_each(|(task, part)| mask.apply(size * task, part));
        }
        gradient
    }

    /// The bank's gradient.
    fn scatter(&self, bank: &[f32], gradient: &[f32]) -> Vec<f32> {
        let d_model = self.layout.d_model;
        let mut dbank = vec![0.0; bank.len()];
        let mut rest = dbank.as_mut_slice();
        for bin in self.layout.bins(bank) {
            let drows = rest.split_off_mut(..bin.rows.len()).expect("the bank holds every bin");
            let words = bin.words();
            let places = self.tokens.iter().map(|&token| token as usize).zip(gradient.chunks(d_model));
            let here: Vec<(usize, &[f32])> = places.filter(|(word, _)| words.contains(word)).collect();
            let Some(projection) = bin.projection else {
                for (word, g) in here {
                    add_row(&mut drows[(word - bin.first) * d_model..][..d_model], g);
                }
                continue;
            };
            // Gathered: the rows that occur, and their gradients.
            let (count, width) = (here.len(), bin.width);
            let rows: Vec<f32> = here.iter().flat_map(|(word, _)| bin.row(*word)).copied().collect();
            let wide: Vec<f32> = here.iter().flat_map(|(_, g)| *g).copied().collect();
            let dprojection = rest.split_off_mut(..projection.len()).expect("the bank holds every projection");
            let (rows, wide) = (Matrix::new(&rows, count, width), Matrix::new(&wide, count, d_model));
            matmul(dprojection, Write::Overwrite, rows.transposed(), wide, Threads::One);
            let mut narrow = vec![0.0; count * width];
            let projection = Matrix::new(projection, width, d_model);
            matmul(&mut narrow, Write::Overwrite, wide, projection.transposed(), Threads::One);
            for ((word, _), g) in here.iter().zip(narrow.chunks(width)) {
                add_row(&mut drows[(word - bin.first) * width..][..width], g);
            }
        }
        dbank
    }
}

impl HostOp<1> for Embed {
    fn forward(&mut self, [bank]: [&[f32]; 1]) -> Vec<f32> {
        self.look_up(bank, None)
    }

    fn backward(self, [bank]: [&[f32]; 1], _: &[f32], gradient: &[f32], _: [bool; 1]) -> [Vec<f32>; 1] {
        [self.scatter(bank, &self.unmask(gradient))]
    }
}

impl HostOp<2> for Embed {
    fn forward(&mut self, [bank, positions]: [&[f32]; 2]) -> Vec<f32> {
        self.look_up(bank, Some(positions))
    }

    fn backward(self, [bank, positions]: [&[f32]; 2], _: &[f32], gradient: &[f32], _: [bool; 2]) -> [Vec<f32>; 2] {
        let (gradient, width) = (self.unmask(gradient), self.layout.d_model);
        let mut dpositions = vec![0.0; positions.len()];
        for (index, g) in gradient.chunks(width).enumerate() {
            add_row(&mut dpositions[index % self.length * width..][..width], g);
        }
        [self.scatter(bank, &gradient), dpositions]
    }
}

/// Embeds sequences of `length` tokens that lie one after another.
///
/// # Shapes
/// - `tokens`: `[n]`, each below `V`
/// - `bank`: a table of `layout`
/// - `positions`: `[T, D]` with `T` at least `length`
/// - returns `[n, D]`
pub fn embed(
    tokens: Arc<[u32]>,
    length: usize,
    layout: &TableLayout,
    bank: &Tensor,
    positions: Option<&Tensor>,
    mask: Option<DropoutMask>,
) -> Tensor {
    let shape = [tokens.len(), layout.d_model];
    let op = Embed { tokens, length, layout: layout.clone(), mask };
    match positions {
        Some(positions) => op.apply([bank, positions], shape),
        None => op.apply([bank], shape),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{check_gradients, values};
    use resnet_bk_runtime::embedding::EmbeddingBin;

    #[test]
    fn gradients_match_finite_differences() {
        let bin = |words, width| EmbeddingBin { words, width };
        let binned = TableLayout { bins: vec![bin(1, 3), bin(2, 2), bin(1, 1)], d_model: 3 };
        for layout in [TableLayout::full(4, 3), binned] {
            for mask in [None, Some(DropoutMask::new(0.4, 5))] {
                let op = || Embed { tokens: [2, 0, 2, 3].into(), length: 2, layout: layout.clone(), mask };
                check_gradients([&values(layout.len(), 1)], op, 1e-3);
                check_gradients([&values(layout.len(), 1), &values(6, 2)], op, 1e-3);
            }
        }
    }
}
