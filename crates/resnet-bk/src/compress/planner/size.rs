//! Predicts the size of a model's weights before training.

use resnet_bk_runtime::internal::architecture::Architecture;
use resnet_bk_runtime::internal::tensor_spec::{Role, TensorSpec};

/// `(levels, bits)`: bits of a trained code by its number of levels, measured on trained
/// students. The values for 3, 63 and 127 levels are estimates. Between entries, bits are interpolated
/// over the logarithm of the levels.
const ENTROPIES: [(f64, f64); 8] =
    [(3.0, 1.5), (5.0, 2.25), (9.0, 3.0), (15.0, 3.75), (31.0, 4.8), (63.0, 5.6), (127.0, 6.4), (255.0, 7.2)];
/// Bits of a scale: half-precision numbers of similar size share their exponents.
const SCALE_BITS: f64 = 11.5;
/// Bits of an unquantized number.
const FLOAT_BITS: f64 = 30.0;

/// Predicted length of the weights section, in bytes.
pub fn predict(architecture: &Architecture) -> f64 {
    let bits = |spec: &TensorSpec| match architecture.scheme(spec) {
        Some(scheme) => {
            let codes = spec.len() as f64 * entropy(2.0 * f64::from(scheme.qmax) + 1.0);
            codes + SCALE_BITS * scheme.scale_count(spec.len()) as f64
        }
        None => FLOAT_BITS * spec.len() as f64,
    };
    let stored = architecture.tensors().into_iter().filter(|spec| spec.role != Role::LogScale);
    stored.map(|spec| bits(&spec)).sum::<f64>() / 8.0
}

fn entropy(levels: f64) -> f64 {
    let after = ENTROPIES.iter().position(|&(known, _)| known >= levels).unwrap_or(ENTROPIES.len() - 1).max(1);
    let ((l0, e0), (l1, e1)) = (ENTROPIES[after - 1], ENTROPIES[after]);
    e0 + (e1 - e0) * (levels / l0).ln() / (l1 / l0).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interpolation_meets_the_table_and_grows() {
        for (levels, bits) in ENTROPIES {
            assert!((entropy(levels) - bits).abs() < 1e-12);
        }
        assert!(entropy(7.0) > 2.25 && entropy(7.0) < 3.0);
        assert!(entropy(511.0) > 7.2);
    }
}
