//! Several opinions, one probability: logistic regression that learns as it codes.
//!
//! ```text
//! p = squash(sum_i w_i x_i)             w_i <- w_i + rate (bit - p) x_i
//! ```
//!
//! which is gradient descent on what the decision costs. Logits are in 1 / 256, weights and errors
//! in 1 / 2^16.

use super::logistic::{MAX_LOGIT, Probability};

/// Sets of weights, one of which is chosen by a context.
#[derive(Clone, Debug)]
pub(super) struct Mixer<const INPUTS: usize> {
    weights: Vec<[i32; INPUTS]>,
}

/// Weights stay within ±8, so that no product overflows.
const MAX_WEIGHT: i32 = 8 << 16;

/// Greatest rate, for the same reason.
const MAX_RATE: i32 = 64;

impl<const INPUTS: usize> Mixer<INPUTS> {
    /// `sets` sets that begin with the same weights, in 1 / 2^16.
    pub fn new(sets: usize, weights: [i32; INPUTS]) -> Self {
        Self { weights: vec![weights; sets] }
    }

    /// The weighted sum of `logits`, in 1 / 256.
    pub fn mix(&self, set: usize, logits: &[i32; INPUTS]) -> i32 {
        // A product is within 2^31 and loses eight bits before it is added to the others.
        let sum: i32 = self.weights[set].iter().zip(logits).map(|(&w, &x)| (w * x) >> 8).sum();
        (sum >> 8).clamp(-MAX_LOGIT, MAX_LOGIT)
    }

    /// Learns from a decision that was given the probability `p`. `rate` is in 1 / 1,024 and at
    /// most [`MAX_RATE`].
    pub fn update(&mut self, set: usize, logits: &[i32; INPUTS], bit: bool, p: Probability, rate: i32) {
        debug_assert!(rate <= MAX_RATE);
        let error = (i32::from(bit) << 16) - p.get() as i32;
        let step = (error * rate) >> 4;
        for (w, &x) in self.weights[set].iter_mut().zip(logits) {
            *w = (*w + ((step * x + (1 << 13)) >> 14)).clamp(-MAX_WEIGHT, MAX_WEIGHT);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::logistic::squash;
    use super::*;

    #[test]
    fn it_learns_whom_to_trust() {
        // The first says the truth, the second its contrary, the third nothing that helps.
        let mut mixer = Mixer::new(2, [1 << 14; 3]);
        for step in 0..2_000u32 {
            let bit = step.wrapping_mul(0x9e37_79b9) >> 31 == 1;
            let sign = if bit { 1 } else { -1 };
            let logits = [400 * sign, -300 * sign, if step % 2 == 0 { 500 } else { -500 }];
            let p = squash(mixer.mix(1, &logits));
            mixer.update(1, &logits, bit, p, 8);
        }
        let [first, second, third] = mixer.weights[1];
        assert!(first > 1 << 16 && second < 0 && third.abs() < 1 << 14, "{:?}", mixer.weights[1]);
        assert_eq!(mixer.weights[0], [1 << 14; 3]);
    }

    #[test]
    fn it_is_its_formula() {
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
