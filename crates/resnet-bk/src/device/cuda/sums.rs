//! Scratch memory and grids of sums over rows and elements; the kernels are in `common.cu`.

use super::{Array, Cuda, launch};

/// Columns of a block.
const TILE: usize = 64;
/// Threads of a block.
const THREADS: usize = 256;
/// Rows that a thread adds, unless that makes too many parts.
const ROWS: usize = 8;
/// Largest number of parts of the rows.
const PARTS: usize = 128;
/// Elements that a thread adds.
const ELEMENTS: usize = 4;

impl Cuda {
    /// Grid and scratch memory of `sum_columns` with `results` results for each of several matrices.
    pub(crate) fn column_grid(
        &self,
        matrices: usize,
        rows: usize,
        columns: usize,
        results: usize,
    ) -> ([usize; 3], Array) {
        let lanes = THREADS / columns.clamp(1, TILE);
        let parts = rows.div_ceil(lanes * ROWS).clamp(1, PARTS);
        ([columns.div_ceil(TILE), parts, matrices], self.array(matrices * parts * columns * results))
    }

    /// Grid and scratch memory of `sum_all` over `n` elements.
    pub(crate) fn element_grid(&self, n: usize) -> (usize, Array<f64>) {
        let blocks = n.div_ceil(THREADS * ELEMENTS).clamp(1, 2 * self.multiprocessors() as usize);
        (blocks, self.array_of(blocks))
    }

    /// Sums of the columns of `x`, `[matrices, rows, columns]`. The sums of a matrix are written
    /// to `out`, `stride` elements after those of the matrix before. `scratch` is that of
    /// [`column_grid`](Self::column_grid) for one result.
    pub(crate) fn column_sums(
        &self,
        x: &Array,
        [rows, columns]: [usize; 2],
        out: &Array,
        stride: usize,
        (grid, partial): &([usize; 3], Array),
    ) {
        launch!(self, "column_sums", *grid, THREADS, x, out, rows, columns, stride, partial, self.counters());
    }
}
