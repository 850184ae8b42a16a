//! Host implementation. Tokens are grouped by expert once; parts of the groups run in parallel.

mod dispatch;

use super::{Experts, Forwarded};
use crate::kernels::DropoutMask;
use crate::tape::HostOp;
use dispatch::{Dispatch, gather};
use rayon::prelude::*;
use resnet_bk_runtime::internal::kernels::{Matrix, Threads, Write, add_row, linear, matmul};

/// Tokens per task.
const ROWS: usize = 256;

/// Saved by the forward pass.
#[derive(Debug, Default)]
pub(super) struct OnHost {
    dispatch: Dispatch,
    /// Hidden states after dropout, `[rows, F]`.
    hidden: Vec<f32>,
    /// Outputs before weighting, `[rows, D]`.
    outputs: Vec<f32>,
}

/// One expert's parameters.
struct Parameters<'a> {
    up: &'a [f32],
    up_bias: &'a [f32],
    down: &'a [f32],
    down_bias: &'a [f32],
}

impl Experts {
    fn parameters<'a>(&self, packed: &'a [f32], expert: usize) -> Parameters<'a> {
        let (d, f) = (self.width, self.hidden_width(packed.len()));
        let size = packed.len() / self.count;
        let (up, rest) = packed[expert * size..][..size].split_at(d * f);
        let (up_bias, rest) = rest.split_at(f);
        let (down, down_bias) = rest.split_at(f * d);
        Parameters { up, up_bias, down, down_bias }
    }

    /// Drops hidden states `[rows, F]` of these tokens.
    fn drop_hidden(&self, expert: usize, tokens: &[u32], hidden: &mut [f32]) {
        let Some(mask) = self.dropout else { return };
        let (mask, width) = (mask.of_part(expert as u64), hidden.len() / tokens.len());
        for (&token, hidden) in tokens.iter().zip(hidden.chunks_mut(width)) {
            // A token's part of the mask begins with a random word.
            let token = mask.first_token() + token as usize;
            mask.apply(token * width.next_multiple_of(DropoutMask::ELEMENTS), hidden);
        }
    }
}

impl HostOp<3> for Experts {
    fn forward(&mut self, [x, weights, packed]: [&[f32]; 3]) -> Vec<f32> {
        let (d, f) = (self.width, self.hidden_width(packed.len()));
        let dispatch = Dispatch::new(weights, self.count);
        let rows = dispatch.tokens.len();
        let (mut hidden, mut outputs) = (vec![0.0; rows * f], vec![0.0; rows * d]);
        let tasks = dispatch.tasks(&mut hidden, f, ROWS).into_par_iter().zip(dispatch.tasks(&mut outputs, d, ROWS));
        tasks.for_each(|((expert, first, hidden), (_, _, outputs))| {
            let parameters = self.parameters(packed, expert);
            let tokens = dispatch.tokens_of(expert, first, outputs.len() / d);
            let gathered = gather(x, tokens, d);
            linear(&gathered, parameters.up, parameters.up_bias, hidden);
            hidden.iter_mut().for_each(|h| *h = h.max(0.0));
            self.drop_hidden(expert, tokens, hidden);
            linear(hidden, parameters.down, parameters.down_bias, outputs);
        });
        let mut mixed = vec![0.0; x.len()];
        mixed.par_chunks_mut(ROWS * d).enumerate().for_each(|(task, mixed)| {
            for (index, mixed) in mixed.chunks_mut(d).enumerate() {
                let token = ROWS * task + index;
                for &row in dispatch.rows_of(token) {
                    let weight = weights[token * self.count + dispatch.expert_of(row)];
                    for (mixed, y) in mixed.iter_mut().zip(&outputs[row as usize * d..][..d]) {
                        *mixed += weight * y;
                    }
                }
            }
        });
        self.forwarded = Forwarded::Host(OnHost { dispatch, hidden, outputs });
        mixed
    }

