//! Finite-difference checks of backward passes.

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

/// Compares an operation's backward with central differences of `sum(weight * output)` in every input element, relative
/// to the largest gradient.
pub fn check_gradients<O: HostOp<N>, const N: usize>(inputs: [&[f32]; N], make: impl Fn() -> O, tolerance: f64) {
    let mut op = make();
    let output = op.forward(inputs);
    let weights = values(output.len(), 99);
    let analytic = op.backward(inputs, &output, &weights, [true; N]);
    let objective = |inputs: [&[f32]; N]| -> f64 {
        make().forward(inputs).iter().zip(&weights).map(|(y, w)| f64::from(*y) * f64::from(*w)).sum()
    };
    const STEP: f32 = 1.0 / 256.0;
    for (which, analytic) in analytic.iter().enumerate() {
        assert_eq!(analytic.len(), inputs[which].len(), "gradient of input {which}");
        let largest = analytic.iter().fold(1e-3, |max: f64, x| max.max(f64::from(x.abs())));
        for (i, analytic) in analytic.iter().enumerate() {
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
