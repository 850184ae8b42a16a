//! Host implementation. Forward: blocks of tokens run in parallel. Backward: the tokens of a bin
//! are gathered, so that the gradients of projection and rows are two matrix products.

use super::Embed;
use crate::tape::HostOp;
use rayon::prelude::*;
use resnet_bk_runtime::internal::kernels::{Matrix, Threads, Write, add_row, matmul};

/// Tokens per task.
const ROWS: usize = 256;

impl Embed {
    fn look_up(&self, table: &[f32], positions: Option<&[f32]>) -> Vec<f32> {
        let width = self.layout.d_model;
        let bins = self.layout.bins(table);
        let mut out = vec![0.0; self.tokens.len() * width];
        let tasks = out.par_chunks_mut(ROWS * width).zip(self.tokens.par_chunks(ROWS)).enumerate();
        tasks.for_each(|(task, (out, tokens))| {
            for (index, (out, &token)) in out.chunks_mut(width).zip(tokens).enumerate() {
                let bin = &bins[self.layout.bin_of(token as usize)];
                bin.widen(bin.row(token as usize), out);
                if self.dropout.words.is_some() {
                    scale(out, self.dropout.of_word(token));
                }
                if let Some(positions) = positions {
                    add_row(out, &positions[(ROWS * task + index) % self.length * width..][..width]);
                }
            }
            if let Some(mask) = self.dropout.elements {
                mask.apply((mask.first_token() + ROWS * task) * width, out);
            }
        });
        out
    }

    /// Applies the dropout mask of the elements to the gradient of the output.
    fn unmask(&self, gradient: &mut [f32]) {
        if let Some(mask) = self.dropout.elements {
            let (width, first) = (self.layout.d_model, mask.first_token());
            let tasks = gradient.par_chunks_mut(ROWS * width).enumerate();
            tasks.for_each(|(task, part)| mask.apply((first + ROWS * task) * width, part));
        }
    }

    /// The table's gradient.
    fn scatter(&self, table: &[f32], gradient: &[f32]) -> Vec<f32> {
        let d_model = self.layout.d_model;
        let mut dtable = vec![0.0; table.len()];
        let mut rest = dtable.as_mut_slice();
        for bin in self.layout.bins(table) {
            let drows = rest.split_off_mut(..bin.rows.len()).expect("the table holds every bin");
            let words = bin.words();
            let all = self.tokens.iter().map(|&token| (token as usize, self.dropout.of_word(token)));
            let here: Vec<((usize, f32), &[f32])> =
                all.zip(gradient.chunks(d_model)).filter(|((token, _), _)| words.contains(token)).collect();
            let Some(projection) = bin.projection else {
                for ((token, factor), g) in here {
                    add_scaled(&mut drows[(token - bin.first) * d_model..][..d_model], factor, g);
                }
                continue;
            };
            // Gather the rows of these tokens and their gradients.
            let (count, width) = (here.len(), bin.width);
            let row = |&((token, factor), _): &((usize, f32), _)| bin.row(token).iter().map(move |x| factor * x);
            let rows: Vec<f32> = here.iter().flat_map(row).collect();
            let wide: Vec<f32> = here.iter().flat_map(|(_, g)| *g).copied().collect();
            let dprojection = rest.split_off_mut(..projection.len()).expect("the table holds every projection");
            let (rows, wide) = (Matrix::new(&rows, count, width), Matrix::new(&wide, count, d_model));
            matmul(dprojection, Write::Overwrite, rows.transposed(), wide, Threads::One);
            let mut narrow = vec![0.0; count * width];
            let projection = Matrix::new(projection, width, d_model);
            matmul(&mut narrow, Write::Overwrite, wide, projection.transposed(), Threads::One);
            for (((token, factor), _), g) in here.iter().zip(narrow.chunks(width)) {
                add_scaled(&mut drows[(token - bin.first) * width..][..width], *factor, g);
            }
        }
        dtable
    }
}

fn scale(row: &mut [f32], factor: f32) {
    row.iter_mut().for_each(|x| *x *= factor);
}

/// Adds `factor` times `row`.
fn add_scaled(to: &mut [f32], factor: f32, row: &[f32]) {
    to.iter_mut().zip(row).for_each(|(to, x)| *to += factor * x);
}

impl HostOp<1> for Embed {
    fn forward(&mut self, [table]: [&[f32]; 1]) -> Vec<f32> {
        self.look_up(table, None)
    }

    fn backward(self, [table]: [&[f32]; 1], _: &[f32], mut gradient: Vec<f32>, _: [bool; 1]) -> [Vec<f32>; 1] {
        self.unmask(&mut gradient);
        [self.scatter(table, &gradient)]
    }
}

impl HostOp<2> for Embed {
    fn forward(&mut self, [table, positions]: [&[f32]; 2]) -> Vec<f32> {
        self.look_up(table, Some(positions))
    }

    fn backward(
        self,
        [table, positions]: [&[f32]; 2],
        _: &[f32],
        mut gradient: Vec<f32>,
        _: [bool; 2],
    ) -> [Vec<f32>; 2] {
        self.unmask(&mut gradient);
        let width = self.layout.d_model;
        let mut dpositions = vec![0.0; positions.len()];
        for (index, g) in gradient.chunks(width).enumerate() {
            add_row(&mut dpositions[index % self.length * width..][..width], g);
        }
        [self.scatter(table, &gradient), dpositions]
    }
}