    fn backward(self, [x, weights, packed]: [&[f32]; 3], _: &[f32], gradient: Vec<f32>, _: [bool; 3]) -> [Vec<f32>; 3] {
        let (d, f) = (self.width, self.hidden_width(packed.len()));
        let Forwarded::Host(OnHost { dispatch, hidden, outputs }) = &self.forwarded else {
            unreachable!("the forward pass ran here")
        };
        let size = packed.len() / self.count;
        // Gradients of the gathered inputs.
        let mut dgathered = vec![0.0; dispatch.tokens.len() * d];
        // For each task: the expert, the gradients of its parameters, and those of the weights.
        let found: Vec<(usize, Vec<f32>, Vec<f32>)> = dispatch
            .tasks(&mut dgathered, d, ROWS)
            .into_par_iter()
            .map(|(expert, first, dgathered)| {
                let rows = dgathered.len() / d;
                let start = dispatch.starts[expert] + first;
                let tokens = dispatch.tokens_of(expert, first, rows);
                let parameters = self.parameters(packed, expert);
                let hidden = &hidden[start * f..][..rows * f];
                // From the gradient of the weighted sum to those of the expert's output and its
                // weight.
                let mut doutputs = gather(&gradient, tokens, d);
                let mut dweights = vec![0.0; rows];
                let outputs = outputs[start * d..].chunks(d);
                for (((g, y), dweight), &token) in doutputs.chunks_mut(d).zip(outputs).zip(&mut dweights).zip(tokens) {
                    let weight = weights[token as usize * self.count + expert];
                    *dweight = y.iter().zip(&*g).map(|(y, g)| y * g).sum();
                    g.iter_mut().for_each(|g| *g *= weight);
                }
                let mut dparameters = vec![0.0; size];
                let (dup, rest) = dparameters.split_at_mut(d * f);
                let (dup_bias, rest) = rest.split_at_mut(f);
                let (ddown, ddown_bias) = rest.split_at_mut(f * d);
                let output_side = Matrix::new(&doutputs, rows, d);
                let mut dhidden = vec![0.0; rows * f];
                let down = Matrix::new(parameters.down, f, d).transposed();
                matmul(&mut dhidden, Write::Overwrite, output_side, down, Threads::One);
                matmul(ddown, Write::Overwrite, Matrix::new(hidden, rows, f).transposed(), output_side, Threads::One);
                doutputs.chunks(d).for_each(|row| add_row(ddown_bias, row));
                // A hidden state above zero was neither clipped by relu nor dropped.
                let keep = self.dropout.map_or(1.0, |mask| mask.keep());
                for (dh, h) in dhidden.iter_mut().zip(hidden) {
                    *dh = if *h > 0.0 { *dh * keep } else { 0.0 };
                }
                let gathered = gather(x, tokens, d);
                let hidden_side = Matrix::new(&dhidden, rows, f);
                let up = Matrix::new(parameters.up, d, f).transposed();
                matmul(dgathered, Write::Overwrite, hidden_side, up, Threads::One);
                matmul(dup, Write::Overwrite, Matrix::new(&gathered, rows, d).transposed(), hidden_side, Threads::One);
                dhidden.chunks(f).for_each(|row| add_row(dup_bias, row));
                (expert, dparameters, dweights)
            })
            .collect();
        let mut gradients = [vec![0.0; x.len()], vec![0.0; weights.len()], vec![0.0; packed.len()]];
        let [dx, dweights, dpacked] = &mut gradients;
        let mut row = 0;
        for (expert, part, weights) in &found {
            add_row(&mut dpacked[expert * size..][..size], part);
            for dweight in weights {
                dweights[dispatch.tokens[row] as usize * self.count + expert] = *dweight;
                row += 1;
            }
        }
        dx.par_chunks_mut(ROWS * d).enumerate().for_each(|(task, dx)| {
            for (index, dx) in dx.chunks_mut(d).enumerate() {
                for &row in dispatch.rows_of(ROWS * task + index) {
                    add_row(dx, &dgathered[row as usize * d..][..d]);
                }
            }
        });
        gradients
    }
}
