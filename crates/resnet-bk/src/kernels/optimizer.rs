//! The AdamW update of a chunk of a parameter, its average, and the sum of squares of a gradient.

use resnet_bk_runtime::internal::dispatched;
use resnet_bk_runtime::internal::kernels::InstructionSet;

/// Lanes of a reduction.
const LANES: usize = 16;

/// Constants of one AdamW step; see the formula in [`crate::train::AdamW`].
#[derive(Clone, Copy, Debug)]
pub struct AdamWStep {
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Factor on the gradient.
    pub gradient_scale: f32,
    /// `rate / (1 - beta1^t)`.
    pub rate: f32,
    /// `1 / (1 - beta2^t)`.
    pub second_scale: f32,
    /// `1 - rate decay`.
    pub shrink: f32,
    /// Added to the square root of the second moment.
    pub epsilon: f32,
}

dispatched! {
    /// Updates values and moments. All slices have the same length.
    pub fn adamw_step(values: &mut [f32], first: &mut [f32], second: &mut [f32], gradient: &[f32], step: AdamWStep)
        = adamw_step_on(set) => adamw_step_body(values, first, second, gradient, step)
}

#[inline(always)]
fn adamw_step_body(values: &mut [f32], first: &mut [f32], second: &mut [f32], gradient: &[f32], step: AdamWStep) {
    for (((w, m), v), g) in values.iter_mut().zip(first).zip(second).zip(gradient) {
        let g = g * step.gradient_scale;
        *m = step.beta1 * *m + (1.0 - step.beta1) * g;
        *v = step.beta2 * *v + (1.0 - step.beta2) * g * g;
        *w = *w * step.shrink - step.rate * *m / ((*v * step.second_scale).sqrt() + step.epsilon);
    }
}

dispatched! {
    /// Moves averages toward the values: `a += share (w - a)`. Both slices have the same length.
    pub fn average_step(average: &mut [f32], values: &[f32], share: f32)
        = average_step_on(set) => average_step_body(average, values, share)
}

#[inline(always)]
fn average_step_body(average: &mut [f32], values: &[f32], share: f32) {
    for (a, w) in average.iter_mut().zip(values) {
        *a += share * (*w - *a);
    }
}

dispatched! {
    /// Sum of squares, in double precision.
    pub fn sum_of_squares(values: &[f32]) -> f64 = sum_of_squares_on(set) => sum_of_squares_body(values)
}

#[inline(always)]
fn sum_of_squares_body(values: &[f32]) -> f64 {
    let mut sums = [0.0f64; LANES];
    for chunk in values.chunks(LANES) {
        for (sum, &x) in sums.iter_mut().zip(chunk) {
            *sum += f64::from(x) * f64::from(x);
        }
    }
    sums.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{AWKWARD, equal_bits, values};
    use super::*;

    #[test]
    fn every_instruction_set_gives_the_same_bits() {
        let step = AdamWStep {
            beta1: 0.9,
            beta2: 0.999,
            gradient_scale: 0.7,
            rate: 1e-3,
            second_scale: 1.5,
            shrink: 0.9999,
            epsilon: 1e-8,
        };
        for n in AWKWARD {
            let gradient = values(n, 1);
            equal_bits("adamw_step", |set| {
                let (mut weights, mut first) = (values(n, 2), values(n, 3));
                let mut second: Vec<f32> = values(n, 4).iter().map(|x| x * x).collect();
                adamw_step_on(set, &mut weights, &mut first, &mut second, &gradient, step);
                [weights, first, second].concat()
            });
            equal_bits("average_step", |set| {
                let mut average = values(n, 2);
                average_step_on(set, &mut average, &gradient, 0.1);
                average
            });
            equal_bits("sum_of_squares", |set| {
                // All 64 bits of the sum, as two numbers.
                let bits = sum_of_squares_on(set, &gradient).to_bits();
                [bits >> 32, bits & 0xffff_ffff].map(|half| f32::from_bits(half as u32)).to_vec()
            });
        }
    }
}
