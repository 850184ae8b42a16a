//! The quantizer, the pruner and the distillation loss on given arrays, for a training loop of one's
//! own.
//!
//! ```text
//! quantize            codes = clamp(round(x / scale), -qmax, qmax)      scale = f16(max|x| / qmax)
//! prune_mask          keep where |x| >= the magnitude of rank `sparsity * n`
//! distillation_loss   mean over tokens of  alpha tau^2 KL(p' || p) + (1 - alpha) (ln sum e^l - l_y)
//!                     p = softmax(l / tau)    p' = softmax(l' / tau)    l': teacher's logits
//! ```
//!
//! The stages use the same quantizer and the same mask. Their loss never has all logits
//! ([`ops::head_loss`](crate::ops::head_loss)); [`distillation_loss`] is its slow twin, and a test
//! compares the two.

use crate::compress::prune::keep_mask;
use crate::config::MagnitudePruning;
use resnet_bk_runtime::internal::quantization::{MAX_BITS, MIN_BITS, Quantized, ScaleMode, Scheme, q_max};
use std::fmt::Display;
use thiserror::Error;

/// Why a component cannot work on an array.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum ComponentError {
    /// An argument is outside its range.
    #[error("{name} is {value}, but must be {allowed}")]
    Range {
        /// The argument.
        name: &'static str,
        /// Its value.
        value: String,
        /// The allowed values.
        allowed: String,
    },
    /// Two arrays do not fit together.
    #[error("{name} has {found} elements, but {expected} are needed")]
    Length {
        /// The array.
        name: &'static str,
        /// Its length.
        found: usize,
        /// The length that fits.
        expected: usize,
    },
    /// An array has a number that is not finite.
    #[error("{name} has {value} at index {index}: numbers must be finite")]
    NotFinite {
        /// The array.
        name: &'static str,
        /// The number.
        value: f32,
        /// Its index.
        index: usize,
    },
}

fn require(holds: bool, name: &'static str, value: impl Display, allowed: impl Display) -> Result<(), ComponentError> {
    if holds {
        return Ok(());
    }
    Err(ComponentError::Range { name, value: value.to_string(), allowed: allowed.to_string() })
}

fn require_finite(name: &'static str, values: &[f32]) -> Result<(), ComponentError> {
    match values.iter().position(|value| !value.is_finite()) {
        Some(index) => Err(ComponentError::NotFinite { name, value: values[index], index }),
        None => Ok(()),
    }
}

/// Quantizes an array to `bits` bits, with one scale for each `group` elements (the last group may
/// be shorter). [`Quantized::dequantize`] gives the rounded values.
///
/// ```
/// let quantized = resnet_bk::components::quantize(&[0.5, -1.0, 0.2, 7.0], 4, 2)?;
/// assert_eq!(quantized.codes, [4, -7, 0, 7]);
/// assert_eq!(quantized.dequantize()[3], 7.0);
/// # Ok::<(), resnet_bk::components::ComponentError>(())
/// ```
///
/// # Errors
/// [`ComponentError`] for bits outside 2 to 16, for a group of 0, and for numbers that are not
/// finite.
pub fn quantize(values: &[f32], bits: u8, group: u32) -> Result<Quantized, ComponentError> {
    require((MIN_BITS..=MAX_BITS).contains(&bits), "bits", bits, format_args!("from {MIN_BITS} to {MAX_BITS}"))?;
    require(group > 0, "group", group, "at least 1")?;
    require_finite("the array", values)?;
    let scheme = Scheme { qmax: q_max(bits), mode: ScaleMode::AbsMax(group) };
    Ok(scheme.quantize(values, scheme.scales(values, None)))
}

/// Which elements of an array to keep, so that a share `sparsity` of them, those with the smallest
/// magnitudes, is dropped. Elements of the same magnitude as the smallest kept one are kept.
///
/// ```
/// let keep = resnet_bk::components::prune_mask(&[0.1, -3.0, 0.2, 1.0], 0.5)?;
/// assert_eq!(keep, [false, true, false, true]);
/// # Ok::<(), resnet_bk::components::ComponentError>(())
/// ```
///
/// # Errors
/// [`ComponentError`] for a sparsity that is not at least 0 and below 1, and for numbers that are not
/// finite.
pub fn prune_mask(values: &[f32], sparsity: f32) -> Result<Vec<bool>, ComponentError> {
    require((0.0..1.0).contains(&sparsity), "sparsity", sparsity, "at least 0 and below 1")?;
    require_finite("the array", values)?;
    Ok(if values.is_empty() { Vec::new() } else { keep_mask(values, MagnitudePruning::Sparsity(sparsity)) })
}

