//! The experts of a block in one operation: tokens are grouped by expert once, and the groups' parts run side by side.
//!
//! ```text
//! y_t = sum_e p_te (dropout(relu(x_t U_e + a_e)) W_e + b_e)          over the experts that t is routed to, in their order
//! ```
//!
//! The parameters of all experts come as one vector, the bank: `U [D, F]`, `a [F]`, `W [F, D]`, `b [D]` of the first, then
//! of the second, and so on.

use crate::kernels::DropoutMask;
use crate::random::stream_word;
use crate::tape::HostOp;
use crate::tape::Tensor;
use rayon::prelude::*;
use resnet_bk_runtime::kernels::{Matrix, Threads, Write, add_row, linear, matmul};
use resnet_bk_runtime::moe::assignments;

/// Tokens of one task; a multiple of 4, where a dropout mask can be entered.
const ROWS: usize = 256;

/// Dropout of the experts' hidden states.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ExpertDropout {
    /// Probability of dropping.
    pub p: f32,
    /// Where the masks are drawn from.
    pub key: u64,
}

#[derive(Debug)]
struct Experts {
    width: usize,
    count: usize,
    dropout: Option<ExpertDropout>,
    /// From the forward pass.
    routed: Routed,
}

/// What the forward pass keeps. Rows are the tokens of the first expert, then those of the second, and so on.
#[derive(Debug, Default)]
struct Routed {
    /// Token of each row.
    tokens: Vec<u32>,
    /// First row of each expert, and the number of rows.
    starts: Vec<usize>,
    /// Rows of each token: `rows[row_starts[t]..row_starts[t + 1]]`, in the order of the experts.
    rows: Vec<u32>,
    row_starts: Vec<usize>,
    /// Hidden states after the dropout, `[rows, F]`.
    hidden: Vec<f32>,
    /// Outputs before they are weighted, `[rows, D]`.
    outputs: Vec<f32>,
}

/// One expert's parameters, or their gradients.
struct Bank<T> {
    up: T,
    up_bias: T,
    down: T,
    down_bias: T,
}

impl Experts {
    /// Expert width `F`.
    fn hidden_width(&self, bank: &[f32]) -> usize {
        (bank.len() / self.count - self.width) / (2 * self.width + 1)
    }

    fn expert<'a>(&self, bank: &'a [f32], expert: usize) -> Bank<&'a [f32]> {
        let (d, f) = (self.width, self.hidden_width(bank));
        let size = bank.len() / self.count;
        let (up, rest) = bank[expert * size..][..size].split_at(d * f);
        let (up_bias, rest) = rest.split_at(f);
        let (down, down_bias) = rest.split_at(f * d);
        Bank { up, up_bias, down, down_bias }
    }

    fn mask(&self, expert: usize) -> Option<DropoutMask> {
        self.dropout.map(|dropout| DropoutMask::new(dropout.p, stream_word(dropout.key, expert as u64)))
    }

    /// Groups the tokens by expert.
    fn route(&self, weights: &[f32]) -> Routed {
        let lists = assignments(weights, self.count);
        let tokens = weights.len() / self.count;
        let mut routed = Routed { starts: vec![0], row_starts: vec![0; tokens + 1], ..Routed::default() };
        for list in &lists {
            routed.tokens.extend(list.iter().map(|&token| token as u32));
            routed.starts.push(routed.tokens.len());
            list.iter().for_each(|&token| routed.row_starts[token + 1] += 1);
        }
        for token in 0..tokens {
            routed.row_starts[token + 1] += routed.row_starts[token];
        }
        let mut next = routed.row_starts.clone();
        routed.rows = vec![0; routed.tokens.len()];
        for (row, &token) in routed.tokens.iter().enumerate() {
            routed.rows[next[token as usize]] = row as u32;
            next[token as usize] += 1;
        }
        routed
    }
}

impl Routed {
    /// Cuts an array `[rows, width]` into tasks of one expert each: (expert, first row of the expert's, part).
    fn tasks<'a>(&self, mut array: &'a mut [f32], width: usize) -> Vec<(usize, usize, &'a mut [f32])> {
        let mut tasks = Vec::new();
        for (expert, bounds) in self.starts.windows(2).enumerate() {
            for first in (0..bounds[1] - bounds[0]).step_by(ROWS) {
                let rows = ROWS.min(bounds[1] - bounds[0] - first);
                let (part, rest) = array.split_at_mut(rows * width);
                tasks.push((expert, first, part));
                array = rest;
            }
        }
        tasks
    }

    /// Tokens of `rows` rows of an expert from `first` on.
    fn tokens_of(&self, expert: usize, first: usize, rows: usize) -> &[u32] {
        &self.tokens[self.starts[expert] + first..][..rows]
    }

    fn rows_of(&self, token: usize) -> &[u32] {
        &self.rows[self.row_starts[token]..self.row_starts[token + 1]]
    }
}

