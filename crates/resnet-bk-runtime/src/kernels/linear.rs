//! `y = x W + b`. Each output is summed over the inputs in order, without fused multiply-add.
//!
//! The order does not depend on the number of rows, so a batch and a single time step give the same
//! bits.

use super::dispatch::InstructionSet;
use crate::dispatched;

/// Rows that are computed with one load of the weights.
const ROWS: usize = 4;
/// Outputs held in registers: two AVX-512 vectors.
const COLUMNS: usize = 32;

dispatched! {
    /// Applies an affine map to every row.
    ///
    /// # Shapes
    /// - `x`: `[n, input]`
    /// - `weight`: `[input, output]`
    /// - `bias`: `[output]`
    /// - `out`: `[n, output]`, overwritten
    ///
    /// # Panics
    /// If the lengths do not fit together.
    pub fn linear(x: &[f32], weight: &[f32], bias: &[f32], out: &mut [f32])
        = linear_on(set) => linear_body(x, weight, bias, out)
}

#[inline(always)]
fn linear_body(x: &[f32], weight: &[f32], bias: &[f32], out: &mut [f32]) {
    let output = bias.len();
    assert!(output > 0 && !weight.is_empty(), "weight of {} elements for {output} outputs", weight.len());
    let input = weight.len() / output;
    assert_eq!(input * output, weight.len(), "weight for {output} outputs");
    let rows = x.len() / input;
    assert_eq!((rows * input, rows * output), (x.len(), out.len()), "elements of {rows} rows in and out");
    for (x, out) in x.chunks(ROWS * input).zip(out.chunks_mut(ROWS * output)) {
        match x.len() / input {
            ROWS => row_block::<ROWS>(x, weight, bias, out, input),
            3 => row_block::<3>(x, weight, bias, out, input),
            2 => row_block::<2>(x, weight, bias, out, input),
            _ => row_block::<1>(x, weight, bias, out, input),
        }
    }
}

#[inline(always)]
fn row_block<const R: usize>(x: &[f32], weight: &[f32], bias: &[f32], out: &mut [f32], input: usize) {
    let output = bias.len();
    let mut column = 0;
    while column + COLUMNS <= output {
        strip::<R, COLUMNS>(x, weight, bias, out, input, column);
        column += COLUMNS;
    }
    while column + 8 <= output {
        strip::<R, 8>(x, weight, bias, out, input, column);
        column += 8;
    }
    while column < output {
        strip::<R, 1>(x, weight, bias, out, input, column);
        column += 1;
    }
}

#[inline(always)]
fn strip<const R: usize, const C: usize>(
    x: &[f32],
    weight: &[f32],
    bias: &[f32],
    out: &mut [f32],
    input: usize,
    column: usize,
) {
    let output = bias.len();
    let mut sums = [[0.0f32; C]; R];
    for (k, weights) in weight.chunks_exact(output).enumerate() {
        let weights: &[f32; C] = weights[column..column + C].try_into().expect("C columns");
        for (row, sums) in sums.iter_mut().enumerate() {
            let x = x[row * input + k];
            for (sum, w) in sums.iter_mut().zip(weights) {
                *sum += x * w;
            }
        }
    }
    for (row, sums) in sums.iter().enumerate() {
        let out = &mut out[row * output + column..][..C];
        for ((out, sum), bias) in out.iter_mut().zip(sums).zip(&bias[column..column + C]) {
            *out = sum + bias;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{equal_bits, values};
    use super::*;

    /// The formula, one output at a time.
    fn formula(x: &[f32], weight: &[f32], bias: &[f32], input: usize) -> Vec<f32> {
        let output = bias.len();
        let mut out = Vec::new();
        for row in x.chunks(input) {
            for column in 0..output {
                let mut sum = 0.0f32;
                for (k, x) in row.iter().enumerate() {
                    sum += x * weight[k * output + column];
                }
                out.push(sum + bias[column]);
            }
        }
        out
    }

    #[test]
    fn every_size_and_instruction_set_gives_the_bits_of_the_formula() {
        for rows in [0, 1, 2, 3, 4, 5, 17] {
            for input in [1, 2, 15, 64] {
                for output in [1, 7, 8, 15, 16, 17, 31, 32, 33, 64, 100] {
                    let (x, w, b) = (values(rows * input, 1), values(input * output, 2), values(output, 3));
                    let expected = formula(&x, &w, &b, input);
                    let found = equal_bits("linear", |set| {
                        let mut out = vec![f32::NAN; rows * output];
                        linear_on(set, &x, &w, &b, &mut out);
                        out
                    });
                    assert_eq!(found, expected, "{rows} x {input} x {output}");
                }
            }
        }
    }
}
