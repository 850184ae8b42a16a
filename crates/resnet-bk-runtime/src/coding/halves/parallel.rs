//! Encodes half-precision numbers on several threads, with the bytes of one thread.
//!
//! ```text
//! batch i + 1     bits 15-12   bits 11-8   bits 7-4   bits 3-0      four models, side by side
//!                      |            |          |          |
//! batch i              '------ probabilities --'----------'-> range coder      at the same time
//! ```
//!
//! Each bit of a byte has estimates and weights of its own. An encoder knows all bits, so the
//! models of different bits do not have to wait for each other.

use super::super::logistic::Probability;
use super::super::range::{BitCoder, CodingError, Encoder};
use super::Byte;
use rayon::prelude::*;
use std::ops::Range;

/// Numbers of a batch.
pub(super) const BATCH: usize = 1 << 14;
/// Bits that a model predicts.
const BITS: usize = 4;

/// The model of four bits of the numbers.
struct Predictor {
    model: Byte,
    /// Whether the bits are in the high byte.
    is_high: bool,
    /// The bits of the byte.
    positions: Range<usize>,
    probabilities: Probabilities,
}

/// Probabilities of the decisions of a batch.
#[derive(Default)]
struct Probabilities(Vec<Probability>);

impl BitCoder for Probabilities {
    fn code(&mut self, bit: bool, p: Probability) -> Result<bool, CodingError> {
        self.0.push(p);
        Ok(bit)
    }
}

pub(super) fn encode(halves: &[u16], encoder: &mut Encoder) {
    let mut predictors = [(true, 4..8), (true, 0..4), (false, 4..8), (false, 0..4)].map(Predictor::new);
    let mut predicted: [Probabilities; 4] = Default::default();
    let batches: Vec<&[u16]> = halves.chunks(BATCH).collect();
    // One turn more than there are batches: a batch is predicted in one turn and written in the
    // next.
    for turn in 0..=batches.len() {
        let batch = batches.get(turn).copied().unwrap_or_default();
        let before = turn.checked_sub(1).map(|turn| batches[turn]).unwrap_or_default();
        let previous = before.last().map_or(0, |half| half.to_be_bytes()[0]);
        rayon::join(
            || write(before, &predicted, encoder),
            || predictors.par_iter_mut().for_each(|predictor| predictor.predict(batch, previous)),
        );
        for (predictor, predicted) in predictors.iter_mut().zip(&mut predicted) {
            std::mem::swap(&mut predictor.probabilities, predicted);
        }
    }
}

impl Predictor {
    fn new((is_high, positions): (bool, Range<usize>)) -> Self {
        Self { model: Byte::new(), is_high, positions, probabilities: Probabilities::default() }
    }

    /// Predicts the bits of a batch. `previous` is the high byte of the number before it.
    fn predict(&mut self, batch: &[u16], mut previous: u8) {
        self.probabilities.0.clear();
        for half in batch {
            let [high, low] = half.to_be_bytes();
            let (byte, context) = if self.is_high { (high, previous) } else { (low, high) };
            let coded = self.model.code_bits(&mut self.probabilities, byte, context, self.positions.clone());
            coded.expect("recording does not fail");
            previous = high;
        }
    }
}

/// Encodes a batch with the given probabilities of its bits.
fn write(batch: &[u16], predicted: &[Probabilities; 4], encoder: &mut Encoder) {
    let [a, b, c, d] = predicted.each_ref().map(|predicted| predicted.0.as_chunks::<BITS>().0);
    let numbers = batch.iter().zip(a).zip(b).zip(c).zip(d);
    encoder.code_all(numbers.flat_map(|((((&half, a), b), c), d)| {
        let probabilities = [*a, *b, *c, *d];
        (0..16).map(move |index| (half >> (15 - index) & 1 == 1, probabilities[index / BITS][index % BITS]))
    }));
}
