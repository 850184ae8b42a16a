//! Compares the recurrences with a dense complex inverse in double precision.

use super::*;

#[derive(Clone, Copy, Debug, PartialEq)]
struct Complex(f64, f64);

impl Complex {
    fn mul(self, o: Self) -> Self {
        Self(self.0 * o.0 - self.1 * o.1, self.0 * o.1 + self.1 * o.0)
    }
    fn sub(self, o: Self) -> Self {
        Self(self.0 - o.0, self.1 - o.1)
    }
    fn inverse(self) -> Self {
        let n = self.0 * self.0 + self.1 * self.1;
        Self(self.0 / n, -self.1 / n)
    }
    fn norm(self) -> f64 {
        self.0.hypot(self.1)
    }
}

/// Gauss-Jordan inverse with partial pivoting.
fn inverse(mut a: Vec<Vec<Complex>>) -> Vec<Vec<Complex>> {
    let n = a.len();
    for (i, row) in a.iter_mut().enumerate() {
        row.extend((0..n).map(|j| Complex(f64::from(u8::from(i == j)), 0.0)));
    }
    for column in 0..n {
        let pivot = (column..n).max_by(|&i, &j| a[i][column].norm().total_cmp(&a[j][column].norm())).unwrap();
        a.swap(column, pivot);
        let scale = a[column][column].inverse();
        for x in &mut a[column] {
            *x = x.mul(scale);
        }
        let reference = a[column].clone();
        for (i, row) in a.iter_mut().enumerate() {
            let factor = row[column];
            if i != column && factor.norm() > 0.0 {
                for (x, r) in row.iter_mut().zip(&reference) {
                    *x = x.sub(factor.mul(*r));
                }
            }
        }
    }
    a.into_iter().map(|row| row[n..].to_vec()).collect()
}

/// `A - i eta` with diagonal `a` and `off[t]` between `t - 1` and `t`.
fn tridiagonal(a: &[f64], off: &[f64], eta: f64) -> Vec<Vec<Complex>> {
    let n = a.len();
    let mut matrix = vec![vec![Complex(0.0, 0.0); n]; n];
    for t in 0..n {
        matrix[t][t] = Complex(a[t], -eta);
        if t > 0 {
            matrix[t][t - 1].0 = off[t];
            matrix[t - 1][t].0 = off[t];
        }
    }
    matrix
}

fn values(n: usize, scale: f32, salt: u32) -> Vec<f32> {
    (0..n as u32)
        .map(|i| {
            (i.wrapping_mul(2_654_435_761).wrapping_add(salt.wrapping_mul(40_503)) >> 8) as f32 / 8_388_608.0 - 1.0
        })
        .map(|x| x * scale)
        .collect()
}

const DIAGONAL: [f32; 3] = [-2.0, 0.5, 0.0];
const HOPPING: [f32; 3] = [1.0, 0.7, 1.3];
const ETA: [f32; 3] = [1.0, 0.5, 0.8];
const CHAIN: Chain = Chain { diagonal: &DIAGONAL, hopping: &HOPPING, eta: &ETA };
/// Relative error of single precision against double precision.
const RELATIVE: f64 = 1e-5;

fn assert_close(re: f32, im: f32, expected: Complex, place: &str) {
    let error = Complex(f64::from(re), f64::from(im)).sub(expected).norm() / expected.norm();
    assert!(error < RELATIVE, "{place}: {re} + {im}i, expected {expected:?}, relative error {error}");
}

/// Lengths of the dense comparison. An inverse costs `T^3`, so longer sequences are compared in
/// fewer cases.
const LENGTHS: [usize; 5] = [1, 2, 3, 17, 128];

fn dense_chain(potential: &[f32], head: usize) -> Vec<Vec<Complex>> {
    let a: Vec<f64> = potential.chunks(3).map(|v| f64::from(DIAGONAL[head] + v[head])).collect();
    tridiagonal(&a, &vec![f64::from(HOPPING[head]); a.len()], f64::from(ETA[head]))
}

#[test]
fn whole_equals_the_diagonal_of_the_dense_inverse() {
    for length in LENGTHS.into_iter().chain([1000]) {
        let potential = values(3 * length, 3.0, 1);
        let mut features = vec![f32::NAN; 6 * length];
        CHAIN.whole(&potential, &mut features);
        // One head only at the longest length, because the cost of the inverse is cubic.
        for head in 0..if length == 1000 { 1 } else { 3 } {
            let inverse = inverse(dense_chain(&potential, head));
            for (t, row) in features.chunks(6).enumerate() {
                assert_close(row[head], row[3 + head], inverse[t][t], &format!("T {length}, t {t}, head {head}"));
            }
        }
    }
}

#[test]
fn left_equals_the_last_entry_of_the_leading_blocks_inverse() {
    for length in LENGTHS {
        let potential = values(3 * length, 3.0, 2);
        let mut features = vec![f32::NAN; 6 * length];
        CHAIN.left(&potential, &mut [0.0; 6], &mut features);
        for head in 0..3 {
            for t in (0..length).filter(|t| length < 100 || t % 16 == 15) {
                let inverse = inverse(dense_chain(&potential[..3 * (t + 1)], head));
                let row = &features[6 * t..][..6];
                assert_close(row[head], row[3 + head], inverse[t][t], &format!("T {length}, t {t}, head {head}"));
            }
        }
    }
}