fn gather(x: &[f32], tokens: &[u32], width: usize) -> Vec<f32> {
    let mut rows = Vec::with_capacity(tokens.len() * width);
    for &token in tokens {
        rows.extend_from_slice(&x[token as usize * width..][..width]);
    }
    rows
}

impl HostOp<3> for Experts {
    fn forward(&mut self, [x, weights, bank]: [&[f32]; 3]) -> Vec<f32> {
        let (d, f) = (self.width, self.hidden_width(bank));
        let mut routed = self.route(weights);
        let rows = routed.tokens.len();
        let (mut hidden, mut outputs) = (vec![0.0; rows * f], vec![0.0; rows * d]);
        let tasks = routed.tasks(&mut hidden, f).into_par_iter().zip(routed.tasks(&mut outputs, d));
        tasks.for_each(|((expert, first, hidden), (_, _, outputs))| {
            let parameters = self.expert(bank, expert);
            let gathered = gather(x, routed.tokens_of(expert, first, outputs.len() / d), d);
            linear(&gathered, parameters.up, parameters.up_bias, hidden);
            hidden.iter_mut().for_each(|h| *h = h.max(0.0));
            if let Some(mask) = self.mask(expert) {
                mask.apply(first * f, hidden);
            }
            linear(hidden, parameters.down, parameters.down_bias, outputs);
        });
        let mut mixed = vec![0.0; x.len()];
        mixed.par_chunks_mut(ROWS * d).enumerate().for_each(|(task, mixed)| {
            for (index, mixed) in mixed.chunks_mut(d).enumerate() {
                let token = ROWS * task + index;
                for &row in routed.rows_of(token) {
                    let expert = routed.starts.partition_point(|&start| start <= row as usize) - 1;
                    let weight = weights[token * self.count + expert];
                    for (mixed, y) in mixed.iter_mut().zip(&outputs[row as usize * d..][..d]) {
                        *mixed += weight * y;
                    }
                }
            }
        });
        (routed.hidden, routed.outputs) = (hidden, outputs);
        self.routed = routed;
        mixed
    }

    fn backward(self, [x, weights, bank]: [&[f32]; 3], _: &[f32], gradient: &[f32], _: [bool; 3]) -> [Vec<f32>; 3] {
        let (d, f) = (self.width, self.hidden_width(bank));
        let routed = &self.routed;
        let size = bank.len() / self.count;
        // Gradients of the gathered inputs.
        let mut dgathered = vec![0.0; routed.tokens.len() * d];
        let found: Vec<(usize, Vec<f32>, Vec<f32>)> = routed
            .tasks(&mut dgathered, d)
            .into_par_iter()
            .map(|(expert, first, dgathered)| {
                let rows = dgathered.len() / d;
                let start = routed.starts[expert] + first;
                let tokens = routed.tokens_of(expert, first, rows);
                let parameters = self.expert(bank, expert);
                let hidden = &routed.hidden[start * f..][..rows * f];
                // From the weighted sum to the expert's output and its weight.
                let mut doutputs = gather(gradient, tokens, d);
                let mut dweights = vec![0.0; rows];
                let outputs = routed.outputs[start * d..].chunks(d);
                for (((g, y), dweight), &token) in doutputs.chunks_mut(d).zip(outputs).zip(&mut dweights).zip(tokens) {
                    let weight = weights[token as usize * self.count + expert];
                    *dweight = y.iter().zip(&*g).map(|(y, g)| y * g).sum();
                    g.iter_mut().for_each(|g| *g *= weight);
                }
                let mut dbank = vec![0.0; size];
                let (dup, rest) = dbank.split_at_mut(d * f);
                let (dup_bias, rest) = rest.split_at_mut(f);
                let (ddown, ddown_bias) = rest.split_at_mut(f * d);
                let output_side = Matrix::new(&doutputs, rows, d);
                let mut dhidden = vec![0.0; rows * f];
                let down = Matrix::new(parameters.down, f, d).transposed();
                matmul(&mut dhidden, Write::Overwrite, output_side, down, Threads::One);
                matmul(ddown, Write::Overwrite, Matrix::new(hidden, rows, f).transposed(), output_side, Threads::One);
                doutputs.chunks(d).for_each(|row| add_row(ddown_bias, row));
                // A hidden state above zero was neither cut off nor dropped.
                let keep = self.mask(expert).map_or(1.0, |mask| mask.keep());
                for (dh, h) in dhidden.iter_mut().zip(hidden) {
                    *dh = if *h > 0.0 { *dh * keep } else { 0.0 };
                }
                let gathered = gather(x, tokens, d);
                let hidden_side = Matrix::new(&dhidden, rows, f);
                let up = Matrix::new(parameters.up, d, f).transposed();
                matmul(dgathered, Write::Overwrite, hidden_side, up, Threads::One);
                matmul(dup, Write::Overwrite, Matrix::new(&gathered, rows, d).transposed(), hidden_side, Threads::One);
                dhidden.chunks(f).for_each(|row| add_row(dup_bias, row));
                (expert, dbank, dweights)
            })
            .collect();
        let mut grads = [vec![0.0; x.len()], vec![0.0; weights.len()], vec![0.0; bank.len()]];
        let [dx, dweights, dbank] = &mut grads;
        let mut row = 0;
        for (expert, part, weights) in &found {
            add_row(&mut dbank[expert * size..][..size], part);
            for dweight in weights {
                dweights[routed.tokens[row] as usize * self.count + expert] = *dweight;
                row += 1;
            }
        }
        dx.par_chunks_mut(ROWS * d).enumerate().for_each(|(task, dx)| {
            for (index, dx) in dx.chunks_mut(d).enumerate() {
                for &row in routed.rows_of(ROWS * task + index) {
                    add_row(dx, &dgathered[row as usize * d..][..d]);
                }
            }
        });
        grads
    }
}

