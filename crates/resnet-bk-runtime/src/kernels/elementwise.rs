//! Elementwise functions and row reductions that give the same bits on every machine.
//!
//! `exp` splits `x = n ln 2 + r` with `|r| <= ln 2 / 2` and evaluates a polynomial of degree 6 in
//! `r` (minimax coefficients of the Cephes library). The other functions use `exp`. Sums run in a
//! fixed number of lanes, so vectorization does not change them.

use super::dispatch::InstructionSet;
use crate::dispatched;

/// Number of lanes of a row reduction.
const LANES: usize = 32;
/// Adding this number rounds to the nearest integer: 1.5 * 2^23.
const ROUND: f32 = 12_582_912.0;

/// `e^x`, with a relative error below 2e-7. `x` is clamped to `-87 <= x <= 88`.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    // ln 2 in two parts. The first has few significant bits, so `x - n * LN2_HIGH` is exact.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let x = x.clamp(-87.0, 88.0);
    let rounded = x * std::f32::consts::LOG2_E + ROUND;
    let n = rounded - ROUND;
    let r = x - n * LN2_HIGH - n * LN2_LOW;
    let p = 1.987_569_1e-4;
    let p = p * r + 1.398_199_9e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 0.5;
    let p = p * (r * r) + r + 1.0;
    // The low bits of `rounded` contain n. A conversion of n to an integer would be slower, because
    // it saturates.
    let exponent = rounded.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127);
    p * f32::from_bits(exponent << 23)
}

/// `1 / (1 + e^-x)`.
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// `ln(1 + e^x)`, without overflow.
#[inline(always)]
pub fn softplus(x: f32) -> f32 {
    x.max(0.0) + ln_1p(exp(-x.abs()))
}

/// `x * sigmoid(x)`.
#[inline(always)]
fn silu(x: f32) -> f32 {
    x * sigmoid(x)
}

/// `ln(1 + y)` for `0 <= y <= 1`: `2 artanh(y / (2 + y))` as a series in `z^2 <= 1/9`, relative
/// error below 3e-7.
#[inline(always)]
fn ln_1p(y: f32) -> f32 {
    let z = y / (2.0 + y);
    let z2 = z * z;
    let p = 1.0 / 13.0;
    let p = p * z2 + 1.0 / 11.0;
    let p = p * z2 + 1.0 / 9.0;
    let p = p * z2 + 1.0 / 7.0;
    let p = p * z2 + 1.0 / 5.0;
    let p = p * z2 + 1.0 / 3.0;
    2.0 * z * (p * z2 + 1.0)
}

dispatched! {
    /// `out = y * silu(gate)`, elementwise; all three have one length.
    pub fn silu_gate(y: &[f32], gate: &[f32], out: &mut [f32]) = silu_gate_on(set) => silu_gate_body(y, gate, out)
}

#[inline(always)]
fn silu_gate_body(y: &[f32], gate: &[f32], out: &mut [f32]) {
    for ((out, y), gate) in out.iter_mut().zip(y).zip(gate) {
        *out = y * silu(*gate);
    }
}

dispatched! {
    /// [`sigmoid`] of every element.
    pub fn sigmoid_in_place(values: &mut [f32]) = sigmoid_in_place_on(set) => sigmoid_in_place_body(values)
}

#[inline(always)]
fn sigmoid_in_place_body(values: &mut [f32]) {
    for x in values {
        *x = sigmoid(*x);
    }
}

dispatched! {
    /// Replaces every `x` by `e^(x - shift)` and returns their sum.
    fn exp_minus_in_place(row: &mut [f32], shift: f32) -> f32 = exp_minus_in_place_on(set) => exp_minus_body(row, shift)
}

#[inline(always)]
fn exp_minus_body(row: &mut [f32], shift: f32) -> f32 {
    let mut sums = [0.0f32; LANES];
    let (chunks, rest) = row.as_chunks_mut::<LANES>();
    for chunk in chunks {
        for (x, sum) in chunk.iter_mut().zip(&mut sums) {
            *x = exp(*x - shift);
            *sum += *x;
        }
    }
    let mut total = sums.iter().sum();
    for x in rest {
        *x = exp(*x - shift);
        total += *x;
    }
    total
}

