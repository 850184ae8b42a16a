//! Principal directions of weighted rows.
//!
//! ```text
//! G = sum_i w_i r_i^T r_i = Q diag(l) Q^T        l_0 >= l_1 >= ...
//! ```
//!
//! The first `k` columns of `Q` span the space of `k` dimensions that keeps most of the energy
//! `sum_i w_i |r_i|^2`. No matrix of rank `k` is nearer to the weighted rows (Eckart and Young,
//! 1936). Only `G` is decomposed, which is as large as a row is wide.

use nalgebra::{DMatrix, SymmetricEigen};

/// The directions that keep most of the rows' energy, in falling order.
///
/// # Shapes
/// - `rows`: `[n, d]`, finite
/// - `weights`: `[n]`, at least 0
/// - returns orthonormal columns, `[d, count]`
///
/// # Panics
/// If `count` is larger than `d`.
pub(super) fn principal_directions(rows: &DMatrix<f64>, weights: &[f64], count: usize) -> DMatrix<f64> {
    assert!(count <= rows.ncols(), "{count} directions of {} dimensions", rows.ncols());
    let mut weighted = rows.clone();
    for (mut row, weight) in weighted.row_iter_mut().zip(weights) {
        row *= weight.sqrt();
    }
    let eigen = SymmetricEigen::new(weighted.transpose() * &weighted);
    let mut order: Vec<usize> = (0..rows.ncols()).collect();
    order.sort_by(|&a, &b| eigen.eigenvalues[b].total_cmp(&eigen.eigenvalues[a]));
    eigen.eigenvectors.select_columns(&order[..count])
}

/// The rows' energy `sum_i w_i |r_i|^2`.
pub(super) fn energy(rows: &DMatrix<f64>, weights: &[f64]) -> f64 {
    rows.row_iter().zip(weights).map(|(row, weight)| weight * row.norm_squared()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn rows_of_low_rank_are_kept_by_as_many_directions() {
        let mut random = Random::new(1);
        let mut matrix = |rows, columns| DMatrix::from_fn(rows, columns, |_, _| f64::from(random.normal()));
        let rows = matrix(50, 3) * matrix(3, 9);
        let weights: Vec<f64> = (0..50).map(|i| 1.0 / (1.0 + f64::from(i))).collect();
        let kept = |count| {
            let directions = principal_directions(&rows, &weights, count);
            let gram = directions.transpose() * &directions;
            assert!((gram - DMatrix::identity(count, count)).amax() < 1e-12);
            energy(&(&rows * directions), &weights) / energy(&rows, &weights)
        };
        assert!(kept(1) < kept(2) && kept(2) < 0.999);
        assert!((kept(3) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn heavy_rows_decide() {
        let rows = DMatrix::from_row_slice(3, 2, &[0.0, 1.0, 5.0, 0.0, 4.0, 0.0]);
        let first = |weights: [f64; 3]| principal_directions(&rows, &weights, 1).map(f64::abs);
        assert!((first([100.0, 1.0, 1.0]) - DMatrix::from_row_slice(2, 1, &[0.0, 1.0])).amax() < 1e-12);
        assert!((first([1.0, 1.0, 1.0]) - DMatrix::from_row_slice(2, 1, &[1.0, 0.0])).amax() < 1e-12);
    }
}
