//! Rounding to the multiples of a step, as [`crate::quantization`] defines it, many values at once.

use crate::dispatched;

/// Lanes of a reduction.
const LANES: usize = 32;

dispatched! {
    /// Largest magnitude of a slice, 0 for an empty one.
    pub fn largest_magnitude(values: &[f32]) -> f32 = largest_magnitude_body
}

#[inline(always)]
fn largest_magnitude_body(values: &[f32]) -> f32 {
    let mut maxima = [0.0f32; LANES];
    for chunk in values.chunks(LANES) {
        for (max, x) in maxima.iter_mut().zip(chunk) {
            let x = x.abs();
            *max = if x > *max { x } else { *max };
        }
    }
    maxima.iter().fold(0.0, |max, &x| max.max(x))
}

dispatched! {
    /// Replaces every value by its nearest multiple of one step, at most `qmax` steps from zero. A zero step gives 0.
    pub fn round_to_step(values: &mut [f32], step: f32, qmax: f32) = round_to_step_body
}

#[inline(always)]
fn round_to_step_body(values: &mut [f32], step: f32, qmax: f32) {
    for x in values {
        *x = nearest(*x, step, qmax);
    }
}

dispatched! {
    /// The same with a step for each value.
    pub fn round_to_steps(values: &mut [f32], steps: &[f32], qmax: f32) = round_to_steps_body
}

#[inline(always)]
fn round_to_steps_body(values: &mut [f32], steps: &[f32], qmax: f32) {
    for (x, &step) in values.iter_mut().zip(steps) {
        *x = nearest(*x, step, qmax);
    }
}

#[inline(always)]
fn nearest(x: f32, step: f32, qmax: f32) -> f32 {
    let code = (x / step).round_ties_even().clamp(-qmax, qmax);
    // Adding zero takes the sign off a negative zero, which an integer code cannot carry.
    if step == 0.0 { 0.0 } else { code * step + 0.0 }
}
