//! Rounding to multiples of a quantizer scale. [`nearest_code`] is the only definition of the
//! rounding.
//!
//! ```text
//! code = clamp( round_half_even( x / scale ), -qmax, qmax )
//! ```

use super::dispatch::InstructionSet;
use crate::dispatched;

/// Lanes of a reduction.
const LANES: usize = 32;

/// `x / scale`, or 0 where the scale is 0.
#[inline(always)]
pub fn divide_by_scale(x: f32, scale: f32) -> f32 {
    if scale == 0.0 { 0.0 } else { x / scale }
}

/// The code of `x`: `x / scale` rounded to the nearest integer, ties to even, and clamped to
/// `±qmax`. A zero scale gives 0.
#[inline(always)]
pub fn nearest_code(x: f32, scale: f32, qmax: f32) -> f32 {
    divide_by_scale(x, scale).round_ties_even().clamp(-qmax, qmax)
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
    /// Replaces every value by the nearest multiple of `scale`, at most `qmax` times the scale in
    /// magnitude. A zero scale gives 0.
    pub fn round_to_scale(values: &mut [f32], scale: f32, qmax: f32)
        = round_to_scale_on(set) => round_to_scale_body(values, scale, qmax)
}

#[inline(always)]
fn round_to_scale_body(values: &mut [f32], scale: f32, qmax: f32) {
    for x in values {
        *x = nearest(*x, scale, qmax);
    }
}

dispatched! {
    /// As [`round_to_scale`], with a scale for each value.
    pub fn round_to_scales(values: &mut [f32], scales: &[f32], qmax: f32)
        = round_to_scales_on(set) => round_to_scales_body(values, scales, qmax)
}

#[inline(always)]
fn round_to_scales_body(values: &mut [f32], scales: &[f32], qmax: f32) {
    for (x, &scale) in values.iter_mut().zip(scales) {
        *x = nearest(*x, scale, qmax);
    }
}

#[inline(always)]
fn nearest(x: f32, scale: f32, qmax: f32) -> f32 {
    // Adding zero turns a negative zero into a positive one. An integer code has no negative zero.
    nearest_code(x, scale, qmax) * scale + 0.0
}

#[cfg(test)]
mod tests {
    use super::super::testing::{AWKWARD, equal_bits, values};
    use super::*;

    #[test]
    fn every_instruction_set_gives_the_same_bits() {
        for n in AWKWARD {
            // Some values are ties: a third are multiples of an eighth.
            let x: Vec<f32> = values(n, 1)
                .iter()
                .enumerate()
                .map(|(i, x)| if i % 3 == 0 { (8.0 * x).trunc() / 8.0 } else { *x })
                .collect();
            let scales: Vec<f32> = (0..n).map(|i| (i % 5) as f32 * 0.25).collect();
            let largest = equal_bits("largest_magnitude", |set| vec![largest_magnitude_on(set, &x)]);
            assert_eq!(largest, [x.iter().fold(0.0, |max: f32, x| max.max(x.abs()))], "{n}");
            for scale in [0.0, 0.25, 0.3] {
                equal_bits("round_to_scale", |set| {
                    let mut out = x.clone();
                    round_to_scale_on(set, &mut out, scale, 3.0);
                    out
                });
            }
            equal_bits("round_to_scales", |set| {
                let mut out = x.clone();
                round_to_scales_on(set, &mut out, &scales, 3.0);
                out
            });
        }
    }
}
