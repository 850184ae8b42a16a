//! The output head: `logits = hidden table^T + bias`, and what is read off the logits.

use crate::kernels::{Matrix, Threads, Write, log_sum_exp, matmul};

/// Tokens whose logits are held at once: 16 rows of 30,000 words are 2 MB.
const TILE: usize = 16;

/// The head's parameters, borrowed.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// One row per word, `[V, D]`.
    pub table: &'a [f32],
    /// `[V]`.
    pub bias: &'a [f32],
}

impl Head<'_> {
    /// Logits of every row. Shapes: `hidden` `[n, D]`, `out` `[n, V]`, overwritten.
    pub fn logits(&self, hidden: &[f32], out: &mut [f32]) {
        let vocab_size = self.bias.len();
        let width = self.table.len() / vocab_size;
        let rows = out.len() / vocab_size;
        matmul(
            out,
            Write::Overwrite,
            Matrix::new(hidden, rows, width),
            Matrix::new(self.table, vocab_size, width).transposed(),
            Threads::One,
        );
        for row in out.chunks_mut(vocab_size) {
            for (logit, bias) in row.iter_mut().zip(self.bias) {
                *logit += bias;
            }
        }
    }

    /// `-ln p(target)` of every row, in nats; a few rows of logits exist at a time.
    ///
    /// # Shapes
    /// - `hidden`: `[n, D]`
    /// - `targets`: `[n]`
    /// - returns `[n]`
    ///
    /// # Panics
    /// If the lengths do not fit together, or a target is not in the vocabulary.
    pub fn negative_log_likelihoods(&self, hidden: &[f32], targets: &[u32]) -> Vec<f32> {
        let vocab_size = self.bias.len();
        let width = self.table.len() / vocab_size;
        assert_eq!(hidden.len(), targets.len() * width, "elements of {} hidden states", targets.len());
        let mut logits = vec![0.0; TILE.min(targets.len()) * vocab_size];
        let mut losses = Vec::with_capacity(targets.len());
        for (hidden, targets) in hidden.chunks(TILE * width).zip(targets.chunks(TILE)) {
            let logits = &mut logits[..targets.len() * vocab_size];
            self.logits(hidden, logits);
            losses.extend(
                logits.chunks(vocab_size).zip(targets).map(|(row, &target)| log_sum_exp(row) - row[target as usize]),
            );
        }
        losses
    }
}
