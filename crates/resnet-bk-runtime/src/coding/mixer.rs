//! Logistic mixing as in PAQ (Mahoney 2005): several probabilities become one by a weighted sum of
//! their logits. The weights are learned while coding.
//!
//! ```text
//! p = squash(sum_i w_i x_i)             w_i <- w_i + rate (bit - p) x_i
//! ```
//!
//! The update is a step of gradient descent on the coding cost of the decision. Logits are in units
//! of 1 / 256, weights and errors in units of 1 / 2^16.

use super::logistic::{MAX_LOGIT, Probability};

/// A mixer with several sets of weights. A context selects the set for each decision.
#[derive(Clone, Debug)]
pub(super) struct Mixer<const INPUTS: usize> {
    weights: Vec<[i32; INPUTS]>,
}

/// Largest magnitude of a weight: 8, in 1 / 2^16. The bound keeps products from overflowing.
const MAX_WEIGHT: i32 = 8 << 16;

/// Largest learning rate, in 1 / 1,024. It keeps the update from overflowing.
const MAX_RATE: i32 = 64;

impl<const INPUTS: usize> Mixer<INPUTS> {
    /// A mixer with `sets` sets that all start with the given weights, in 1 / 2^16.
    pub fn new(sets: usize, weights: [i32; INPUTS]) -> Self {
        Self { weights: vec![weights; sets] }
    }

    /// The weighted sum of `logits`, in 1 / 256.
    pub fn mix(&self, set: usize, logits: &[i32; INPUTS]) -> i32 {
        // A product fits 32 bits. It is shifted by eight bits before it is added, so that the sum
        // fits too.
        let sum: i32 = self.weights[set].iter().zip(logits).map(|(&w, &x)| (w * x) >> 8).sum();
        (sum >> 8).clamp(-MAX_LOGIT, MAX_LOGIT)
    }

    /// Updates the weights after a decision that was coded with the probability `p`. `rate` is in
    /// units of 1/1,024 and at most [`MAX_RATE`].
    pub fn update(&mut self, set: usize, logits: &[i32; INPUTS], bit: bool, p: Probability, rate: i32) {
        debug_assert!(rate <= MAX_RATE);
        let error = (i32::from(bit) << 16) - p.get() as i32;
        let scaled_error = (error * rate) >> 4;
        for (w, &x) in self.weights[set].iter_mut().zip(logits) {
            *w = (*w + ((scaled_error * x + (1 << 13)) >> 14)).clamp(-MAX_WEIGHT, MAX_WEIGHT);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::logistic::squash;
    use super::*;

    #[test]
    fn weights_grow_for_informative_inputs_alone() {
        // Input 0 predicts the bit, input 1 predicts its opposite, input 2 is unrelated.
        let mut mixer = Mixer::new(2, [1 << 14; 3]);
        for index in 0..2_000u32 {
            let bit = index.wrapping_mul(0x9e37_79b9) >> 31 == 1;
            let sign = if bit { 1 } else { -1 };
            let logits = [400 * sign, -300 * sign, if index % 2 == 0 { 500 } else { -500 }];
            let p = squash(mixer.mix(1, &logits));
            mixer.update(1, &logits, bit, p, 8);
        }
        let [first, second, third] = mixer.weights[1];
        assert!(first > 1 << 16 && second < 0 && third.abs() < 1 << 14, "{:?}", mixer.weights[1]);
        assert_eq!(mixer.weights[0], [1 << 14; 3]);
    }

    #[test]
    fn mix_and_update_equal_their_formulas() {
        let mut mixer = Mixer::new(1, [0x8000, -0x4000]);
        assert_eq!(mixer.mix(0, &[1000, 200]), 450);
        mixer.update(0, &[256, -512], true, Probability::EVEN, 64);
        assert_eq!(mixer.weights[0], [0x8000 + 0x800, -0x4000 - 0x1000]);
    }

    #[test]
    fn extremes_do_not_overflow() {
        let mut mixer = Mixer::new(1, [MAX_WEIGHT; 32]);
        for logit in [MAX_LOGIT, -MAX_LOGIT] {
            let logits = [logit; 32];
            (0..1_000).for_each(|_| mixer.update(0, &logits, logit < 0, squash(mixer.mix(0, &logits)), MAX_RATE));
            assert!(mixer.mix(0, &logits).abs() <= MAX_LOGIT);
        }
    }
}
