//! Plain post-training quantization: what a user would do first, and so a baseline.
//!
//! ```text
//! row r of a matrix    scale_r = max |w| / 127        w -> scale_r round(w / scale_r)        a byte a weight, four a scale
//! ```
//!
//! Nothing is trained and nothing is entropy-coded. Vectors (biases, gains of norms) stay in float32, and so do activations: int8
//! products would lose a little more.

use crate::parameters::Parameters;
use resnet_bk_runtime::model::Model;

/// Largest code.
const QMAX: f32 = 127.0;

/// A float model with its matrices rounded, and the bytes that they take.
///
/// # Panics
/// If the model has quantizers already.
pub fn int8(parameters: &Parameters) -> (Model, u64) {
    let architecture = parameters.architecture();
    assert!(architecture.quantization.is_none(), "a float model");
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
    (rounded.to_model(), bytes)
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
    use crate::evaluate::evaluate_model;

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
    fn a_model_takes_a_byte_a_weight_and_hardly_changes() {
        let parameters = Parameters::initialise(ModelConfig::preset("tiny").expect("a preset").architecture(), 1);
        let (model, bytes) = int8(&parameters);
        let sizes = |matrix: bool| {
            let of_kind = parameters.iter().filter(move |p| (p.spec.shape.len() >= 2) == matrix);
            of_kind.map(|p| (p.values.len(), p.values.len() / p.spec.shape.last().expect("a size"))).collect::<Vec<_>>()
        };
        let matrices: usize = sizes(true).iter().map(|(weights, rows)| weights + 4 * rows).sum();
        let vectors: usize = sizes(false).iter().map(|(weights, _)| 4 * weights).sum();
        assert_eq!(bytes as usize, matrices + vectors);
        let tokens: Vec<u32> = (0..200).map(|i| i * i % 61).collect();
        let float = evaluate_model(&parameters.to_model(), &tokens).perplexity();
        let rounded = evaluate_model(&model, &tokens).perplexity();
        assert!(rounded != float && (rounded / float - 1.0).abs() < 0.01, "{float} in float, {rounded} rounded");
    }
}
