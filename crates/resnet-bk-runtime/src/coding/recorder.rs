//! Decisions that are encoded later.
//!
//! The models of different tensors are independent, so they can run side by side. Only the range
//! coder needs the decisions of all tensors one after another.

use super::logistic::Probability;
use super::range::{BitCoder, CodingError, Encoder};

/// Records decisions and their probabilities, in four bytes each.
#[derive(Debug, Default)]
pub struct Recorder {
    /// The probability above the decision, which is the lowest bit.
    decisions: Vec<u32>,
}

impl Recorder {
    /// Encodes the recorded decisions.
    pub fn replay(&self, encoder: &mut Encoder) {
        encoder.code_all(self.decisions.iter().map(|decision| (decision & 1 == 1, Probability::new(decision >> 1))));
    }
}

impl BitCoder for Recorder {
    fn code(&mut self, bit: bool, p: Probability) -> Result<bool, CodingError> {
        self.decisions.push(p.get() << 1 | u32::from(bit));
        Ok(bit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replay_equals_direct_encoding() {
        let (mut recorder, mut direct) = (Recorder::default(), Encoder::new());
        for index in 0..10_000u32 {
            let (bit, p) = (index % 7 < 3, Probability::new(index.wrapping_mul(0x9e37_79b9) >> 16));
            recorder.code(bit, p).unwrap();
            direct.code(bit, p).unwrap();
        }
        let mut replayed = Encoder::new();
        recorder.replay(&mut replayed);
        assert_eq!(replayed.finish(), direct.finish());
    }
}
