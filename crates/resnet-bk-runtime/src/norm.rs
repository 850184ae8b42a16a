//! Layer normalization and RMS normalization of rows.
//!
//! ```text
//! layer norm   y = (x - mean) / sqrt(var + eps) * gamma + beta        RMS norm   y = x / sqrt(mean(x^2) + eps) * gamma
//! ```

/// Added to variances and mean squares.
pub const EPSILON: f32 = 1e-5;

/// Mean and `1 / sqrt(var + eps)` of a row.
pub fn moments(row: &[f32]) -> (f32, f32) {
    let n = row.len() as f32;
    let mean = row.iter().sum::<f32>() / n;
    let variance = row.iter().map(|x| (x - mean) * (x - mean)).sum::<f32>() / n;
    (mean, 1.0 / (variance + EPSILON).sqrt())
}

/// `1 / sqrt(mean(x^2) + eps)` of a row.
pub fn inverse_rms(row: &[f32]) -> f32 {
    1.0 / (row.iter().map(|x| x * x).sum::<f32>() / row.len() as f32 + EPSILON).sqrt()
}

/// Layer normalization. Shapes: `x`, `out` `[n, D]`; `gamma`, `beta` `[D]`.
pub fn layer_norm(x: &[f32], gamma: &[f32], beta: &[f32], out: &mut [f32]) {
    for (x, out) in x.chunks(gamma.len()).zip(out.chunks_mut(gamma.len())) {
        let (mean, scale) = moments(x);
        for (i, out) in out.iter_mut().enumerate() {
            *out = (x[i] - mean) * scale * gamma[i] + beta[i];
        }
    }
}

/// RMS normalization. Shapes: `x`, `out` `[n, D]`; `gamma` `[D]`.
pub fn rms_norm(x: &[f32], gamma: &[f32], out: &mut [f32]) {
    for (x, out) in x.chunks(gamma.len()).zip(out.chunks_mut(gamma.len())) {
        let scale = inverse_rms(x);
        for (i, out) in out.iter_mut().enumerate() {
            *out = x[i] * scale * gamma[i];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normalized_rows_have_the_promised_moments() {
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
