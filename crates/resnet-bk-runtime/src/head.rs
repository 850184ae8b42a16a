//! The output head: `logits = hidden table^T + bias`, and what is read off the logits.

use crate::kernels::{Matrix, Normalizer, Threads, Write, add_row, matmul};
use std::ops::Range;

/// Words whose logits are held at once: with 256 tokens half a megabyte, which stays in a core's cache.
pub const WORDS: usize = 512;

/// The head's parameters, borrowed.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// One row per word, `[V, D]`.
    pub table: &'a [f32],
    /// `[V]`.
    pub bias: &'a [f32],
}

impl Head<'_> {
    /// Model width `D`.
    pub fn width(&self) -> usize {
        self.table.len() / self.bias.len()
    }

    /// Logits of every row for some words.
    ///
    /// # Shapes
    /// - `hidden`: `[n, D]`
    /// - `out`: `[n, words]`, overwritten
    ///
    /// # Panics
    /// If the lengths do not fit together, or the words are not in the vocabulary.
    pub fn logits_of(&self, words: Range<usize>, hidden: &[f32], out: &mut [f32]) {
        let (width, count) = (self.width(), words.len());
        let table = Matrix::new(&self.table[words.start * width..words.end * width], count, width);
        let hidden = Matrix::new(hidden, hidden.len() / width, width);
        matmul(out, Write::Overwrite, hidden, table.transposed(), Threads::One);
        for row in out.chunks_mut(count) {
            add_row(row, &self.bias[words.clone()]);
        }
    }

    /// Logits of every row for all words. Shapes: `hidden` `[n, D]`, `out` `[n, V]`, overwritten.
    ///
    /// # Panics
    /// If the lengths do not fit together.
    pub fn logits(&self, hidden: &[f32], out: &mut [f32]) {
        self.logits_of(0..self.bias.len(), hidden, out);
    }

    /// `-ln p(target)` of every row, in nats; the logits of a few words exist at a time.
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
        assert_eq!(hidden.len(), targets.len() * self.width(), "elements of {} hidden states", targets.len());
        assert!(targets.iter().all(|&target| (target as usize) < vocab_size), "a target past the {vocab_size} words");
        let mut logits = vec![0.0; targets.len() * WORDS];
        let mut sums = vec![Normalizer::EMPTY; targets.len()];
        let mut target_logits = vec![0.0; targets.len()];
        for start in (0..vocab_size).step_by(WORDS) {
            let words = start..vocab_size.min(start + WORDS);
            let logits = &mut logits[..targets.len() * words.len()];
            self.logits_of(words.clone(), hidden, logits);
            for (token, row) in logits.chunks(words.len()).enumerate() {
                sums[token].extend(row, 1.0);
                if let Some(place) = (targets[token] as usize).checked_sub(start).filter(|&place| place < row.len()) {
                    target_logits[token] = row[place];
                }
            }
        }
        sums.iter().zip(&target_logits).map(|(sum, target)| sum.ln() - target).collect()
    }
}