/// Every token through the experts that it is routed to.
///
/// # Shapes
/// - `x`: `[n, D]`
/// - `weights`: `[n, E]`, zero where a token is not routed to an expert
/// - `bank`: `[E (2 D F + F + D)]`
/// - returns `[n, D]`
pub fn experts(x: &Tensor, weights: &Tensor, bank: &Tensor, dropout: Option<ExpertDropout>) -> Tensor {
    let op = Experts { width: x.columns(), count: weights.columns(), dropout, routed: Routed::default() };
    op.apply([x, weights, bank], x.shape())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{check_gradients, values};

    #[test]
    fn gradients_match_finite_differences() {
        let (d, f, count) = (3, 5, 2);
        // The second token goes to one expert, the third to the other, the rest to both.
        let mut weights: Vec<f32> = values(2 * 4, 1).iter().map(|x| 0.5 + 0.3 * x).collect();
        (weights[2], weights[5]) = (0.0, 0.0);
        let bank = values(count * (2 * d * f + f + d), 2);
        for dropout in [None, Some(ExpertDropout { p: 0.3, key: 3 })] {
            let op = || Experts { width: d, count, dropout, routed: Routed::default() };
            // Routing is not differentiable at zero: the weights' gradient is checked apart, where it exists.
            let routed_only = Masked { op, weights: &weights };
            check_gradients([&values(4 * d, 3), &bank], || routed_only.make(), 3e-3);
            let mut whole = op();
            let (x, g) = (values(4 * d, 3), values(4 * d, 4));
            let output = whole.forward([&x, &weights, &bank]);
            let [_, dweights, _] = whole.backward([&x, &weights, &bank], &output, &g, [true; 3]);
            for (i, dweight) in dweights.iter().enumerate() {
                let objective = |w: f32| -> f32 {
                    let mut weights = weights.clone();
                    weights[i] = w;
                    op().forward([&x, &weights, &bank]).iter().zip(&g).map(|(y, g)| y * g).sum()
                };
                let expected = if weights[i] == 0.0 {
                    0.0
                } else {
                    (objective(weights[i] + 0.01) - objective(weights[i] - 0.01)) / 0.02
                };
                assert!((dweight - expected).abs() < 1e-3, "{i}: {dweight} against {expected}");
            }
        }
    }

    /// The operation with its weights held.
    struct Masked<'a, F> {
        op: F,
        weights: &'a [f32],
    }

    impl<F: Fn() -> Experts> Masked<'_, F> {
        fn make(&self) -> Held {
            Held { op: (self.op)(), weights: self.weights.to_vec() }
        }
    }

    #[derive(Debug)]
    struct Held {
        op: Experts,
        weights: Vec<f32>,
    }

    impl HostOp<2> for Held {
        fn forward(&mut self, [x, bank]: [&[f32]; 2]) -> Vec<f32> {
            self.op.forward([x, &self.weights, bank])
        }

        fn backward(self, [x, bank]: [&[f32]; 2], y: &[f32], g: &[f32], _: [bool; 2]) -> [Vec<f32>; 2] {
            let [dx, _, dbank] = self.op.backward([x, &self.weights, bank], y, g, [true; 3]);
            [dx, dbank]
        }
    }
}
