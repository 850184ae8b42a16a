//! Gradients through a parameter's quantizer.
//!
//! The straight-through estimator passes the gradient of the rounded values on to the values
//! (Bengio, Léonard, Courville, arXiv 1308.3432). An AbsMax scale follows the largest weight of its
//! group, so no weight is clipped. Learned scales can clip weights, and have gradients of their own
//! (Esser and others, "Learned step size quantization", arXiv 1902.08153). With `v = x / s`, `q =
//! clamp(round(v), -Q, Q)` and the gradient `y` of `q s`:
//!
//! ```text
//! dx = y where |v| <= Q, else 0        d ln s = s sum y (q - v where |v| <= Q, else q)
//! ```
//!
//! With lambda above 0, the loss also contains lambda times the coded size. The rate of a code with
//! magnitude k is estimated from the tensor's current codes: `b_k = -log2 p(|q| = k)`, plus one bit
//! for the sign if k > 0. Between two levels the rate is interpolated linearly, so that it has a
//! gradient:
//!
//! ```text
//! rate(v) = b_k + (|v| - k)(b_{k+1} - b_k)      k = floor |v|
//! dx += lambda rate'(v) / s      d ln s -= lambda sum rate'(v) v
//! ```

use super::ParameterGradients;
use crate::device::Device;
use crate::ops::sum_rows;
use crate::parameters::{Parameter, Parameters, Quantizer};
use rayon::prelude::*;
use resnet_bk_runtime::internal::kernels::{divide_by_scale, nearest_code};
use resnet_bk_runtime::internal::quantization::ScaleMode;

/// Matrix rows per task.
pub const ROWS: usize = 512;

/// Replaces the gradients of rounded values by those of the values, and adds those of learned log
/// scales. On a GPU, lambda is that of the step's numbers.
pub fn through_quantizers(parameters: &Parameters, found: &mut ParameterGradients, lambda: f32) {
    if let Device::Cuda(cuda) = parameters.device() {
        return super::cuda::through_quantizers(cuda, parameters, found);
    }
    for parameter in parameters.iter().filter(|parameter| parameters.has_learned_scales(parameter)) {
        if let Some(gradient) = found.get_mut(&parameter.spec.id)
            && let Some(quantizer) = parameters.quantizer(parameter)
            && let Some(dscales) = on_host(parameter, &quantizer, gradient, lambda)
        {
            found.insert(parameter.spec.id.log_scales(), dscales.into());
        }
    }
}

fn on_host(parameter: &Parameter, quantizer: &Quantizer, gradient: &mut [f32], lambda: f32) -> Option<Vec<f32>> {
    let ScaleMode::Learned(columns) = quantizer.scheme.mode else { return None };
    let columns = columns as usize;
    let qmax = f32::from(quantizer.scheme.qmax);
    let scales: Vec<f32> = quantizer.scales.iter().map(|scale| scale.to_f32()).collect();
    let slopes = if lambda > 0.0 {
        rate_slopes(parameter, &scales, quantizer.scheme.qmax).iter().map(|slope| lambda * slope).collect()
    } else {
        vec![0.0; quantizer.scheme.qmax as usize + 1]
    };
    let parts: Vec<Vec<f32>> = gradient
        .par_chunks_mut(ROWS * columns)
        .zip(parameter.values.par_chunks(ROWS * columns))
        .map(|(gradient, values)| {
            let mut dscales = vec![0.0; columns];
            for (gradient, values) in gradient.chunks_mut(columns).zip(values.chunks(columns)) {
                for (((y, x), scale), dscale) in gradient.iter_mut().zip(values).zip(&scales).zip(&mut dscales) {
                    let v = divide_by_scale(*x, *scale);
                    let inside = v.abs() <= qmax;
                    let q = nearest_code(*x, *scale, qmax);
                    *dscale += *y * scale * if inside { q - v } else { q };
                    *y = if inside { *y } else { 0.0 };
                    let slope = slopes[v.abs().min(qmax) as usize];
                    if slope != 0.0 && v != 0.0 {
                        *y += slope * v.signum() / scale;
                        *dscale -= slope * v.abs();
                    }
                }
            }
            dscales
        })
        .collect();
    Some(sum_rows(&parts, columns))
}

/// Difference in bits between level k + 1 and level k, for each k; 0 for the last level.
fn rate_slopes(parameter: &Parameter, scales: &[f32], qmax: i16) -> Vec<f32> {
    let mut counts = vec![0u32; qmax as usize + 1];
    for (x, scale) in parameter.values.iter().zip(scales.iter().cycle()) {
        let level = nearest_code(*x, *scale, f32::from(qmax)).abs();
        counts[level as usize] += 1;
    }
    // Add 1/2 to each count, so that levels without codes have a finite rate.
    let total = parameter.values.len() as f32 + 0.5 * counts.len() as f32;
    let rate = |level: usize| f32::from(level > 0) - ((counts[level] as f32 + 0.5) / total).log2();
    (0..counts.len()).map(|level| if level + 1 < counts.len() { rate(level + 1) - rate(level) } else { 0.0 }).collect()
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
    fn gradients_of_weights_and_scales_follow_the_formula() {
        // v = 0.2, 1.6, 3.0, -0.8; q = 0, 2, 2, -1
        let (parameter, quantizer) = parameter(&[0.1, 0.4, 1.5, -0.2]);
        let mut gradient = [1.0, 2.0, 3.0, 4.0];
        let scales = on_host(&parameter, &quantizer, &mut gradient, 0.0).unwrap();
        assert_eq!(gradient, [1.0, 2.0, 0.0, 4.0]);
        let expected = [0.5 * (1.0 * (0.0 - 0.2) + 3.0 * 2.0), 0.25 * (2.0 * (2.0 - 1.6) + 4.0 * (-1.0 + 0.8))];
        for (scale, expected) in scales.iter().zip(expected) {
            assert!((scale - expected).abs() < 1e-5, "{scales:?}");
        }
    }

    #[test]
    fn lambda_adds_the_gradient_of_the_estimated_rate() {
        // 40 zeros, 8 ones, 2 twos: higher levels are rarer, so they take more bits.
        let values: Vec<f32> = [(40, 0.1), (8, 0.5), (2, -1.0)].iter().flat_map(|&(n, x)| vec![x; n]).collect();
        let (mut parameter, mut quantizer) = parameter(&values);
        parameter.spec.shape = vec![50, 1];
        quantizer.scheme.mode = ScaleMode::Learned(1);
        quantizer.scales.truncate(1);
        let slopes = rate_slopes(&parameter, &[0.5], 2);
        let bits = |count: f32| -((count + 0.5) / 51.5f32).log2();
        assert!((slopes[0] - (1.0 + bits(8.0) - bits(40.0))).abs() < 1e-5, "{slopes:?}");
        assert!((slopes[1] - (bits(2.0) - bits(8.0))).abs() < 1e-5 && slopes[2] == 0.0, "{slopes:?}");
        let mut gradient = vec![0.0; 50];
        let scales = on_host(&parameter, &quantizer, &mut gradient, 0.01).unwrap();
        assert!((gradient[0] - 0.01 * slopes[0] / 0.5).abs() < 1e-6, "toward zero");
        assert!(scales[0] < 0.0, "a larger scale makes codes smaller");
    }
}