dispatched! {
    /// Largest entry of a row; -inf for an empty row.
    pub fn largest(row: &[f32]) -> f32 = largest_on(set) => largest_body(row)
}

#[inline(always)]
fn largest_body(row: &[f32]) -> f32 {
    let mut maxima = [f32::NEG_INFINITY; LANES];
    let (chunks, rest) = row.as_chunks::<LANES>();
    for chunk in chunks {
        for (x, max) in chunk.iter().zip(&mut maxima) {
            *max = if *x > *max { *x } else { *max };
        }
    }
    maxima.iter().chain(rest).fold(f32::NEG_INFINITY, |max, &x| max.max(x))
}

/// Softmax of a row, in place.
pub fn softmax_in_place(row: &mut [f32]) {
    let total = exp_minus_in_place(row, largest(row));
    for x in row {
        *x /= total;
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{AWKWARD, equal_bits, values};
    use super::*;

    #[test]
    fn functions_agree_with_double_precision() {
        // Four float32 roundings on top of the approximation errors stated above.
        const RELATIVE: f64 = 6e-7;
        for i in -8600..8700 {
            let x = i as f32 * 0.01;
            let d = f64::from(x);
            let close = |name: &str, got: f32, expected: f64| {
                let error = (f64::from(got) - expected).abs() / expected.abs().max(1e-30);
                assert!(error < RELATIVE, "{name}({x}) = {got}, expected {expected}");
            };
            close("exp", exp(x), d.exp());
            close("sigmoid", sigmoid(x), 1.0 / (1.0 + (-d).exp()));
            if x > -80.0 {
                close("softplus", softplus(x), d.exp().ln_1p());
            }
        }
        assert_eq!(exp(0.0), 1.0);
        assert!(exp(f32::NEG_INFINITY) < 1e-37);
    }

    #[test]
    fn every_instruction_set_gives_the_same_bits() {
        for n in AWKWARD {
            let (x, y) = (values(n, 1), values(n, 2));
            let gated = equal_bits("silu_gate", |set| {
                let mut out = vec![f32::NAN; n];
                silu_gate_on(set, &y, &x, &mut out);
                out
            });
            let formula: Vec<f32> = x.iter().zip(&y).map(|(x, y)| y * silu(*x)).collect();
            assert_eq!(gated, formula, "{n}");
            let sigmoids = equal_bits("sigmoid", |set| {
                let mut out = x.clone();
                sigmoid_in_place_on(set, &mut out);
                out
            });
            let formula: Vec<f32> = x.iter().map(|x| sigmoid(*x)).collect();
            assert_eq!(sigmoids, formula, "{n}");
            equal_bits("exp_minus", |set| {
                let mut out = x.clone();
                let total = exp_minus_in_place_on(set, &mut out, 0.25);
                out.push(total);
                out
            });
            let largest = equal_bits("largest", |set| vec![largest_on(set, &x)]);
            assert_eq!(largest, [x.iter().copied().fold(f32::NEG_INFINITY, f32::max)], "{n}");
        }
    }

    #[test]
    fn softmax_agrees_with_double_precision_over_awkward_sizes() {
        for n in [1, 15, 16, 17, 31, 32, 33, 64, 1000] {
            let row: Vec<f32> = (0..n).map(|i| ((i * 31 % 97) as f32 - 40.0) * 0.5).collect();
            let normalizer = row.iter().map(|&x| f64::from(x).exp()).sum::<f64>().ln();
            let mut soft = row.clone();
            softmax_in_place(&mut soft);
            for (p, x) in soft.iter().zip(&row) {
                assert!((f64::from(*p) - (f64::from(*x) - normalizer).exp()).abs() < 1e-6, "{n}");
            }
        }
    }
}