/// Hopping and barrier after their nonlinearities, and the source, in double precision.
fn propagator_matrices(hopping: &[f32], barrier: &[f32], head: usize, eta: f64) -> Vec<Vec<Complex>> {
    let sigmoid = |x: f32| 1.0 / (1.0 + (-f64::from(x)).exp());
    let s: Vec<f64> = hopping.chunks(3).map(|x| sigmoid(x[head])).collect();
    let a: Vec<f64> = barrier.chunks(3).zip(&s).map(|(x, s)| 1.0 + s * s + f64::from(x[head]).exp().ln_1p()).collect();
    tridiagonal(&a, &s.iter().map(|s| -s).collect::<Vec<_>>(), eta)
}

#[test]
fn propagate_equals_the_last_row_of_the_dense_inverse_times_the_source() {
    for eta in [[0.0f32; 3], ETA] {
        for length in [1, 2, 3, 17, 128, 1000] {
            let (hopping, barrier) = (values(3 * length, 4.0, 3), values(3 * length, 4.0, 4));
            let source = values(6 * length, 1.0, 5);
            let input = PropagatorInput { hopping: &hopping, barrier: &barrier, source: &source, eta: &eta };
            let (mut waves, mut ratios) = (vec![f32::NAN; 6 * length], vec![f32::NAN; 6 * length]);
            propagate(input, &mut PropagatorState::new(3), &mut waves, &mut ratios);
            for head in 0..if length == 1000 { 1 } else { 3 } {
                let t = length - 1;
                let inverse = inverse(propagator_matrices(&hopping, &barrier, head, f64::from(eta[head])));
                let expected = (0..length).fold(Complex(0.0, 0.0), |sum, j| {
                    let s = 1.0 / (1.0 + (-f64::from(hopping[3 * j + head])).exp());
                    let u = Complex(f64::from(source[6 * j + head]), f64::from(source[6 * j + 3 + head]));
                    let term = inverse[t][j].mul(Complex((1.0 - s) * u.0, (1.0 - s) * u.1));
                    Complex(sum.0 + term.0, sum.1 + term.1)
                });
                let row = &waves[6 * t..];
                assert_close(row[head], row[3 + head], expected, &format!("T {length}, head {head}, eta {eta:?}"));
            }
        }
    }
}

#[test]
fn step_equals_forward() {
    let length = 33;
    let potential = values(3 * length, 3.0, 6);
    let (mut forward, mut steps) = (vec![0.0; 6 * length], vec![0.0; 6 * length]);
    CHAIN.left(&potential, &mut [0.0; 6], &mut forward);
    let mut state = [0.0; 6];
    for (v, row) in potential.chunks(3).zip(steps.chunks_mut(6)) {
        CHAIN.left(v, &mut state, row);
    }
    assert_eq!(forward, steps);
}

#[test]
fn a_million_tokens_stay_finite_and_bounded_and_correct() {
    let length = 1_000_000;
    let potential = values(3 * length, 3.0, 7);
    let mut features = vec![0.0; 6 * length];
    CHAIN.left(&potential, &mut [0.0; 6], &mut features);
    for row in features.chunks(6) {
        for head in 0..3 {
            let size = row[head].hypot(row[3 + head]);
            assert!(size.is_finite() && size <= 1.0 / ETA[head] * 1.0001, "|g| = {size}");
        }
    }
    // The same recursion in double precision, entry by entry.
    let mut g = Complex(0.0, 0.0);
    for (v, row) in potential.chunks(3).zip(features.chunks(6)) {
        let s2 = f64::from(HOPPING[0]).powi(2);
        g = Complex(f64::from(DIAGONAL[0] + v[0]) - s2 * g.0, -f64::from(ETA[0]) - s2 * g.1).inverse();
        assert_close(row[0], row[3], g, "a million tokens");
    }
    let (mut whole, mut right) = (vec![0.0; 6 * length], vec![0.0; 6 * length]);
    CHAIN.whole(&potential, &mut whole);
    CHAIN.right(&potential, &mut right);
    assert!(whole.iter().chain(&right).all(|x| x.is_finite()));
    // The last position has nothing to its right, the first nothing to its left.
    assert_eq!(whole[6 * (length - 1)..], features[6 * (length - 1)..]);
    for (a, b) in whole[..6].iter().zip(&right[..6]) {
        assert!((a - b).abs() < 1e-6);
    }
}

#[test]
fn without_barrier_the_propagator_tends_to_a_gated_linear_recurrence() {
    let length = 200;
    let hopping = vec![1.5f32; length];
    let source = values(2 * length, 1.0, 8);
    let input = PropagatorInput { hopping: &hopping, barrier: &vec![-60.0; length], source: &source, eta: &[0.0] };
    let (mut waves, mut ratios) = (vec![0.0; 2 * length], vec![0.0; 2 * length]);
    let mut state = PropagatorState { ratio: vec![1.0, 0.0], wave: vec![0.0, 0.0] };
    propagate(input, &mut state, &mut waves, &mut ratios);
    let s = crate::kernels::sigmoid(1.5);
    let mut expected = 0.0f32;
    for t in 0..length {
        expected = (1.0 - s) * source[2 * t] + s * expected;
        assert!((ratios[2 * t] - 1.0).abs() < 1e-6 && (waves[2 * t] - expected).abs() < 1e-5);
    }
}

#[test]
fn reciprocals_of_finite_numbers_are_finite() {
    assert_eq!(reciprocal(0.6, 0.8).0.to_bits(), (0.6 / (0.6f32 * 0.6 + 0.8 * 0.8)).to_bits());
    for re in [0.0, 1e-45, -1e-30, 1e-19, 1.0, -1e30, f32::MAX] {
        for im in [-0.0, -1e-45, -1e-30, -1e-19, -1.0, -1e30, f32::MIN] {
            let (x, y) = reciprocal(re, im);
            assert!(x.is_finite() && y.is_finite(), "1 / ({re} + {im} i) = {x} + {y} i");
        }
    }
}
