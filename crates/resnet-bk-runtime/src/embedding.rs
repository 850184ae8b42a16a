//! The embedding table in frequency bins: rare words have narrower rows and a projection.
//!
//! ```text
//! words       0 ......... n_0 ......... n_0 + n_1 ......... V        most frequent first
//! rows        [n_0, D]    [n_1, d_1]    [n_2, d_2]                   one row r per word
//! embedding   r           r P_1         r P_2                        projection P_b [d_b, D], one per bin
//! logits      h r         (h P_1^T) r   (h P_2^T) r                  without a table of [V, D]
//! ```
//!
//! Adaptive input representations (Baevski, Auli, arXiv 1809.10853). A table without bins is one
//! bin of the width of the model. Rows and projections of all bins are packed into one vector, the
//! table.

use crate::kernels::{Matrix, Threads, Write, linear, matmul};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::ops::Range;

/// A frequency bin: consecutive words whose rows have the same width.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmbeddingBin {
    /// Number of words.
    pub words: usize,
    /// Width of their rows, from 1 to the width of the model.
    pub width: usize,
}

impl EmbeddingBin {
    /// Whether the rows are narrower than the model and need a projection.
    pub fn is_projected(self, d_model: usize) -> bool {
        self.width < d_model
    }

    /// Number of elements of rows and projection.
    fn len(self, d_model: usize) -> usize {
        self.width * (self.words + if self.is_projected(d_model) { d_model } else { 0 })
    }
}

/// The layout of a table: its bins, most frequent words first, and the width of the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableLayout {
    /// The bins, at least one.
    pub bins: Vec<EmbeddingBin>,
    /// Model width `D`.
    pub d_model: usize,
}

/// One bin of a table, borrowed.
#[derive(Clone, Copy, Debug)]
pub struct TableBin<'a> {
    /// Id of the first word.
    pub first: usize,
    /// Width `d` of a row.
    pub width: usize,
    /// The rows, `[n, d]`.
    pub rows: &'a [f32],
    /// The projection, `[d, D]`; `None` where rows are as wide as the model.
    pub projection: Option<&'a [f32]>,
}

impl TableLayout {
    /// A table of one bin with rows as wide as the model.
    pub fn full(words: usize, d_model: usize) -> Self {
        Self { bins: vec![EmbeddingBin { words, width: d_model }], d_model }
    }

    /// Number of elements of the packed table.
    pub fn len(&self) -> usize {
        self.bins.iter().map(|bin| bin.len(self.d_model)).sum()
    }

    /// Whether the table has no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Splits a packed table into its bins.
    ///
    /// # Panics
    /// If the table has another length.
    pub fn bins<'a>(&self, table: &'a [f32]) -> Vec<TableBin<'a>> {
        assert_eq!(table.len(), self.len(), "elements of a packed table");
        let (mut rest, mut first) = (table, 0);
        self.bins
            .iter()
            .map(|bin| {
                let rows = rest.split_off(..bin.words * bin.width).expect("the table holds every bin");
                let projection = bin
                    .is_projected(self.d_model)
                    .then(|| rest.split_off(..bin.width * self.d_model).expect("the table holds every projection"));
                first += bin.words;
                TableBin { first: first - bin.words, width: bin.width, rows, projection }
            })
            .collect()
    }

    /// Index of the bin that contains a word.
    ///
    /// # Panics
    /// If the word is not in the table.
    pub fn bin_of(&self, word: usize) -> usize {
        let mut end = 0;
        let holds = |bin: &EmbeddingBin| {
            end += bin.words;
            word < end
        };
        self.bins.iter().position(holds).expect("a word of the table")
    }
}

impl<'a> TableBin<'a> {
    /// The ids of its words.
    pub fn words(&self) -> Range<usize> {
        self.first..self.first + self.rows.len() / self.width
    }

    /// Number of its elements in the packed table: rows and projection.
    pub fn packed_len(&self) -> usize {
        self.rows.len() + self.projection.map_or(0, <[f32]>::len)
    }

    /// The row of a word of this bin.
    pub fn row(&self, word: usize) -> &'a [f32] {
        &self.rows[(word - self.first) * self.width..][..self.width]
    }

    /// Projects rows to the width of the model. Shapes: `rows` `[n, d]`, `out` `[n, D]`,
    /// overwritten.
    pub fn widen(&self, rows: &[f32], out: &mut [f32]) {
        match self.projection {
            Some(projection) => linear(rows, projection, &vec![0.0; projection.len() / self.width], out),
            None => out.copy_from_slice(rows),
        }
    }

    /// Projects hidden states to the width of the rows, `h P^T`. The products with the rows are the
    /// logits. Shapes: `hidden` `[n, D]`, returns `[n, d]`.
    pub fn narrow<'h>(&self, hidden: &'h [f32]) -> Cow<'h, [f32]> {
        let Some(projection) = self.projection else { return Cow::Borrowed(hidden) };
        let d_model = projection.len() / self.width;
        let mut out = vec![0.0; hidden.len() / d_model * self.width];
        let hidden = Matrix::new(hidden, hidden.len() / d_model, d_model);
        let projection = Matrix::new(projection, self.width, d_model);
        matmul(&mut out, Write::Overwrite, hidden, projection.transposed(), Threads::One);
        Cow::Owned(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout() -> TableLayout {
        let bin = |words, width| EmbeddingBin { words, width };
        TableLayout { bins: vec![bin(2, 3), bin(3, 2), bin(4, 1)], d_model: 3 }
    }

    #[test]
    fn bins_split_the_packed_table_in_order() {
        let layout = layout();
        assert_eq!(layout.len(), 6 + (6 + 6) + (4 + 3));
        let table: Vec<f32> = (0..layout.len()).map(|i| i as f32).collect();
        let bins = layout.bins(&table);
        assert_eq!(bins.iter().map(TableBin::words).collect::<Vec<_>>(), [0..2, 2..5, 5..9]);
        assert!(bins[0].projection.is_none());
        assert_eq!(bins[1].row(4), [10.0, 11.0]);
        assert_eq!(bins[2].projection.unwrap(), [22.0, 23.0, 24.0]);
        assert_eq!((0..9).map(|word| layout.bin_of(word)).collect::<Vec<_>>(), [0, 0, 1, 1, 1, 2, 2, 2, 2]);
    }

    #[test]
    fn projected_hidden_states_give_the_logits_of_projected_rows() {
        // The sums of three products have different orders.
        const TOLERANCE: f32 = 1e-5;
        let layout = layout();
        let table: Vec<f32> = (0..layout.len()).map(|i| (i as f32 * 0.7).sin()).collect();
        let hidden = [0.3, -1.2, 0.5, 0.9, 0.1, -0.4];
        for bin in layout.bins(&table) {
            let narrow = bin.narrow(&hidden);
            for word in bin.words() {
                let mut wide = vec![0.0; 3];
                bin.widen(bin.row(word), &mut wide);
                for (h, z) in hidden.chunks(3).zip(narrow.chunks(bin.width)) {
                    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
                    let (logit, expected) = (dot(z, bin.row(word)), dot(h, &wide));
                    assert!((logit - expected).abs() < TOLERANCE, "word {word}: {logit}, expected {expected}");
                }
            }
        }
    }
}
