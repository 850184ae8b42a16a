//! Layer normalization and RMS normalization of rows.
//!
//! ```text
//! layer norm   y = (x - mean) / sqrt(var + eps) * gamma + beta        RMS norm   y = x / sqrt(mean(x^2) + eps) * gamma
//! ```

use super::dispatch::InstructionSet;
use crate::dispatched;

/// Added to variances and mean squares.
const EPSILON: f32 = 1e-5;
/// Number of lanes of the sums over a row.
const LANES: usize = 16;

/// `sum f(x)` over a row. The fixed number of lanes keeps vectorization from changing the result.
#[inline(always)]
fn sum(row: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut sums = [0.0f32; LANES];
    let (chunks, rest) = row.as_chunks::<LANES>();
    for chunk in chunks {
        for (sum, x) in sums.iter_mut().zip(chunk) {
            *sum += f(*x);
        }
    }
    for (sum, x) in sums.iter_mut().zip(rest) {
        *sum += f(*x);
    }
    sums.iter().sum()
}

/// Mean and `1 / sqrt(var + eps)` of a row.
#[inline(always)]
pub fn moments(row: &[f32]) -> (f32, f32) {
    let n = row.len() as f32;
    let mean = sum(row, |x| x) / n;
    let variance = sum(row, |x| (x - mean) * (x - mean)) / n;
    (mean, 1.0 / (variance + EPSILON).sqrt())
}

/// `1 / sqrt(mean(x^2) + eps)` of a row.
#[inline(always)]
pub fn inverse_rms(row: &[f32]) -> f32 {
    1.0 / (sum(row, |x| x * x) / row.len() as f32 + EPSILON).sqrt()
}

dispatched! {
    /// Layer normalization. Shapes: `x`, `out` `[n, D]`; `gamma`, `beta` `[D]`.
    pub fn layer_norm(x: &[f32], gamma: &[f32], beta: &[f32], out: &mut [f32])
        = layer_norm_on(set) => layer_norm_body(x, gamma, beta, out)
}

#[inline(always)]
fn layer_norm_body(x: &[f32], gamma: &[f32], beta: &[f32], out: &mut [f32]) {
    for (x, out) in x.chunks_exact(gamma.len()).zip(out.chunks_exact_mut(gamma.len())) {
        let (mean, scale) = moments(x);
        for (((out, x), gamma), beta) in out.iter_mut().zip(x).zip(gamma).zip(beta) {
            *out = (x - mean) * scale * gamma + beta;
        }
    }
}

dispatched! {
    /// RMS normalization. Shapes: `x`, `out` `[n, D]`; `gamma` `[D]`.
    pub fn rms_norm(x: &[f32], gamma: &[f32], out: &mut [f32]) = rms_norm_on(set) => rms_norm_body(x, gamma, out)
}

#[inline(always)]
fn rms_norm_body(x: &[f32], gamma: &[f32], out: &mut [f32]) {
    for (x, out) in x.chunks_exact(gamma.len()).zip(out.chunks_exact_mut(gamma.len())) {
        let scale = inverse_rms(x);
        for ((out, x), gamma) in out.iter_mut().zip(x).zip(gamma) {
            *out = x * scale * gamma;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{AWKWARD, equal_bits, values};
    use super::*;

    #[test]
    fn every_instruction_set_gives_the_same_bits() {
        for width in AWKWARD.into_iter().filter(|width| *width > 0) {
            for rows in [0, 1, 3] {
                let (x, gamma, beta) = (values(rows * width, 1), values(width, 2), values(width, 3));
                equal_bits("layer_norm", |set| {
                    let mut out = vec![f32::NAN; rows * width];
                    layer_norm_on(set, &x, &gamma, &beta, &mut out);
                    out
                });
                equal_bits("rms_norm", |set| {
                    let mut out = vec![f32::NAN; rows * width];
                    rms_norm_on(set, &x, &gamma, &mut out);
                    out
                });
            }
        }
    }

    #[test]
    fn normalized_rows_have_the_expected_moments() {
        let x: Vec<f32> = (0..96).map(|i| (i as f32 * 1.3).sin() * 3.0 + 2.0).collect();
        let mut out = vec![0.0; 96];
        layer_norm(&x, &[1.0; 32], &[0.0; 32], &mut out);
        for row in out.chunks(32) {
            let (mean, scale) = moments(row);
            assert!(mean.abs() < 1e-6 && (scale - 1.0).abs() < 1e-4);
        }
        rms_norm(&x, &[2.0; 32], &mut out);
        for row in out.chunks(32) {
            assert!((inverse_rms(row) - 0.5).abs() < 1e-4);
        }
    }
}
