//! How often was it? A probability that learns from the decisions it was asked about.
//!
//! ```text
//! p <- p + (bit - p) / (n + 2)          n <- min(n + 1, LIMIT)
//! ```
//!
//! While `n` grows this is Krichevsky and Trofimov's estimate `(ones + 1/2) / (n + 1)`; at the
//! limit the mean is exponential, and so follows slow changes.

use super::logistic::{Probability, stretch};

/// An adaptive probability: 22 bits of it above 10 of the count.
#[derive(Clone, Copy, Debug)]
pub(super) struct AdaptiveBit(u32);

const COUNT_BITS: u32 = 10;
const COUNT_MASK: u32 = (1 << COUNT_BITS) - 1;

impl AdaptiveBit {
    /// One half, which nothing supports.
    pub const NEW: Self = Self(1 << 31);

    /// What a history of decisions suggests: the latest is in the lowest bit, and a one marks where
    /// they start.
    pub fn of_history(history: u8) -> Self {
        let mut bit = Self::NEW;
        let decisions = history.max(1).ilog2();
        (0..decisions).rev().for_each(|at| bit.update(history >> at & 1 == 1, COUNT_MASK));
        Self(bit.0 & !COUNT_MASK | Self::TRUST_IN_HISTORY)
    }

    /// The suggestion is worth so many decisions.
    const TRUST_IN_HISTORY: u32 = 6;

    /// The probability of `true`.
    pub fn p(self) -> Probability {
        Probability::new(self.0 >> 16)
    }

    /// Its logit, in 1 / 256.
    pub fn logit(self) -> i32 {
        stretch(self.p())
    }

    /// Decisions seen, up to the limit of the updates.
    pub fn count(self) -> u32 {
        self.0 & COUNT_MASK
    }

    /// Learns a decision. A greater `limit`, which must be below 1,023, forgets more slowly.
    pub fn update(&mut self, bit: bool, limit: u32) {
        let (p, n) = (i64::from(self.0 >> COUNT_BITS), self.count());
        let target = if bit { i64::from(u32::MAX >> COUNT_BITS) } else { 0 };
        let p = p + (target - p) * i64::from(RECIPROCAL[n as usize]) / (1 << 16);
        self.0 = (p as u32) << COUNT_BITS | (n + 1).min(limit);
    }
}

/// `2^16 / (n + 2)` of each count.
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
    fn it_is_the_estimate_of_its_formula() {
        let (mut bit, mut ones) = (AdaptiveBit::NEW, 0.0);
        for n in 0..300 {
            let expected = 65536.0 * (ones + 0.5) / (f64::from(n) + 1.0);
            assert!((f64::from(bit.p().get()) - expected).abs() < 20.0, "after {n}");
            assert_eq!(bit.count(), n);
            let seen = n % 7 < 2;
            bit.update(seen, 1000);
            ones += f64::from(u8::from(seen));
        }
    }

    #[test]
    fn it_follows_changes_and_stays_off_certainty() {
        let mut bit = AdaptiveBit::NEW;
        (0..10_000).for_each(|_| bit.update(true, 255));
        assert!(bit.p() > Probability::new(65_450) && bit.p() <= Probability::MAX);
        (0..3_000).for_each(|_| bit.update(false, 255));
        assert!(bit.p() < Probability::new(100) && bit.p() >= Probability::MIN);
        assert_eq!(bit.count(), 255);
    }
}
