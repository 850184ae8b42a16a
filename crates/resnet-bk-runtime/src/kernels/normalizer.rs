//! Running softmax normalizers, updated with a row of logits at a time.

use super::dispatch::InstructionSet;
use super::elementwise::{exp, largest};
use crate::dispatched;

/// Number of lanes of a row reduction.
const LANES: usize = 32;

/// A running `sum e^x` that does not overflow: the largest `x` so far, and `sum e^(x - largest)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Normalizer {
    /// Largest entry so far.
    pub largest: f32,
    /// `sum e^(x - largest)`.
    pub sum: f32,
}

impl Normalizer {
    /// The sum of no entries.
    pub const EMPTY: Self = Self { largest: f32::MIN, sum: 0.0 };

    /// Adds the entries of a row, each multiplied by `scale`.
    pub fn extend(&mut self, row: &[f32], scale: f32) {
        let shift = self.largest.max(largest(row) * scale);
        let sum = scaled_exp_sum(row, scale, shift);
        self.merge(Self { largest: shift, sum });
    }

    /// Adds another running sum.
    pub fn merge(&mut self, other: Self) {
        let largest = self.largest.max(other.largest);
        self.sum = self.sum * exp(self.largest - largest) + other.sum * exp(other.largest - largest);
        self.largest = largest;
    }

    /// `ln sum e^x`.
    pub fn ln(self) -> f32 {
        self.largest + self.sum.ln()
    }
}

dispatched! {
    /// `sum_i e^(scale x_i - shift)`.
    fn scaled_exp_sum(row: &[f32], scale: f32, shift: f32) -> f32
        = scaled_exp_sum_on(set) => scaled_exp_sum_body(row, scale, shift)
}

#[inline(always)]
fn scaled_exp_sum_body(row: &[f32], scale: f32, shift: f32) -> f32 {
    let mut sums = [0.0f32; LANES];
    let (chunks, rest) = row.as_chunks::<LANES>();
    for chunk in chunks {
        for (x, sum) in chunk.iter().zip(&mut sums) {
            *sum += exp(scale * x - shift);
        }
    }
    let mut total: f32 = sums.iter().sum();
    for x in rest {
        total += exp(scale * x - shift);
    }
    total
}

dispatched! {
    /// Adds `other` to `row`, elementwise.
    pub fn add_row(row: &mut [f32], other: &[f32]) = add_row_on(set) => add_row_body(row, other)
}

#[inline(always)]
fn add_row_body(row: &mut [f32], other: &[f32]) {
    for (x, y) in row.iter_mut().zip(other) {
        *x += y;
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{AWKWARD, equal_bits, values};
    use super::*;

    #[test]
    fn every_instruction_set_gives_the_same_bits() {
        for n in AWKWARD {
            let (x, y) = (values(n, 1), values(n, 2));
            equal_bits("scaled_exp_sum", |set| vec![scaled_exp_sum_on(set, &x, 0.7, 0.25)]);
            let sum = equal_bits("add_row", |set| {
                let mut out = x.clone();
                add_row_on(set, &mut out, &y);
                out
            });
            let formula: Vec<f32> = x.iter().zip(&y).map(|(x, y)| x + y).collect();
            assert_eq!(sum, formula, "{n}");
        }
    }

    #[test]
    fn running_normalizers_equal_the_sum_in_double_precision() {
        let row: Vec<f32> = (0..1000).map(|i| ((i * 31 % 97) as f32 - 40.0) * 0.7).collect();
        for scale in [1.0, 0.5] {
            let expected = row.iter().map(|&x| f64::from(x * scale).exp()).sum::<f64>().ln();
            for part in [1, 33, 512, 1000] {
                let mut whole = Normalizer::EMPTY;
                for part in row.chunks(part) {
                    whole.extend(part, scale);
                }
                assert!((f64::from(whole.ln()) - expected).abs() < 1e-5, "parts of {part}, scale {scale}");
            }
        }
    }
}
