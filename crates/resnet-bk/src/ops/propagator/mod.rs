//! The propagator as a differentiable operation, with an exact O(T) backward pass.
//!
//! Forward as in [`resnet_bk_runtime::internal::resolvent`]: `psi_t = g_t q_t`,
//! `q_t = w_t + s_t psi_{t-1}`, `g_t = 1 / D_t`, `D_t = a_t - i eta - s_t^2 g_{t-1}`.
//!
//! Backward in time, where `x'` is `dL/dRe x + i dL/dIm x` and `*` the conjugate:
//!
//! ```text
//! q' = g* psi'       g' += q* psi'           w' = q'        psi'_{t-1} += s q'
//! D' = -(g^2)* g'    g'_{t-1} -= s^2 D'      a' = Re D'     eta' -= Im D'
//! a = 1 + s^2 + b    w = (1 - s) u           b' = a'        u' = (1 - s) w'
//! s' = Re(psi*_{t-1} q') - 2 s Re(g*_{t-1} D') + 2 s a' - Re(u* w')
//! ```

mod cuda;
mod host;

use super::Carry;
use crate::buffer::Buffer;
use crate::tape::{Op, Tensor};

#[derive(Debug)]
struct Propagator {
    /// Length `T` of a sequence.
    length: usize,
    /// The state before and after the sequences, `[2, B, 2H]`; without it they begin with zeros.
    carry: Option<Carry>,
    /// `g_t` of every position, `[B T, 2H]`, saved by the forward pass.
    ratios: Buffer,
}

impl Propagator {
    fn new(length: usize, carry: Option<&Carry>) -> Self {
        Self { length, carry: carry.cloned(), ratios: Buffer::default() }
    }
}

