//! Rounding to the multiples of a step. [`nearest_code`] is the one definition of it.
//!
//! ```text
//! code = clamp( round_half_even( x / step ), -qmax, qmax )
//! ```

use super::dispatch::InstructionSet;
use crate::dispatched;

/// Lanes of a reduction.
const LANES: usize = 32;

/// A value in units of its step; 0 where the step is 0.
#[inline(always)]
pub fn in_steps(x: f32, step: f32) -> f32 {
    if step == 0.0 { 0.0 } else { x / step }
}

/// The code of a value: its nearest multiple of `step` (ties to even), at most `qmax` steps from
/// zero. A zero step gives 0.
#[inline(always)]
pub fn nearest_code(x: f32, step: f32, qmax: f32) -> f32 {
    in_steps(x, step).round_ties_even().clamp(-qmax, qmax)
}

dispatched! {
    /// Largest magnitude of a slice, 0 for an empty one.
    pub fn largest_magnitude(values: &[f32]) -> f32 = largest_magnitude_on(set) => largest_magnitude_body(values)
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
    /// Replaces every value by its nearest multiple of one step, at most `qmax` steps from zero. A
    /// zero step gives 0.
    pub fn round_to_step(values: &mut [f32], step: f32, qmax: f32)
        = round_to_step_on(set) => round_to_step_body(values, step, qmax)
}

#[inline(always)]
fn round_to_step_body(values: &mut [f32], step: f32, qmax: f32) {
    for x in values {
        *x = nearest(*x, step, qmax);
    }
}

dispatched! {
    /// The same with a step for each value.
    pub fn round_to_steps(values: &mut [f32], steps: &[f32], qmax: f32)
        = round_to_steps_on(set) => round_to_steps_body(values, steps, qmax)
}

#[inline(always)]
fn round_to_steps_body(values: &mut [f32], steps: &[f32], qmax: f32) {
    for (x, &step) in values.iter_mut().zip(steps) {
        *x = nearest(*x, step, qmax);
    }
}

#[inline(always)]
fn nearest(x: f32, step: f32, qmax: f32) -> f32 {
    // Adding zero takes the sign off a negative zero, which an integer code cannot carry.
    nearest_code(x, step, qmax) * step + 0.0
}

#[cfg(test)]
mod tests {
    use super::super::testing::{AWKWARD, equal_bits, values};
    use super::*;

    #[test]
    fn every_instruction_set_gives_the_same_bits() {
        for n in AWKWARD {
            // With ties: numbers are multiples of 1/500.5 or of an eighth.
            let x: Vec<f32> = values(n, 1)
                .iter()
                .enumerate()
                .map(|(i, x)| if i % 3 == 0 { (8.0 * x).trunc() / 8.0 } else { *x })
                .collect();
            let steps: Vec<f32> = (0..n).map(|i| (i % 5) as f32 * 0.25).collect();
            let largest = equal_bits("largest_magnitude", |set| vec![largest_magnitude_on(set, &x)]);
            assert_eq!(largest, [x.iter().fold(0.0, |max: f32, x| max.max(x.abs()))], "{n}");
            for step in [0.0, 0.25, 0.3] {
                equal_bits("round_to_step", |set| {
                    let mut out = x.clone();
                    round_to_step_on(set, &mut out, step, 3.0);
                    out
                });
            }
            equal_bits("round_to_steps", |set| {
                let mut out = x.clone();
                round_to_steps_on(set, &mut out, &steps, 3.0);
                out
            });
        }
    }
}
