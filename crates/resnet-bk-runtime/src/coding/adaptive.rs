//! Adaptive binary probabilities: estimates that are updated after each coded decision.
//!
//! ```text
//! p <- p + (bit - p) / (n + 2)          n <- min(n + 1, LIMIT)
//! ```
//!
//! While `n` grows, this is the KT estimator `(ones + 1/2) / (n + 1)` (Krichevsky, Trofimov 1981).
//! At the limit it is an exponential moving average, which follows slow changes.

use super::logistic::{Probability, stretch};

/// An adaptive binary probability in 32 bits: 22 bits for the probability above 10 bits for the
/// count.
#[derive(Clone, Copy, Debug)]
pub(super) struct AdaptiveProbability(u32);

const COUNT_BITS: u32 = 10;
const COUNT_MASK: u32 = (1 << COUNT_BITS) - 1;

impl AdaptiveProbability {
    /// One half, with a count of 0.
    pub const NEW: Self = Self(1 << 31);

    /// The estimate after a history of decisions. The latest decision is the lowest bit of
    /// `history`. The highest set bit marks the start of the history and is not a decision.
    pub fn from_history(history: u8) -> Self {
        let mut estimate = Self::NEW;
        let decisions = history.max(1).ilog2();
        (0..decisions).rev().for_each(|at| estimate.update(history >> at & 1 == 1, COUNT_MASK));
        Self(estimate.0 & !COUNT_MASK | Self::HISTORY_COUNT)
    }

    /// The count that an estimate from a history starts with.
    const HISTORY_COUNT: u32 = 6;

    /// The probability of `true`.
    pub fn p(self) -> Probability {
        Probability::new(self.0 >> 16)
    }

    /// Logit of the probability, in 1 / 256.
    pub fn logit(self) -> i32 {
        stretch(self.p())
    }

    /// Number of updates so far, at most the limit of the updates.
    pub fn count(self) -> u32 {
        self.0 & COUNT_MASK
    }

    /// Updates the estimate with a decision. `limit` bounds the count and must be below 1,023. A
    /// larger limit forgets more slowly.
    pub fn update(&mut self, bit: bool, limit: u32) {
        let (p, n) = (i64::from(self.0 >> COUNT_BITS), self.count());
        let target = if bit { i64::from(u32::MAX >> COUNT_BITS) } else { 0 };
        let p = p + (target - p) * i64::from(RECIPROCAL[n as usize]) / (1 << 16);
        self.0 = (p as u32) << COUNT_BITS | (n + 1).min(limit);
    }
}

/// `2^16 / (n + 2)` for each count `n`.
static RECIPROCAL: [u16; 1 << COUNT_BITS] = {
    let mut table = [0; 1 << COUNT_BITS];
    let mut n = 0;
    while n < table.len() {
        table[n] = ((1 << 16) / (n + 2)) as u16;
        n += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probability_is_the_kt_estimate() {
        let (mut estimate, mut ones) = (AdaptiveProbability::NEW, 0.0);
        for n in 0..300 {
            let expected = 65536.0 * (ones + 0.5) / (f64::from(n) + 1.0);
            assert!((f64::from(estimate.p().get()) - expected).abs() < 20.0, "after {n}");
            assert_eq!(estimate.count(), n);
            let bit = n % 7 < 2;
            estimate.update(bit, 1000);
            ones += f64::from(u8::from(bit));
        }
    }

    #[test]
    fn probability_follows_changes_and_is_never_0_or_1() {
        let mut estimate = AdaptiveProbability::NEW;
        (0..10_000).for_each(|_| estimate.update(true, 255));
        assert!(estimate.p() > Probability::new(65_450) && estimate.p() <= Probability::MAX);
        (0..3_000).for_each(|_| estimate.update(false, 255));
        assert!(estimate.p() < Probability::new(100) && estimate.p() >= Probability::MIN);
        assert_eq!(estimate.count(), 255);
    }
}
