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
                if let Some(positions) = positions {
                    add_row(out, &positions[(ROWS * task + index) % self.length * width..][..width]);
                }
            }
            if let Some(mask) = self.mask {
                mask.apply((mask.first_token() + ROWS * task) * width, out);
            }
        });
        out
    }

    /// Applies the dropout mask to the gradient of the output.
    fn unmask(&self, gradient: &mut [f32]) {
        if let Some(mask) = self.mask {
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
            let all = self.tokens.iter().map(|&token| token as usize).zip(gradient.chunks(d_model));
            let here: Vec<(usize, &[f32])> = all.filter(|(token, _)| words.contains(token)).collect();
            let Some(projection) = bin.projection else {
                for (token, g) in here {
                    add_row(&mut drows[(token - bin.first) * d_model..][..d_model], g);
                }
                continue;
            };
            // Gather the rows of these tokens and their gradients.
            let (count, width) = (here.len(), bin.width);
            let rows: Vec<f32> = here.iter().flat_map(|(token, _)| bin.row(*token)).copied().collect();
            let wide: Vec<f32> = here.iter().flat_map(|(_, g)| *g).copied().collect();
            let dprojection = rest.split_off_mut(..projection.len()).expect("the table holds every projection");
            let (rows, wide) = (Matrix::new(&rows, count, width), Matrix::new(&wide, count, d_model));
            matmul(dprojection, Write::Overwrite, rows.transposed(), wide, Threads::One);
            let mut narrow = vec![0.0; count * width];
            let projection = Matrix::new(projection, width, d_model);
            matmul(&mut narrow, Write::Overwrite, wide, projection.transposed(), Threads::One);
            for ((token, _), g) in here.iter().zip(narrow.chunks(width)) {
                add_row(&mut drows[(token - bin.first) * width..][..width], g);
            }
        }
        dtable
    }
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
