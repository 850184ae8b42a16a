//! The output head: logits of a table of words, and what is read off the logits.

use crate::embedding::{TableBin, TableLayout};
use crate::kernels::{Matrix, Normalizer, Threads, Write, add_row, matmul};
use std::ops::Range;

/// Words whose logits are held at once: with 256 tokens half a megabyte, which stays in a core's
/// cache.
pub const WORDS: usize = 512;

/// The head's parameters, borrowed.
#[derive(Clone, Debug)]
pub struct Head<'a> {
    /// Bins of words, from word 0 on.
    pub bins: Vec<HeadBin<'a>>,
}

/// Words with rows of one width.
#[derive(Clone, Copy, Debug)]
pub struct HeadBin<'a> {
    /// Their part of the table.
    pub table: TableBin<'a>,
    /// The rows as a head on narrow hidden states.
    pub rows: Rows<'a>,
}

/// `logits = hidden rows^T + bias`.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    /// One row per word, `[n, d]`.
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

    /// Logits of every row for all words. Shapes: `hidden` `[n, D]`, `out` `[n, V]`, overwritten.
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
        let vocab_size = self.vocab_size();
        assert!(targets.iter().all(|&target| (target as usize) < vocab_size), "a target past the {vocab_size} words");
        let mut logits = vec![0.0; targets.len() * WORDS];
        let mut sums = vec![Normalizer::EMPTY; targets.len()];
        let mut target_logits = vec![0.0; targets.len()];
        for bin in &self.bins {
            let narrow = bin.table.narrow(hidden);
            assert_eq!(narrow.len(), targets.len() * bin.table.width, "elements of {} hidden states", targets.len());
            let count = bin.rows.bias.len();
            for start in (0..count).step_by(WORDS) {
                let words = start..count.min(start + WORDS);
                let logits = &mut logits[..targets.len() * words.len()];
                bin.rows.logits_of(words.clone(), &narrow, logits);
                for (token, row) in logits.chunks(words.len()).enumerate() {
                    sums[token].extend(row, 1.0);
                    let place = (targets[token] as usize).checked_sub(bin.table.first + start);
                    if let Some(place) = place.filter(|&place| place < row.len()) {
                        target_logits[token] = row[place];
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

    /// Logits for some of the words.
    ///
    /// # Shapes
    /// - `hidden`: `[n, d]`
    /// - `out`: `[n, words]`, overwritten
    ///
    /// # Panics
    /// If the lengths do not fit together, or there are no such words.
    pub fn logits_of(&self, words: Range<usize>, hidden: &[f32], out: &mut [f32]) {
        let (width, count) = (self.width(), words.len());
        let table = Matrix::new(&self.table[words.start * width..words.end * width], count, width);
        let hidden = Matrix::new(hidden, hidden.len() / width, width);
        matmul(out, Write::Overwrite, hidden, table.transposed(), Threads::One);
        for row in out.chunks_mut(count) {
            add_row(row, &self.bias[words.clone()]);
        }
    }

    /// The same head on some of the words.
    pub fn part(&self, words: Range<usize>) -> Self {
        let width = self.width();
        Self { table: &self.table[words.start * width..words.end * width], bias: &self.bias[words] }
    }
}
