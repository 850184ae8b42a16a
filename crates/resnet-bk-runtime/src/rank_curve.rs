//! A smooth curve over the words' ranks by frequency, for a head's bias: what is left for each word
//! is then small.
//!
//! ```text
//! x_w = (K - 1) ln(w + 1) / ln V          b_w = knots interpolated linearly at x_w          w = 0 .. V - 1
//! ```
//!
//! Frequencies follow their rank by a power law, so in the logarithm of the rank a bias is nearly
//! straight.

/// A word's position between two knots.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KnotPosition {
    /// The knot before it; the next one follows.
    pub knot: usize,
    /// Weight of the next knot, from 0 to 1.
    pub fraction: f32,
}

impl KnotPosition {
    /// Of `word` among `words`, on a curve of `knots` knots.
    ///
    /// # Panics
    /// If there are fewer than two knots.
    pub fn of(word: usize, words: usize, knots: usize) -> Self {
        assert!(knots >= 2, "a curve of {knots} knots");
        // Double precision, then a coarse grid: libraries whose logarithms differ in the last bit
        // agree.
        const GRID: f64 = 4096.0;
        let x = ((word + 1) as f64).ln() / (words.max(2) as f64).ln() * (knots - 1) as f64;
        let x = (x * GRID).round() / GRID;
        let knot = (x as usize).min(knots - 2);
        Self { knot, fraction: (x - knot as f64) as f32 }
    }

    /// The curve at this position.
    pub fn value(self, knots: &[f32]) -> f32 {
        (1.0 - self.fraction) * knots[self.knot] + self.fraction * knots[self.knot + 1]
    }
}

/// The curve of all words. Shapes: `knots` `[K]`, returns `[words]`.
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
    fn the_curve_passes_through_its_ends_and_is_straight_in_the_logarithm() {
        let knots = [1.0, 0.0, -4.0];
        let curve = rank_curve(&knots, 10_000);
        assert_eq!((curve[0], curve[9_999]), (1.0, -4.0));
        // The middle knot is at rank 100, the square root of the number of words.
        assert!((curve[99]).abs() < 1e-3 && (curve[9] - 0.5).abs() < 1e-3 && (curve[999] + 2.0).abs() < 1e-2);
        assert_eq!(rank_curve(&knots, 1), [1.0]);
        assert_eq!(rank_curve(&[2.0, 3.0], 2), [2.0, 3.0]);
    }
}
