//! Tokens grouped by expert: a row for each pair of a token and an expert it is routed to, those of
//! the first expert first.

use resnet_bk_runtime::internal::router::assignments;

/// Which token each row is of, and which rows each token has.
#[derive(Debug, Default)]
pub struct Dispatch {
    /// Token of each row.
    pub tokens: Vec<u32>,
    /// First row of each expert, and the number of rows.
    pub starts: Vec<usize>,
    /// Rows of each token: `rows[row_starts[t]..row_starts[t + 1]]`, in the order of the experts.
    rows: Vec<u32>,
    row_starts: Vec<usize>,
}

impl Dispatch {
    /// Groups the tokens. Shapes: `weights` `[n, E]`, zero where a token is not routed to an
    /// expert.
    pub fn new(weights: &[f32], experts: usize) -> Self {
        let lists = assignments(weights, experts);
        let count = weights.len() / experts;
        let (mut tokens, mut starts, mut row_starts) = (Vec::new(), vec![0], vec![0; count + 1]);
        for list in &lists {
            tokens.extend(list.iter().map(|&token| token as u32));
            starts.push(tokens.len());
            list.iter().for_each(|&token| row_starts[token + 1] += 1);
        }
        for token in 0..count {
            row_starts[token + 1] += row_starts[token];
        }
        let (mut next, mut rows) = (row_starts.clone(), vec![0; tokens.len()]);
        for (row, &token) in tokens.iter().enumerate() {
            rows[next[token as usize]] = row as u32;
            next[token as usize] += 1;
        }
        Self { tokens, starts, rows, row_starts }
    }

    /// Cuts an array `[rows, width]` into tasks of at most `limit` rows of one expert: (expert,
    /// first row of the expert's, part).
    pub fn tasks<'a>(
        &self,
        mut array: &'a mut [f32],
        width: usize,
        limit: usize,
    ) -> Vec<(usize, usize, &'a mut [f32])> {
        let mut tasks = Vec::new();
        for (expert, bounds) in self.starts.windows(2).enumerate() {
            for first in (0..bounds[1] - bounds[0]).step_by(limit) {
                let rows = limit.min(bounds[1] - bounds[0] - first);
                let (part, rest) = array.split_at_mut(rows * width);
                tasks.push((expert, first, part));
                array = rest;
            }
        }
        tasks
    }

    /// Tokens of `rows` rows of an expert from `first` on.
    pub fn tokens_of(&self, expert: usize, first: usize, rows: usize) -> &[u32] {
        &self.tokens[self.starts[expert] + first..][..rows]
    }

    /// Rows of a token.
    pub fn rows_of(&self, token: usize) -> &[u32] {
        &self.rows[self.row_starts[token]..self.row_starts[token + 1]]
    }

    /// Expert of a row.
    pub fn expert_of(&self, row: u32) -> usize {
        self.starts.partition_point(|&start| start <= row as usize) - 1
    }
}

/// The rows of `x` `[n, width]` at these tokens.
pub fn gather(x: &[f32], tokens: &[u32], width: usize) -> Vec<f32> {
    let mut rows = Vec::with_capacity(tokens.len() * width);
    for &token in tokens {
        rows.extend_from_slice(&x[token as usize * width..][..width]);
    }
    rows
}