/// Waves of consecutive sequences of `length` tokens, from the state `carry`, or from zeros.
///
/// # Shapes
/// - `hopping`, `barrier`: `[B T, H]`, before their nonlinearities
/// - `source`: `[B T, 2H]`, real parts, then imaginary parts
/// - `eta`: `[H]`
/// - returns `[B T, 2H]`
pub fn propagator(
    hopping: &Tensor,
    barrier: &Tensor,
    source: &Tensor,
    eta: &Tensor,
    length: usize,
    carry: Option<&Carry>,
) -> Tensor {
    Propagator::new(length, carry).apply([hopping, barrier, source, eta], source.shape())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{check_gradients, forward, forward_and_backward, values};

    #[test]
    fn gradients_match_finite_differences() {
        for length in [1, 2, 3, 17] {
            for eta in [[0.0, 0.0], [0.5, 1.0]] {
                let n = 2 * 2 * length;
                let hopping: Vec<f32> = values(n, 1).iter().map(|x| 3.0 * x).collect();
                let barrier: Vec<f32> = values(n, 2).iter().map(|x| 3.0 * x).collect();
                let inputs = [&hopping[..], &barrier, &values(2 * n, 3), &eta];
                check_gradients(inputs, || Propagator::new(length, None), 2e-3);
            }
        }
    }

    /// Ratios and waves before 2 sequences of 2 heads, `[2, 2, 4]`. With `eta = 0` a ratio is real and
    /// from 0 to 1.
    fn state(eta: f32) -> Vec<f32> {
        let mut ratios: Vec<f32> = values(8, 5).iter().map(|x| 0.5 * (x + 1.0)).collect();
        for sequence in ratios.chunks_mut(4) {
            sequence[2..].iter_mut().for_each(|im| *im *= eta);
        }
        [ratios, values(8, 6)].concat()
    }

    #[test]
    fn gradients_from_a_carried_state_match_finite_differences() {
        for length in [1, 2, 3, 17] {
            for eta in [[0.0, 0.0], [0.5, 1.0]] {
                let n = 2 * 2 * length;
                let hopping: Vec<f32> = values(n, 1).iter().map(|x| 3.0 * x).collect();
                let barrier: Vec<f32> = values(n, 2).iter().map(|x| 3.0 * x).collect();
                let inputs = [&hopping[..], &barrier, &values(2 * n, 3), &eta];
                let carry = || Carry::new(state(eta[0]).into());
                check_gradients(inputs, || Propagator::new(length, Some(&carry())), 2e-3);
            }
        }
    }

    #[test]
    fn sequences_that_go_on_equal_joined_ones() {
        let heads = 33;
        for [first, second] in [[1, 1], [3, 5], [17, 1], [8, 8]] {
            let (length, sequences) = (first + second, 3);
            let rows = sequences * length;
            let inputs = [values(rows * heads, 1), values(rows * heads, 2), values(2 * rows * heads, 3)];
            let eta = vec![0.3; heads];
            // The rows of every sequence from `from` to `to`.
            let part = |x: &[f32], from: usize, to: usize| -> Vec<f32> {
                let width = x.len() / rows;
                x.chunks(length * width).flat_map(|sequence| &sequence[from * width..to * width]).copied().collect()
            };
            let run = |from: usize, to: usize, carry: &Carry| {
                let inputs = inputs.each_ref().map(|x| part(x, from, to));
                let [hopping, barrier, source] = inputs.each_ref().map(Vec::as_slice);
                forward(Propagator::new(to - from, Some(carry)), [hopping, barrier, source, &eta])
            };
            let start = || Carry::new(vec![0.0; 4 * sequences * heads].into());
            let (before, whole) = (start(), start());
            let joined = run(0, length, &whole);
            assert_eq!(run(0, first, &before), part(&joined, 0, first));
            let after = Carry::new(before.after());
            assert_eq!(run(first, length, &after), part(&joined, first, length), "{first} + {second}");
            assert_eq!(after.after().as_slice(), whole.after().as_slice(), "{first} + {second}");
        }
    }

    /// Double-precision reference for one head. Each `psi_t` is computed by eliminating its leading
    /// block from the last row upwards, which uses none of the tested ratios.
    fn objective(hopping: &[f64], barrier: &[f64], source: &[f64], eta: f64, weights: &[f32]) -> f64 {
        type Complex = (f64, f64);
        let mul = |a: Complex, b: Complex| (a.0 * b.0 - a.1 * b.1, a.0 * b.1 + a.1 * b.0);
        let inverse = |a: Complex| (a.0 / (a.0 * a.0 + a.1 * a.1), -a.1 / (a.0 * a.0 + a.1 * a.1));
        let s: Vec<f64> = hopping.iter().map(|x| 1.0 / (1.0 + (-x).exp())).collect();
        let a: Vec<f64> = barrier.iter().zip(&s).map(|(x, s)| 1.0 + s * s + x.exp().ln_1p()).collect();
        let w: Vec<Complex> =
            (0..s.len()).map(|t| ((1.0 - s[t]) * source[2 * t], (1.0 - s[t]) * source[2 * t + 1])).collect();
        let mut total = 0.0;
        for last in 0..s.len() {
            let (mut r, mut y) = (vec![(0.0, 0.0); last + 2], vec![(0.0, 0.0); last + 2]);
            for t in (0..=last).rev() {
                let s_next = if t < last { s[t + 1] } else { 0.0 };
                r[t] = inverse((a[t] - s_next * s_next * r[t + 1].0, -eta - s_next * s_next * r[t + 1].1));
                let moved = mul(r[t + 1], y[t + 1]);
                y[t] = (w[t].0 + s_next * moved.0, w[t].1 + s_next * moved.1);
            }
            let mut psi = (0.0, 0.0);
            for t in 0..=last {
                psi = mul(r[t], (y[t].0 + s[t] * psi.0, y[t].1 + s[t] * psi.1));
            }
            total += psi.0 * f64::from(weights[2 * last]) + psi.1 * f64::from(weights[2 * last + 1]);
        }
        total
    }

    #[test]
    fn gradients_match_the_dense_system_in_double_precision() {
        // Single precision against double, relative to the largest gradient.
        const RELATIVE: f64 = 1e-5;
        const STEP: f64 = 1e-5;
        for length in [1, 2, 3, 17, 128, 1000] {
            for eta in [0.0f32, 0.7] {
                let inputs = [values(length, 1), values(length, 2), values(2 * length, 3), vec![eta]];
                let weights = values(2 * length, 4);
                let slices = inputs.each_ref().map(Vec::as_slice);
                let (_, gradients) = forward_and_backward(Propagator::new(length, None), slices, &weights);
                for (which, gradient) in gradients.iter().enumerate() {
                    let largest = gradient.iter().fold(0.0, |max: f64, g| max.max(f64::from(g.abs())));
                    // The cost is quadratic in the length, so the longest sequence is sampled.
                    for i in (0..gradient.len()).step_by(if length == 1000 { 201 } else { 1 }) {
                        let shifted = |by: f64| {
                            let mut wide =
                                inputs.each_ref().map(|v| v.iter().map(|&x| f64::from(x)).collect::<Vec<f64>>());
                            wide[which][i] += by;
                            objective(&wide[0], &wide[1], &wide[2], wide[3][0], &weights)
                        };
                        let expected = (shifted(STEP) - shifted(-STEP)) / (2.0 * STEP);
                        let error = (f64::from(gradient[i]) - expected).abs() / largest;
                        assert!(error < RELATIVE, "T {length}, eta {eta}, input {which}, {i}: relative error {error}");
                    }
                }
            }
        }
    }

    #[test]
    fn heads_side_by_side_equal_each_head_alone() {
        let length = 5;
        for heads in [1, 2, 15, 31, 32, 33, 64, 65] {
            let (rows, wide) = (2 * length, 2 * heads);
            let inputs = [values(rows * heads, 1), values(rows * heads, 2), values(rows * wide, 3), vec![0.3; heads]];
            let gradient = values(rows * wide, 4);
            let run = |inputs: &[Vec<f32>; 4], gradient: &[f32]| {
                forward_and_backward(Propagator::new(length, None), inputs.each_ref().map(Vec::as_slice), gradient)
            };
            let (output, gradients) = run(&inputs, &gradient);
            for head in 0..heads {
                let narrow = |x: &[f32]| -> Vec<f32> { x.chunks(heads).map(|row| row[head]).collect() };
                let both =
                    |x: &[f32]| -> Vec<f32> { x.chunks(wide).flat_map(|row| [row[head], row[heads + head]]).collect() };
                let alone = [narrow(&inputs[0]), narrow(&inputs[1]), both(&inputs[2]), vec![0.3]];
                let (alone_output, alone_gradients) = run(&alone, &both(&gradient));
                assert_eq!(both(&output), alone_output, "{heads} heads, waves of {head}");
                assert_eq!(narrow(&gradients[0]), alone_gradients[0], "{heads} heads, hopping of {head}");
                assert_eq!(narrow(&gradients[1]), alone_gradients[1], "{heads} heads, barrier of {head}");
                assert_eq!(both(&gradients[2]), alone_gradients[2], "{heads} heads, source of {head}");
                assert_eq!(gradients[3][head], alone_gradients[3][0], "{heads} heads, eta of {head}");
            }
        }
    }

    #[test]
    fn a_million_tokens_stay_finite() {
        let length = 1_000_000;
        let (hopping, barrier) = (values(length, 6), values(length, 7));
        let (source, gradient) = (values(2 * length, 8), values(2 * length, 9));
        let inputs: [&[f32]; 4] = [&hopping, &barrier, &source, &[0.0]];
        let (output, gradients) = forward_and_backward(Propagator::new(length, None), inputs, &gradient);
        assert!(output.iter().chain(gradients.iter().flatten()).all(|x| x.is_finite()));
    }

    #[test]
    fn gradients_stay_finite_over_long_sequences() {
        let length = 100_000;
        let (hopping, barrier) = (vec![8.0; length], vec![-8.0; length]);
        let (source, gradient) = (values(2 * length, 4), values(2 * length, 5));
        let inputs: [&[f32]; 4] = [&hopping, &barrier, &source, &[0.0]];
        let (_, gradients) = forward_and_backward(Propagator::new(length, None), inputs, &gradient);
        assert!(gradients.iter().flatten().all(|x| x.is_finite()));
    }
}
