//! Where learned scales start, and what the bias's curve takes from its words.

use crate::parameters::Parameters;
use resnet_bk_runtime::internal::kernels::nearest_code;
use resnet_bk_runtime::internal::quantization::{ScaleMode, Scheme};
use resnet_bk_runtime::internal::rank_curve::{KnotPosition, rank_curve};
use resnet_bk_runtime::internal::tensor_id::{ModelTensor, TensorId};

/// Tried steps, as multiples of the mean magnitude of what is not zero: from `FIRST` on, each
/// `RATIO` times the one before.
const FIRST: f32 = 0.01;
const RATIO: f32 = 1.1;
const TRIED: usize = 64;
/// Step of a column of zeros.
const ZERO_STEP: f32 = 0.01;
/// Sweeps of the curve's fit; neighbouring knots share words, so it converges in a few.
const SWEEPS: usize = 50;

/// Sets every learned scale to the one of least squared error.
pub fn initialize_scales(parameters: &mut Parameters) {
    initialize_scales_of(parameters, |_| true);
}

/// The same for some of the tensors.
pub fn initialize_scales_of(parameters: &mut Parameters, is_fitted: impl Fn(TensorId) -> bool) {
    let architecture = parameters.architecture().clone();
    let fitted: Vec<(TensorId, Vec<f32>)> = parameters
        .iter()
        .filter(|parameter| is_fitted(parameter.spec.id))
        .filter_map(|parameter| {
            let scheme = architecture.scheme(&parameter.spec)?;
            let ScaleMode::Learned(columns) = scheme.mode else { return None };
            let steps = (0..columns as usize).map(|column| {
                let values: Vec<f32> =
                    parameter.values.iter().skip(column).step_by(columns as usize).map(|x| x.abs()).collect();
                best_step(&values, scheme).ln()
            });
            Some((parameter.spec.id.log_scales(), steps.collect()))
        })
        .collect();
    for (id, steps) in fitted {
        *values_of(parameters, id) = steps;
    }
}

/// The tried step that rounds these magnitudes best.
fn best_step(magnitudes: &[f32], scheme: Scheme) -> f32 {
    let used: Vec<f32> = magnitudes.iter().copied().filter(|x| *x > 0.0).collect();
    if used.is_empty() {
        return ZERO_STEP;
    }
    let mean = used.iter().sum::<f32>() / used.len() as f32;
    let qmax = f32::from(scheme.qmax);
    let error = |step: f32| -> f32 { used.iter().map(|x| (nearest_code(*x, step, qmax) * step - x).powi(2)).sum() };
    let whole_range = used.iter().fold(0.0f32, |max, &x| max.max(x)) / qmax;
    let tried = (0..TRIED).map(|i| mean * FIRST * RATIO.powi(i as i32)).chain([whole_range]);
    tried.map(|step| (step, error(step))).min_by(|a, b| a.1.total_cmp(&b.1)).map_or(ZERO_STEP, |(step, _)| step)
}

/// Moves what is smooth over the ranks from the words' biases into the curve: the sum stays, and
/// the words' squares become least.
pub fn fit_curve(parameters: &mut Parameters) {
    let knots = parameters.architecture().bias_knots;
    if knots == 0 {
        return;
    }
    let mut curve = values_of(parameters, ModelTensor::HeadCurve).clone();
    let rests = values_of(parameters, ModelTensor::HeadBias);
    let words = rests.len();
    rests.iter_mut().zip(rank_curve(&curve, words)).for_each(|(rest, curve)| *rest += curve);
    curve.fill(0.0);
    let places: Vec<KnotPosition> = (0..words).map(|word| KnotPosition::of(word, words, knots)).collect();
    for _ in 0..SWEEPS {
        for (knot, height) in curve.iter_mut().enumerate() {
            let weight = |place: &KnotPosition| match knot {
                k if k == place.knot => 1.0 - place.fraction,
                k if k == place.knot + 1 => place.fraction,
                _ => 0.0,
            };
            let (mut product, mut square) = (0.0, 0.0);
            for (place, rest) in places.iter().zip(rests.iter()) {
                product += weight(place) * rest;
                square += weight(place) * weight(place);
            }
            if square > 0.0 {
                let change = product / square;
                *height += change;
                places.iter().zip(rests.iter_mut()).for_each(|(place, rest)| *rest -= change * weight(place));
            }
        }
    }
    *values_of(parameters, ModelTensor::HeadCurve) = curve;
}

fn values_of(parameters: &mut Parameters, id: impl Into<TensorId>) -> &mut Vec<f32> {
    &mut parameters.get_mut(id).expect("the architecture lists it").values
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
        Parameters::initialise(Architecture { quantization: Some(policy), ..config.architecture() }, 3)
    }

    #[test]
    fn fitted_steps_round_better_than_others() {
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
    fn the_curve_takes_what_is_smooth_and_the_sum_stays() {
        let mut parameters = parameters();
        let smooth = [3.0, 1.0, -2.0, -4.0];
        let words = parameters.architecture().vocab_size;
        let bias: Vec<f32> = rank_curve(&smooth, words);
        values_of(&mut parameters, ModelTensor::HeadBias).clone_from(&bias);
        *values_of(&mut parameters, ModelTensor::HeadCurve) = vec![0.5; 4];
        fit_curve(&mut parameters);
        let curve = values_of(&mut parameters, ModelTensor::HeadCurve).clone();
        for (knot, expected) in curve.iter().zip(smooth) {
            assert!((knot - expected - 0.5).abs() < 0.02, "{curve:?}");
        }
        assert!(values_of(&mut parameters, ModelTensor::HeadBias).iter().all(|rest| rest.abs() < 0.05));
    }
}
