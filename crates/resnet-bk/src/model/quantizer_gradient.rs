//! Gradients through a parameter's quantizer.
//!
//! The gradient of rounded values is taken for that of the values: the straight-through estimator
//! (Bengio, Léonard, Courville, arXiv 1308.3432). Scales that follow the largest weight of a group
//! cut off no weight; trained ones do, and have gradients of their own (Esser and others, "Learned
//! step size quantization", arXiv 1902.08153). With `v = x / s`, `q = clamp(round(v), -Q, Q)` and
//! the gradient `y` of `q s`:
//!
//! ```text
//! dx = y where |v| <= Q, else 0        d ln s = s sum y (q - v where |v| <= Q, else q)
//! ```
//!
//! Where bits have a price, the coded size is part of the loss. A code's cost is its information in
//! the tensor's present codes, `b_k = -log2 p(|q| = k)` and a sign's bit; between two levels it is
//! interpolated, so the way to a cheaper level has a slope:
//!
//! ```text
//! cost(v) = b_k + (|v| - k)(b_{k+1} - b_k)      k = floor |v|      dx += price cost'(v) / s      d ln s -= price sum cost'(v) v
//! ```

use crate::ops::sum_rows;
use crate::parameters::{Parameter, Quantizer};
use rayon::prelude::*;
use resnet_bk_runtime::internal::kernels::{divide_by_scale, nearest_code};
use resnet_bk_runtime::internal::quantization::ScaleMode;

/// Rows of a matrix that one task takes.
pub const ROWS: usize = 512;

/// Turns the gradient of rounded values into that of the values, and returns that of the logarithms
/// of learned scales.
pub fn through_quantizer(
    parameter: &Parameter,
    quantizer: &Quantizer,
    gradient: &mut [f32],
    lambda: f32,
) -> Option<Vec<f32>> {
    let ScaleMode::Learned(columns) = quantizer.scheme.mode else { return None };
    let columns = columns as usize;
    let qmax = f32::from(quantizer.scheme.qmax);
    let steps: Vec<f32> = quantizer.scales.iter().map(|scale| scale.to_f32()).collect();
    let slopes = if lambda > 0.0 {
        slopes(parameter, &steps, quantizer.scheme.qmax).iter().map(|slope| lambda * slope).collect()
    } else {
        vec![0.0; quantizer.scheme.qmax as usize + 1]
    };
    let parts: Vec<Vec<f32>> = gradient
        .par_chunks_mut(ROWS * columns)
        .zip(parameter.values.par_chunks(ROWS * columns))
        .map(|(gradient, values)| {
            let mut dsteps = vec![0.0; columns];
            for (gradient, values) in gradient.chunks_mut(columns).zip(values.chunks(columns)) {
                for (((y, x), step), dstep) in gradient.iter_mut().zip(values).zip(&steps).zip(&mut dsteps) {
                    let v = divide_by_scale(*x, *step);
                    let inside = v.abs() <= qmax;
                    let q = nearest_code(*x, *step, qmax);
                    *dstep += *y * step * if inside { q - v } else { q };
                    *y = if inside { *y } else { 0.0 };
                    let slope = slopes[v.abs().min(qmax) as usize];
                    if slope != 0.0 && v != 0.0 {
                        *y += slope * v.signum() / step;
                        *dstep -= slope * v.abs();
                    }
                }
            }
            dsteps
        })
        .collect();
    Some(sum_rows(&parts, columns))
}

/// What one more level costs from each level on, in bits; nothing beyond the last.
fn slopes(parameter: &Parameter, steps: &[f32], qmax: i16) -> Vec<f32> {
    let mut counts = vec![0u32; qmax as usize + 1];
    for (x, step) in parameter.values.iter().zip(steps.iter().cycle()) {
        let level = nearest_code(*x, *step, f32::from(qmax)).abs();
        counts[level as usize] += 1;
    }
    // Half a count for levels that no code has: their cost stays finite.
    let total = parameter.values.len() as f32 + 0.5 * counts.len() as f32;
    let cost = |level: usize| f32::from(level > 0) - ((counts[level] as f32 + 0.5) / total).log2();
    (0..counts.len()).map(|level| if level + 1 < counts.len() { cost(level + 1) - cost(level) } else { 0.0 }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::f16;
    use resnet_bk_runtime::internal::quantization::Scheme;
    use resnet_bk_runtime::internal::tensor_id::ModelTensor;
    use resnet_bk_runtime::internal::tensor_spec::{Role, TensorSpec};

    fn parameter(values: &[f32]) -> (Parameter, Quantizer) {
        let spec =
            TensorSpec { id: ModelTensor::HeadBias.into(), shape: vec![values.len() / 2, 2], role: Role::Expert };
        let scheme = Scheme { qmax: 2, mode: ScaleMode::Learned(2) };
        let scales = vec![f16::from_f32(0.5), f16::from_f32(0.25)];
        (Parameter::new(spec, values.to_vec()), Quantizer { scheme, scales })
    }

    #[test]
    fn weights_inside_the_levels_get_the_gradient_and_steps_theirs() {
        // v = 0.2, 1.6, 3.0, -0.8; q = 0, 2, 2, -1
        let (parameter, quantizer) = parameter(&[0.1, 0.4, 1.5, -0.2]);
        let mut gradient = [1.0, 2.0, 3.0, 4.0];
        let steps = through_quantizer(&parameter, &quantizer, &mut gradient, 0.0).unwrap();
        assert_eq!(gradient, [1.0, 2.0, 0.0, 4.0]);
        let expected = [0.5 * (1.0 * (0.0 - 0.2) + 3.0 * 2.0), 0.25 * (2.0 * (2.0 - 1.6) + 4.0 * (-1.0 + 0.8))];
        for (step, expected) in steps.iter().zip(expected) {
            assert!((step - expected).abs() < 1e-5, "{steps:?}");
        }
    }

    #[test]
    fn a_price_follows_the_codes_own_information() {
        // 40 zeros, 8 ones, 2 twos: each level up is rarer, so it costs more.
        let values: Vec<f32> = [(40, 0.1), (8, 0.5), (2, -1.0)].iter().flat_map(|&(n, x)| vec![x; n]).collect();
        let (mut parameter, mut quantizer) = parameter(&values);
        parameter.spec.shape = vec![50, 1];
        quantizer.scheme.mode = ScaleMode::Learned(1);
        quantizer.scales.truncate(1);
        let slopes = slopes(&parameter, &[0.5], 2);
        let bits = |count: f32| -((count + 0.5) / 51.5f32).log2();
        assert!((slopes[0] - (1.0 + bits(8.0) - bits(40.0))).abs() < 1e-5, "{slopes:?}");
        assert!((slopes[1] - (bits(2.0) - bits(8.0))).abs() < 1e-5 && slopes[2] == 0.0, "{slopes:?}");
        let mut gradient = vec![0.0; 50];
        let steps = through_quantizer(&parameter, &quantizer, &mut gradient, 0.01).unwrap();
        assert!((gradient[0] - 0.01 * slopes[0] / 0.5).abs() < 1e-6, "towards zero");
        assert!(steps[0] < 0.0, "a larger step makes codes smaller");
    }
}
