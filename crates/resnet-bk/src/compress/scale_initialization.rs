//! Initialization of learned scales, and the fit of the bias curve.

use crate::buffer::Buffer;
use crate::parameters::Parameters;
use resnet_bk_runtime::internal::kernels::nearest_code;
use resnet_bk_runtime::internal::quantization::{ScaleMode, Scheme};
use resnet_bk_runtime::internal::rank_curve::{KnotPosition, rank_curve};
use resnet_bk_runtime::internal::tensor_id::{ModelTensor, TensorId};

/// Scales to try, as multiples of the mean nonzero magnitude: a geometric series from `FIRST` with
/// ratio `RATIO`.
const FIRST: f32 = 0.01;
const RATIO: f32 = 1.1;
const CANDIDATES: usize = 64;
/// Scale of a column of zeros.
const ZERO_SCALE: f32 = 0.01;
/// Sweeps of the coordinate descent that fits the curve. Only neighboring knots overlap, so it
/// converges in a few.
const SWEEPS: usize = 50;

/// Sets every learned scale to the candidate of least squared error.
pub fn initialize_scales(parameters: &mut Parameters) {
    initialize_scales_of(parameters, |_| true);
}

/// Initializes the learned scales of the tensors for which `is_fitted` holds.
pub fn initialize_scales_of(parameters: &mut Parameters, is_fitted: impl Fn(TensorId) -> bool) {
    let architecture = parameters.architecture().clone();
    let fitted: Vec<(TensorId, Vec<f32>)> = parameters
        .iter()
        .filter(|parameter| is_fitted(parameter.spec.id))
        .filter_map(|parameter| {
            let scheme = architecture.scheme(&parameter.spec)?;
            let ScaleMode::Learned(columns) = scheme.mode else { return None };
            let log_scales = (0..columns as usize).map(|column| {
                let values: Vec<f32> =
                    parameter.values.iter().skip(column).step_by(columns as usize).map(|x| x.abs()).collect();
                best_scale(&values, scheme).ln()
            });
            Some((parameter.spec.id.log_scales(), log_scales.collect()))
        })
        .collect();
    for (id, log_scales) in fitted {
        *values_of(parameters, id) = log_scales.into();
    }
}

/// The candidate scale with the least squared rounding error of these magnitudes.
fn best_scale(magnitudes: &[f32], scheme: Scheme) -> f32 {
    let used: Vec<f32> = magnitudes.iter().copied().filter(|x| *x > 0.0).collect();
    if used.is_empty() {
        return ZERO_SCALE;
    }
    let mean = used.iter().sum::<f32>() / used.len() as f32;
    let qmax = f32::from(scheme.qmax);
    let error = |scale: f32| -> f32 { used.iter().map(|x| (nearest_code(*x, scale, qmax) * scale - x).powi(2)).sum() };
    let abs_max = used.iter().fold(0.0f32, |max, &x| max.max(x)) / qmax;
    let candidates = (0..CANDIDATES).map(|i| mean * FIRST * RATIO.powi(i as i32)).chain([abs_max]);
    candidates
        .map(|scale| (scale, error(scale)))
        .min_by(|a, b| a.1.total_cmp(&b.1))
        .map_or(ZERO_SCALE, |(scale, _)| scale)
}

/// Moves the part of the words' biases that is smooth over the frequency ranks into the bias curve.
/// The sum of both is unchanged, and the squares of the words' biases become minimal.
pub fn fit_curve(parameters: &mut Parameters) {
    let knots = parameters.architecture().bias_knots;
    if knots == 0 {
        return;
    }
    let mut curve = values_of(parameters, ModelTensor::HeadCurve).clone();
    let residuals = values_of(parameters, ModelTensor::HeadBias);
    let words = residuals.len();
    residuals.iter_mut().zip(rank_curve(&curve, words)).for_each(|(residual, curve)| *residual += curve);
    curve.fill(0.0);
    let positions: Vec<KnotPosition> = (0..words).map(|word| KnotPosition::of(word, words, knots)).collect();
    for _ in 0..SWEEPS {
        for (knot, height) in curve.iter_mut().enumerate() {
            let weight = |position: &KnotPosition| match knot {
                k if k == position.knot => 1.0 - position.fraction,
                k if k == position.knot + 1 => position.fraction,
                _ => 0.0,
            };
            let (mut product, mut square) = (0.0, 0.0);
            for (position, residual) in positions.iter().zip(residuals.iter()) {
                product += weight(position) * residual;
                square += weight(position) * weight(position);
            }
            if square > 0.0 {
                let change = product / square;
                *height += change;
                positions
                    .iter()
                    .zip(residuals.iter_mut())
                    .for_each(|(position, residual)| *residual -= change * weight(position));
            }
        }
    }
    *values_of(parameters, ModelTensor::HeadCurve) = curve;
}

fn values_of(parameters: &mut Parameters, id: impl Into<TensorId>) -> &mut Buffer {
    &mut parameters.get_mut(id).expect("the tensor is in the architecture").values
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ModelConfig;
    use crate::parameters::Parameter;
    use resnet_bk_runtime::internal::architecture::Architecture;
    use resnet_bk_runtime::internal::quantization::{LearnedScales, QuantizationPolicy};
    use resnet_bk_runtime::internal::tensor_spec::Role;

    fn parameters() -> Parameters {
        let config = ModelConfig { bias_knots: 4, ..ModelConfig::preset("tiny").unwrap() };
        let policy = QuantizationPolicy {
            learned: Some(LearnedScales::default()),
            activation_bits: None,
            ..QuantizationPolicy::default()
        };
        Parameters::initialize(Architecture { quantization: Some(policy), ..config.architecture() }, 3)
    }

    #[test]
    fn initialized_scales_have_the_least_error() {
        let mut parameters = parameters();
        initialize_scales(&mut parameters);
        let error = |parameters: &Parameters| -> f32 {
            let squares = |p: &Parameter| -> f32 {
                parameters.rounded(p).iter().zip(p.values.iter()).map(|(a, b)| (a - b).powi(2)).sum()
            };
            parameters.iter().map(squares).sum()
        };
        let fitted = error(&parameters);
        for factor in [0.7f32, 1.4] {
            let mut other = parameters.clone();
            for parameter in other.as_mut_slice().iter_mut().filter(|p| p.spec.role == Role::LogScale) {
                parameter.values.iter_mut().for_each(|log_scale| *log_scale += factor.ln());
            }
            assert!(error(&other) > fitted, "{factor}: {} against {fitted}", error(&other));
        }
    }

    #[test]
    fn the_curve_takes_the_smooth_part_and_the_sum_is_unchanged() {
        let mut parameters = parameters();
        let smooth = [3.0, 1.0, -2.0, -4.0];
        let words = parameters.architecture().vocab_size;
        let bias: Vec<f32> = rank_curve(&smooth, words);
        *values_of(&mut parameters, ModelTensor::HeadBias) = bias.clone().into();
        *values_of(&mut parameters, ModelTensor::HeadCurve) = vec![0.5; 4].into();
        fit_curve(&mut parameters);
        let curve = values_of(&mut parameters, ModelTensor::HeadCurve).clone();
        for (knot, expected) in curve.iter().zip(smooth) {
            assert!((knot - expected - 0.5).abs() < 0.02, "{curve:?}");
        }
        assert!(values_of(&mut parameters, ModelTensor::HeadBias).iter().all(|residual| residual.abs() < 0.05));
    }
}
