use super::*;
use crate::ops::testing::{check_gradients, forward, forward_and_backward, values};

fn op(length: usize, causality: Causality, gradient: Gradient) -> ResolventOp {
    ResolventOp { diagonal: vec![-2.0, 0.3], hopping: vec![1.0, 0.8], length, causality, gradient, carry: None }
}

#[test]
fn gradients_match_finite_differences() {
    for causality in [Causality::Causal, Causality::Bidirectional] {
        for length in [1, 2, 3, 17] {
            let v: Vec<f32> = values(2 * 2 * length, 1).iter().map(|x| 2.0 * x).collect();
            check_gradients([&v, &[1.0, 0.7]], || op(length, causality, Gradient::Exact), 2e-3);
        }
    }
}

#[test]
fn gradients_from_a_carried_state_match_finite_differences() {
    for length in [1, 2, 3, 17] {
        let v: Vec<f32> = values(2 * 2 * length, 1).iter().map(|x| 2.0 * x).collect();
        let carried = || ResolventOp {
            carry: Some(Carry::new(values(2 * 4, 3).into())),
            ..op(length, Causality::Causal, Gradient::Exact)
        };
        check_gradients([&v, &[1.0, 0.7]], carried, 2e-3);
    }
}

#[test]
fn sequences_that_go_on_equal_joined_ones() {
    for [first, second] in [[1, 1], [3, 5], [17, 1], [8, 8]] {
        let (length, sequences, heads) = (first + second, 3, 2);
        let v: Vec<f32> = values(sequences * length * heads, 1).iter().map(|x| 2.0 * x).collect();
        // The rows of every sequence from `from` to `to`.
        let part = |x: &[f32], from: usize, to: usize| -> Vec<f32> {
            let width = x.len() / (sequences * length);
            x.chunks(length * width).flat_map(|sequence| &sequence[from * width..to * width]).copied().collect()
        };
        let run = |from: usize, to: usize, carry: &Carry| {
            let op = ResolventOp { carry: Some(carry.clone()), ..op(to - from, Causality::Causal, Gradient::Exact) };
            forward(op, [&part(&v, from, to), &[1.0, 0.7]])
        };
        let start = || Carry::new(vec![0.0; 2 * sequences * heads].into());
        let (before, whole) = (start(), start());
        let joined = run(0, length, &whole);
        assert_eq!(run(0, first, &before), part(&joined, 0, first));
        let after = Carry::new(before.after());
        assert_eq!(run(first, length, &after), part(&joined, first, length), "{first} + {second}");
        assert_eq!(after.after().as_slice(), whole.after().as_slice(), "{first} + {second}");
    }
}

/// Double-precision reference, by the chain rule on a dense inverse: `dG_ii/da_j = -G_ij G_ji`.
#[test]
fn gradients_match_the_dense_inverse() {
    // Single precision against double, relative to the largest gradient.
    const RELATIVE: f64 = 1e-5;
    for length in [1, 2, 3, 17, 128, 1000] {
        let v: Vec<f32> = values(length, 4).iter().map(|x| 3.0 * x).collect();
        let weights = values(2 * length, 5);
        for causality in [Causality::Causal, Causality::Bidirectional] {
            let op = ResolventOp {
                diagonal: vec![-2.0],
                hopping: vec![1.0],
                ..self::op(length, causality, Gradient::Exact)
            };
            let (_, [dv, _]) = forward_and_backward(op, [&v, &[1.0]], &weights);
            let expected = dense::gradient(&v, &weights, causality);
            let largest = expected.iter().fold(0.0f64, |m, x| m.max(x.abs()));
            for (got, expected) in dv.iter().zip(&expected) {
                let error = (f64::from(*got) - expected).abs() / largest;
                assert!(error < RELATIVE, "{causality:?}, T {length}: {got} against {expected}");
            }
        }
    }
}

#[test]
fn blended_gradient_has_the_documented_cosine() {
    let length = 128;
    let v: Vec<f32> = values(2 * 8 * length, 6).iter().map(|x| 2.0 * x).collect();
    let weights = values(4 * 8 * length, 7);
    for (causality, documented) in [(Causality::Causal, 0.389), (Causality::Bidirectional, 0.516)] {
        let gradient = |kind| {
            let (_, [dv, _]) = forward_and_backward(op(length, causality, kind), [&v, &[1.0, 1.0]], &weights);
            dv
        };
        let cosine = |a: &[f32], b: &[f32]| {
            let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum::<f64>();
            dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
        };
        let found = cosine(&gradient(Gradient::Exact), &gradient(Gradient::Blended(0.5)));
        assert!((found - documented).abs() < 0.01, "{causality:?}: cosine {found}, documented {documented}");
        assert!(gradient(Gradient::Blended(0.5)).iter().all(|x| x.is_finite()));
    }
}

mod dense {
    use super::*;

    type Complex = (f64, f64);

    fn mul(a: Complex, b: Complex) -> Complex {
        (a.0 * b.0 - a.1 * b.1, a.0 * b.1 + a.1 * b.0)
    }

    fn div(a: Complex, b: Complex) -> Complex {
        let n = b.0 * b.0 + b.1 * b.1;
        mul(a, (b.0 / n, -b.1 / n))
    }

    /// Column `j` of the inverse of the leading `n x n` block, by elimination, without using the
    /// tested ratios.
    fn column(a: &[Complex], n: usize, j: usize) -> Vec<Complex> {
        let mut pivot = a[..n].to_vec();
        let mut x = vec![(0.0, 0.0); n];
        x[j] = (1.0, 0.0);
        for t in 1..n {
            let factor = div((1.0, 0.0), pivot[t - 1]);
            pivot[t] = (pivot[t].0 - factor.0, pivot[t].1 - factor.1);
            let moved = mul(factor, x[t - 1]);
            x[t] = (x[t].0 - moved.0, x[t].1 - moved.1);
        }
        for t in (0..n).rev() {
            let rest = if t + 1 < n { x[t + 1] } else { (0.0, 0.0) };
            x[t] = div((x[t].0 - rest.0, x[t].1 - rest.1), pivot[t]);
        }
        x
    }

    /// `dL/dv_j = sum_i Re(conj-gradient_i * dG_ii/dv_j)`, where `G` is the inverse of the whole
    /// matrix or of each leading block.
    pub fn gradient(v: &[f32], weights: &[f32], causality: Causality) -> Vec<f64> {
        let n = v.len();
        let a: Vec<Complex> = v.iter().map(|&v| (f64::from(v) - 2.0, -1.0)).collect();
        let mut result = vec![0.0; n];
        for i in 0..n {
            let size = if causality == Causality::Causal { i + 1 } else { n };
            // The matrix is symmetric, so row i is column i.
            let row = column(&a, size, i);
            let u = (f64::from(weights[2 * i]), -f64::from(weights[2 * i + 1]));
            for (result, g) in result.iter_mut().zip(row) {
                *result -= mul(u, mul(g, g)).0;
            }
        }
        result
    }
}
