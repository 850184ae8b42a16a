//! A piecewise linear curve over the logarithm of the frequency rank, as a part of the bias of the
//! head.
//!
//! ```text
//! x_w = (K - 1) ln(w + 1) / ln V          b_w = knots interpolated linearly at x_w          w = 0 .. V - 1
//! ```
//!
//! Word frequencies follow a power law of the rank (Zipf), so the best biases are nearly linear in
//! the logarithm of the rank. The curve covers this trend with `K` parameters. The remaining bias
//! of each word is small, and so is cheap to store.

/// The position of a word between two knots.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KnotPosition {
    /// Index of the knot before the position.
    pub knot: usize,
    /// Weight of the next knot, from 0 to 1.
    pub fraction: f32,
}

impl KnotPosition {
    /// The position of `word` in a vocabulary of `words` words, on a curve of `knots` knots.
    ///
    /// # Panics
    /// If there are fewer than two knots.
    pub fn of(word: usize, words: usize, knots: usize) -> Self {
        assert!(knots >= 2, "a curve of {knots} knots");
        // Computed in double precision and rounded to a coarse grid. So math libraries whose
        // logarithms differ in the last bit give the same result.
        const GRID: f64 = 4096.0;
        let x = ((word + 1) as f64).ln() / (words.max(2) as f64).ln() * (knots - 1) as f64;
        let x = (x * GRID).round() / GRID;
        let knot = (x as usize).min(knots - 2);
        Self { knot, fraction: (x - knot as f64) as f32 }
    }

    /// The value of the curve at this position.
    pub fn value(self, knots: &[f32]) -> f32 {
        (1.0 - self.fraction) * knots[self.knot] + self.fraction * knots[self.knot + 1]
    }
}

/// The values of the curve for all words. Shapes: `knots` `[K]`, returns `[words]`.
///
/// # Panics
/// If there are fewer than two knots.
pub fn rank_curve(knots: &[f32], words: usize) -> Vec<f32> {
    (0..words).map(|word| KnotPosition::of(word, words, knots.len()).value(knots)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_curve_passes_through_its_knots_and_is_linear_in_the_logarithm() {
        let knots = [1.0, 0.0, -4.0];
        let curve = rank_curve(&knots, 10_000);
        assert_eq!((curve[0], curve[9_999]), (1.0, -4.0));
        // The middle knot is at rank 100, the square root of the number of words.
        assert!((curve[99]).abs() < 1e-3 && (curve[9] - 0.5).abs() < 1e-3 && (curve[999] + 2.0).abs() < 1e-2);
        assert_eq!(rank_curve(&knots, 1), [1.0]);
        assert_eq!(rank_curve(&[2.0, 3.0], 2), [2.0, 3.0]);
    }
}
