//! Plain post-training quantization: what a user would do first, and so a baseline.
//!
//! ```text
//! row r of a matrix    scale_r = max |w| / 127        w -> scale_r round(w / scale_r)        a byte a weight, four a scale
//! ```
//!
//! Nothing is trained and nothing is entropy-coded. Vectors (biases, gains of norms) stay in
//! float32, and so do activations: int8 products would lose a little more.

use crate::parameters::Parameters;
use resnet_bk_runtime::internal::model::Model;

/// Largest code.
const QMAX: f32 = 127.0;

/// A float model with its matrices rounded, and the bytes that they take.
///
/// # Panics
/// If the model has quantizers already.
pub fn int8(parameters: &Parameters) -> (Model, u64) {
    let (rounded, bytes) = round(parameters);
    (rounded.to_model(), bytes)
}

fn round(parameters: &Parameters) -> (Parameters, u64) {
    assert!(parameters.architecture().quantization.is_none(), "a float model");
    let mut rounded = parameters.clone();
    let mut bytes = 0;
    for parameter in rounded.as_mut_slice() {
        let shape = &parameter.spec.shape;
        let columns = shape.last().copied().unwrap_or(1).max(1);
        if shape.len() < 2 {
            bytes += 4 * parameter.values.len() as u64;
            continue;
        }
        bytes += (parameter.values.len() + 4 * (parameter.values.len() / columns)) as u64;
        parameter.values.chunks_mut(columns).for_each(round_row);
    }
    (rounded, bytes)
}

fn round_row(row: &mut [f32]) {
    let largest = row.iter().fold(0.0f32, |largest, weight| largest.max(weight.abs()));
    if largest > 0.0 {
        let scale = largest / QMAX;
        row.iter_mut().for_each(|weight| *weight = scale * (*weight / scale).round());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ModelConfig;

    #[test]
    fn rows_are_rounded_to_255_levels_of_their_own() {
        let mut row = [-2.54, 1.27, 0.014, 0.0];
        round_row(&mut row);
        let expected = [-2.54, 1.28, 0.02, 0.0];
        assert!(row.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{row:?}");
        let mut zeros = [0.0; 3];
        round_row(&mut zeros);
        assert_eq!(zeros, [0.0; 3]);
    }

    #[test]
    fn matrices_take_a_byte_a_weight_and_vectors_stay() {
        let parameters = Parameters::initialise(ModelConfig::preset("tiny").expect("a preset").architecture(), 1);
        let (rounded, bytes) = round(&parameters);
        let sizes = |matrix: bool| {
            let of_kind = parameters.iter().filter(move |p| (p.spec.shape.len() >= 2) == matrix);
            of_kind.map(|p| (p.values.len(), p.values.len() / p.spec.shape.last().expect("a size"))).collect::<Vec<_>>()
        };
        let matrices: usize = sizes(true).iter().map(|(weights, rows)| weights + 4 * rows).sum();
        let vectors: usize = sizes(false).iter().map(|(weights, _)| 4 * weights).sum();
        assert_eq!(bytes as usize, matrices + vectors);
        let mut changed = 0;
        for (float, rounded) in parameters.iter().zip(rounded.iter()) {
            let is_matrix = float.spec.shape.len() >= 2;
            let columns = float.spec.shape[float.spec.shape.len() - 1];
            for (row, rounded) in float.values.chunks(columns).zip(rounded.values.chunks(columns)) {
                let largest = row.iter().fold(0.0f32, |largest, weight| largest.max(weight.abs()));
                let half_a_scale = if is_matrix { 0.501 * largest / QMAX } else { 0.0 };
                assert!(row.iter().zip(rounded).all(|(a, b)| (a - b).abs() <= half_a_scale), "{}", float.spec.id);
                changed += usize::from(row != rounded);
            }
        }
        assert!(changed > 100, "{changed} rows changed");
    }
}