/// Mean distillation loss of all tokens, in nats, and its gradient for the student's logits.
///
/// # Shapes
/// - `student`, `teacher`: `[n, V]` logits
/// - `targets`: `[n]`, each below `V`
/// - returns the loss and `[n, V]`
///
/// # Errors
/// [`ComponentError`] if there are no targets, if the lengths do not fit together, if a target is not
/// below `V`, if a logit is not finite, or if the temperature is not above 0 or alpha not in
/// `[0, 1]`.
pub fn distillation_loss(
    student: &[f32],
    teacher: &[f32],
    targets: &[u32],
    temperature: f32,
    alpha: f32,
) -> Result<(f64, Vec<f32>), ComponentError> {
    require(temperature.is_finite() && temperature > 0.0, "temperature", temperature, "finite and above 0")?;
    require((0.0..=1.0).contains(&alpha), "alpha", alpha, "from 0 to 1")?;
    require(!targets.is_empty(), "the number of targets", 0, "at least 1")?;
    let words = student.len() / targets.len();
    require(words > 0, "the number of logits of a token", words, "at least 1")?;
    for (name, logits) in [("student_logits", student), ("teacher_logits", teacher)] {
        if logits.len() != targets.len() * words {
            return Err(ComponentError::Length { name, found: logits.len(), expected: targets.len() * words });
        }
        require_finite(name, logits)?;
    }
    if let Some(target) = targets.iter().find(|&&target| target as usize >= words) {
        require(false, "a target", target, format_args!("below {words}, the number of logits of a token"))?;
    }
    let (tau, alpha, tokens) = (f64::from(temperature), f64::from(alpha), targets.len() as f64);
    let (mut loss, mut gradient) = (0.0, Vec::with_capacity(student.len()));
    for ((student, teacher), &target) in student.chunks(words).zip(teacher.chunks(words)).zip(targets) {
        let [hard, soft, wanted] = [(student, 1.0), (student, tau), (teacher, tau)].map(log_softmax);
        let divergence: f64 = wanted.iter().zip(&soft).map(|(wanted, soft)| wanted.exp() * (wanted - soft)).sum();
        loss += alpha * tau * tau * divergence - (1.0 - alpha) * hard[target as usize];
        gradient.extend((0..words).map(|word| {
            let hit = f64::from(word == target as usize);
            let soft = soft[word].exp() - wanted[word].exp();
            ((alpha * tau * soft + (1.0 - alpha) * (hard[word].exp() - hit)) / tokens) as f32
        }));
    }
    Ok((loss / tokens, gradient))
}

/// `ln softmax(logits / tau)`.
fn log_softmax((logits, tau): (&[f32], f64)) -> Vec<f64> {
    let scaled: Vec<f64> = logits.iter().map(|&logit| f64::from(logit) / tau).collect();
    let largest = scaled.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let normalizer = largest + scaled.iter().map(|x| (x - largest).exp()).sum::<f64>().ln();
    scaled.iter().map(|x| x - normalizer).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STUDENT: [f32; 6] = [0.5, -1.0, 2.0, 0.1, 0.0, -0.3];
    const TEACHER: [f32; 6] = [1.5, 0.0, 1.0, -2.0, 0.4, 0.3];

    fn loss(student: &[f32], temperature: f32, alpha: f32) -> (f64, Vec<f32>) {
        distillation_loss(student, &TEACHER, &[2, 0], temperature, alpha).expect("valid")
    }

    #[test]
    fn the_gradient_matches_finite_differences() {
        for (temperature, alpha) in [(1.0, 0.0), (2.0, 0.7), (3.0, 1.0)] {
            let (_, gradient) = loss(&STUDENT, temperature, alpha);
            for (index, expected) in gradient.iter().enumerate() {
                let at = |step: f32| {
                    let mut student = STUDENT;
                    student[index] += step;
                    loss(&student, temperature, alpha).0
                };
                let difference = (at(1e-2) - at(-1e-2)) / 2e-2;
                assert!((difference - f64::from(*expected)).abs() < 1e-4, "{index}: {difference}, expected {expected}");
            }
        }
    }

    #[test]
    fn a_student_equal_to_its_teacher_has_no_soft_loss() {
        let (loss, gradient) = loss(&TEACHER, 2.0, 1.0);
        assert!(loss.abs() < 1e-12 && gradient.iter().all(|x| x.abs() < 1e-7), "{loss}, {gradient:?}");
    }

    #[test]
    fn wrong_arguments_are_refused_with_their_values() {
        let refuse = |result: Result<(), ComponentError>, message: &str| {
            assert_eq!(result.expect_err(message).to_string(), message);
        };
        refuse(quantize(&[1.0], 1, 1).map(drop), "bits is 1, but must be from 2 to 16");
        refuse(quantize(&[0.0, f32::NAN], 4, 1).map(drop), "the array has NaN at index 1: numbers must be finite");
        refuse(prune_mask(&[1.0], 1.0).map(drop), "sparsity is 1, but must be at least 0 and below 1");
        let distill =
            |student: &[f32], targets: &[u32]| distillation_loss(student, &[0.0; 4], targets, 2.0, 0.5).map(drop);
        refuse(distill(&[0.0; 6], &[0, 0]), "teacher_logits has 4 elements, but 6 are needed");
        refuse(distill(&[0.0; 4], &[0, 2]), "a target is 2, but must be below 2, the number of logits of a token");
        refuse(distill(&[], &[]), "the number of targets is 0, but must be at least 1");
        assert_eq!(prune_mask(&[], 0.5), Ok(vec![]));
    }
}
