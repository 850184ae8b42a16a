//! Matrix products: a safe interface to the `gemm` crate.

/// A matrix that borrows its elements from a slice.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    data: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// A row-major matrix that fills `data`.
    ///
    /// # Panics
    /// If `data` does not have `rows * columns` elements.
    pub fn new(data: &'a [f32], rows: usize, columns: usize) -> Self {
        assert_eq!(data.len(), rows * columns, "elements of a {rows} x {columns} matrix");
        Self { data, rows, columns, row_stride: columns, column_stride: 1 }
    }

    /// The transposed matrix.
    pub fn transposed(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }
}

/// How the product is written to the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// The output is overwritten.
    Overwrite,
    /// The product is added to the output.
    Accumulate,
}

/// The threads that compute a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Threads {
    /// The calling thread.
    One,
    /// All threads of the current rayon pool. Without the feature `rayon`, the calling thread.
    All,
}

/// `out = a b` or `out += a b`, with `out` row-major `[a.rows, b.columns]`.
///
/// # Panics
/// If the sizes do not fit together.
pub fn matmul(out: &mut [f32], write: Write, a: Matrix, b: Matrix, threads: Threads) {
    assert_eq!(a.columns, b.rows, "inner sizes of a product");
    assert_eq!(out.len(), a.rows * b.columns, "elements of a {} x {} product", a.rows, b.columns);
    if out.is_empty() {
        return;
    }
    let parallelism = match threads {
        #[cfg(feature = "rayon")]
        Threads::All => gemm::Parallelism::Rayon(0),
        _ => gemm::Parallelism::None,
    };
    // SAFETY: `out` holds rows * columns elements and is borrowed mutably; the constructor of
    // `Matrix` checked that every element reached through its strides lies inside its slice;
    // `transposed` keeps that set of elements.
    #[expect(unsafe_code, reason = "gemm takes raw pointers")]
    unsafe {
        gemm::gemm(
            a.rows,
            b.columns,
            a.columns,
            out.as_mut_ptr(),
            1,
            b.columns as isize,
            write == Write::Accumulate,
            a.data.as_ptr(),
            a.column_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.column_stride as isize,
            b.row_stride as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            parallelism,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_and_transposes_agree_with_the_definition() {
        let (m, k, n) = (5, 17, 9);
        let a: Vec<f32> = (0..m * k).map(|i| (i as f32 * 0.7).sin()).collect();
        let b: Vec<f32> = (0..k * n).map(|i| (i as f32 * 0.3).cos()).collect();
        let at: Vec<f32> = (0..k * m).map(|i| a[(i % m) * k + i / m]).collect();
        let expected: Vec<f32> =
            (0..m * n).map(|i| (0..k).map(|j| a[i / n * k + j] * b[j * n + i % n]).sum::<f32>()).collect();
        for (view, threads) in
            [(Matrix::new(&a, m, k), Threads::One), (Matrix::new(&at, k, m).transposed(), Threads::All)]
        {
            let mut out = vec![1.0; m * n];
            matmul(&mut out, Write::Accumulate, view, Matrix::new(&b, k, n), threads);
            for (got, expected) in out.iter().zip(&expected) {
                assert!((got - expected - 1.0).abs() < 1e-5);
            }
            matmul(&mut out, Write::Overwrite, view, Matrix::new(&b, k, n), threads);
            for (got, expected) in out.iter().zip(&expected) {
                assert!((got - expected).abs() < 1e-5);
            }
        }
    }
}
