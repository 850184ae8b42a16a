//! Test helpers for operations: running them, and finite-difference checks of gradients.

use crate::kernels::DropoutMask;
use crate::random::{Random, StepStream};
use crate::tape::HostOp;

/// Deterministic values in (-1, 1).
pub fn values(n: usize, salt: u32) -> Vec<f32> {
    (0..n as u32)
        .map(|i| {
            (i + 1)
                .wrapping_mul(2_654_435_761)
                .wrapping_add(salt.wrapping_mul(2_246_822_519))
                .wrapping_mul(3_266_489_917)
        })
        .map(|bits| (bits >> 8) as f32 / 8_388_608.0 - 1.0)
        .collect()
}

/// A dropout mask.
pub fn mask(p: f32) -> DropoutMask {
    DropoutMask::new(p, StepStream::new(&Random::new(5)).take(1))
}

/// Output of an operation.
pub fn forward<O: HostOp<N>, const N: usize>(mut op: O, inputs: [&[f32]; N]) -> Vec<f32> {
    op.forward(inputs)
}

/// Output of an operation, and the gradients of all inputs for a given gradient of the output.
pub fn forward_and_backward<O: HostOp<N>, const N: usize>(
    mut op: O,
    inputs: [&[f32]; N],
    gradient: &[f32],
) -> (Vec<f32>, [Vec<f32>; N]) {
    let output = op.forward(inputs);
    let gradients = op.backward(inputs, &output, gradient.to_vec(), [true; N]);
    (output, gradients)
}

/// Compares the gradients of an operation with central differences of `sum(weight * output)` in
/// every element of every input. The tolerance is relative to the largest gradient of the input.
pub fn check_gradients<O: HostOp<N>, const N: usize>(inputs: [&[f32]; N], make: impl Fn() -> O, tolerance: f64) {
    check_gradients_where(|_, _| true, inputs, make, tolerance);
}

/// [`check_gradients`] restricted to elements where the operation is differentiable: those for
/// which `differentiable(input, element)` holds.
pub fn check_gradients_where<O: HostOp<N>, const N: usize>(
    differentiable: impl Fn(usize, usize) -> bool,
    inputs: [&[f32]; N],
    make: impl Fn() -> O,
    tolerance: f64,
) {
    let weights = values(forward(make(), inputs).len(), 99);
    let (_, analytic) = forward_and_backward(make(), inputs, &weights);
    let objective = |inputs: [&[f32]; N]| -> f64 {
        forward(make(), inputs).iter().zip(&weights).map(|(y, w)| f64::from(*y) * f64::from(*w)).sum()
    };
    const STEP: f32 = 1.0 / 256.0;
    for (which, analytic) in analytic.iter().enumerate() {
        // An operation may leave out the gradient of an input that is always a constant.
        if analytic.is_empty() && !(0..inputs[which].len()).any(|i| differentiable(which, i)) {
            continue;
        }
        assert_eq!(analytic.len(), inputs[which].len(), "gradient of input {which}");
        let largest = analytic.iter().fold(1e-3, |max: f64, x| max.max(f64::from(x.abs())));
        for (i, analytic) in analytic.iter().enumerate().filter(|(i, _)| differentiable(which, *i)) {
            let shifted = |by: f32| {
                let mut copy = inputs[which].to_vec();
                copy[i] += by;
                let mut all = inputs;
                all[which] = &copy;
                objective(all)
            };
            let numeric = (shifted(STEP) - shifted(-STEP)) / f64::from(2.0 * STEP);
            let error = (numeric - f64::from(*analytic)).abs() / largest;
            assert!(error < tolerance, "input {which}, element {i}: {analytic} against {numeric}, relative {error}");
        }
    }
}
