//! The output head: logits and negative log-likelihoods of the vocabulary.

use crate::embedding::{TableBin, TableLayout};
use crate::kernels::{Matrix, Normalizer, Threads, Write, add_row, matmul};
use std::ops::Range;

/// Number of vocabulary entries whose logits are computed at a time. With 256 tokens these are half
/// a megabyte, which fits the cache of a core.
pub const VOCAB_CHUNK: usize = 512;

/// The head's parameters, borrowed.
#[derive(Clone, Debug)]
pub struct Head<'a> {
    /// The bins, in the order of the vocabulary.
    pub bins: Vec<HeadBin<'a>>,
}

/// The part of the head in one bin of the table.
#[derive(Clone, Copy, Debug)]
pub struct HeadBin<'a> {
    /// The bin of the table.
    pub table: TableBin<'a>,
    /// The rows and their biases, applied to projected hidden states.
    pub rows: Rows<'a>,
}

/// Rows of a head: `logits = hidden rows^T + bias`.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    /// One row per vocabulary entry, `[n, d]`.
    pub table: &'a [f32],
    /// `[n]`.
    pub bias: &'a [f32],
}

impl<'a> Head<'a> {
    /// A head on a packed table. Shapes: `bias` `[V]`.
    ///
    /// # Panics
    /// If the lengths do not fit together.
    pub fn new(layout: &TableLayout, table: &'a [f32], bias: &'a [f32]) -> Self {
        let bins = layout.bins(table).into_iter();
        let bin = |table: TableBin<'a>| HeadBin { table, rows: Rows { table: table.rows, bias: &bias[table.words()] } };
        Self { bins: bins.map(bin).collect() }
    }

    /// Logits of all vocabulary entries for each hidden state. Shapes: `hidden` `[n, D]`, `out`
    /// `[n, V]`, overwritten.
    ///
    /// # Panics
    /// If the lengths do not fit together.
    pub fn logits(&self, hidden: &[f32], out: &mut [f32]) {
        let vocab_size = self.vocab_size();
        for bin in &self.bins {
            let words = bin.table.words();
            let narrow = bin.table.narrow(hidden);
            let mut part = vec![0.0; out.len() / vocab_size * words.len()];
            bin.rows.logits_of(0..words.len(), &narrow, &mut part);
            for (out, part) in out.chunks_mut(vocab_size).zip(part.chunks(words.len())) {
                out[words.clone()].copy_from_slice(part);
            }
        }
    }

    /// `-ln p(target)` for each hidden state, in nats. At most [`VOCAB_CHUNK`] logits per hidden
    /// state exist at a time.
    ///
    /// # Shapes
    /// - `hidden`: `[n, D]`
    /// - `targets`: `[n]`
    /// - returns `[n]`
    ///
    /// # Panics
    /// If the lengths do not fit together, or a target is not in the vocabulary.
    pub fn negative_log_likelihoods(&self, hidden: &[f32], targets: &[u32]) -> Vec<f32> {
        let vocab_size = self.vocab_size();
        assert!(
            targets.iter().all(|&target| (target as usize) < vocab_size),
            "a target is outside the vocabulary of {vocab_size}"
        );
        let mut logits = vec![0.0; targets.len() * VOCAB_CHUNK];
        let mut sums = vec![Normalizer::EMPTY; targets.len()];
        let mut target_logits = vec![0.0; targets.len()];
        for bin in &self.bins {
            let narrow = bin.table.narrow(hidden);
            assert_eq!(narrow.len(), targets.len() * bin.table.width, "elements of {} hidden states", targets.len());
            let count = bin.rows.bias.len();
            for start in (0..count).step_by(VOCAB_CHUNK) {
                let words = start..count.min(start + VOCAB_CHUNK);
                let logits = &mut logits[..targets.len() * words.len()];
                bin.rows.logits_of(words.clone(), &narrow, logits);
                for (token, row) in logits.chunks(words.len()).enumerate() {
                    sums[token].extend(row, 1.0);
                    let index = (targets[token] as usize).checked_sub(bin.table.first + start);
                    if let Some(index) = index.filter(|&index| index < row.len()) {
                        target_logits[token] = row[index];
                    }
                }
            }
        }
        sums.iter().zip(&target_logits).map(|(sum, target)| sum.ln() - target).collect()
    }

    fn vocab_size(&self) -> usize {
        self.bins.iter().map(|bin| bin.rows.bias.len()).sum()
    }
}

impl Rows<'_> {
    /// Width `d` of a row.
    pub fn width(&self) -> usize {
        self.table.len() / self.bias.len()
    }

    /// Logits for a range of the vocabulary entries.
    ///
    /// # Shapes
    /// - `hidden`: `[n, d]`
    /// - `out`: `[n, words]`, overwritten
    ///
    /// # Panics
    /// If the lengths do not fit together, or the range is out of bounds.
    pub fn logits_of(&self, words: Range<usize>, hidden: &[f32], out: &mut [f32]) {
        let (width, count) = (self.width(), words.len());
        let table = Matrix::new(&self.table[words.start * width..words.end * width], count, width);
        let hidden = Matrix::new(hidden, hidden.len() / width, width);
        matmul(out, Write::Overwrite, hidden, table.transposed(), Threads::One);
        for row in out.chunks_mut(count) {
            add_row(row, &self.bias[words.clone()]);
        }
    }

    /// The head restricted to a range of its vocabulary entries.
    pub fn part(&self, words: Range<usize>) -> Self {
        let width = self.width();
        Self { table: &self.table[words.start * width..words.end * width], bias: &self.bias[words] }
    }
}
