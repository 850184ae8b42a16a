//! The encoder of the range coder.
//!
//! ```text
//! bit 0    range <- scale cut                                  scale = range / 2^16
//! bit 1    low <- low + scale cut    range <- scale p          cut   = 2^16 - p
//! range < 2^48:    write the highest word of low    low <- 2^16 low    range <- 2^16 range
//! ```
//!
//! If `low` exceeds 64 bits, the carry is added to the words that are already written. Only an
//! interval that contains 2^64 can still cause one. The words that a carry would change are then
//! not settled.

use super::super::logistic::Probability;
use super::{BitCoder, CodingError};

/// A smaller range is enlarged by one word.
const MIN_RANGE: u64 = 1 << 48;

/// Encodes decisions as bytes.
#[derive(Debug)]
pub struct Encoder {
    interval: Interval,
    words: Vec<u16>,
}

/// `[low, low + range)`, in the units of the words that are still to be written.
#[derive(Clone, Copy, Debug)]
struct Interval {
    low: u64,
    range: u64,
}

impl Default for Encoder {
    fn default() -> Self {
        Self { interval: Interval { low: 0, range: u64::MAX }, words: Vec::new() }
    }
}

impl Encoder {
    /// An encoder without any decisions.
    pub fn new() -> Self {
        Self::default()
    }

    /// Encodes decisions, each with the probability of `true`, one after another.
    pub fn code_all(&mut self, decisions: impl Iterator<Item = (bool, Probability)>) {
        // A copy, so that it can stay in registers.
        let mut interval = self.interval;
        decisions.for_each(|(bit, p)| interval.divide(bit, p, &mut self.words));
        self.interval = interval;
    }

    /// Bytes that further decisions do not change. At most as many as [`Encoder::finish`] returns.
    pub fn bytes_so_far(&self) -> u64 {
        let Interval { low, range } = self.interval;
        let unsettled = if low.wrapping_add(range) > low {
            0
        } else {
            // A carry would turn the words 0xffff to 0 and increment the word before them.
            1 + self.words.iter().rev().take_while(|&&word| word == u16::MAX).count()
        };
        2 * (self.words.len() - unsettled) as u64
    }

    /// The encoded bytes: an even number, or none if there were no decisions.
    pub fn finish(mut self) -> Vec<u8> {
        let Interval { low, range } = self.interval;
        // A division makes the range smaller, and enlarging it appends zeros.
        if range != u64::MAX {
            // The shortest number in the interval: its first word, and zeros that a reader adds. If
            // the interval ends in the same word, one zero is written, so that other words may
            // follow the number.
            let (point, carry) = low.overflowing_add(MIN_RANGE - 1);
            if carry {
                propagate_carry(&mut self.words);
            }
            let word = high_word(point);
            self.words.push(word);
            if high_word(low.wrapping_add(range)) == word {
                self.words.push(0);
            }
        }
        self.words.into_iter().flat_map(u16::to_le_bytes).collect()
    }
}

impl Interval {
    #[inline(always)]
    fn divide(&mut self, bit: bool, p: Probability, words: &mut Vec<u16>) {
        let scale = self.range >> 16;
        let cut = scale * u64::from(Probability::ONE - p.get());
        let (low, carry) = self.low.overflowing_add(if bit { cut } else { 0 });
        if carry {
            propagate_carry(words);
        }
        self.low = low;
        self.range = if bit { scale * u64::from(p.get()) } else { cut };
        if self.range < MIN_RANGE {
            words.push(high_word(self.low));
            self.low <<= 16;
            self.range <<= 16;
        }
    }
}

fn high_word(number: u64) -> u16 {
    (number >> 48) as u16
}

/// Adds one to the number that the words are.
#[cold]
fn propagate_carry(words: &mut [u16]) {
    for word in words.iter_mut().rev() {
        *word = word.wrapping_add(1);
        if *word != 0 {
            return;
        }
    }
}

impl BitCoder for Encoder {
    #[inline]
    fn code(&mut self, bit: bool, p: Probability) -> Result<bool, CodingError> {
        self.interval.divide(bit, p, &mut self.words);
        Ok(bit)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Decision;
    use super::*;
    use constriction::stream::Encode;
    use constriction::stream::queue::RangeEncoder;
    use proptest::prelude::*;

    /// Encodes with this encoder and with that of constriction, and compares after each decision.
    fn assert_equals_constriction(decisions: &[(bool, Probability)]) {
        let (mut encoder, mut reference) = (Encoder::new(), RangeEncoder::<u16, u64>::default());
        for &(bit, p) in decisions {
            encoder.code(bit, p).unwrap();
            reference.encode_symbol(bit, Decision(p)).unwrap();
            assert_eq!(encoder.bytes_so_far(), 2 * reference.bulk().len() as u64);
        }
        let words: Vec<u16> = reference.into();
        let expected: Vec<u8> = words.into_iter().flat_map(u16::to_le_bytes).collect();
        let mut at_once = Encoder::new();
        at_once.code_all(decisions.iter().copied());
        assert_eq!((encoder.finish(), at_once.finish()), (expected.clone(), expected));
    }

    #[test]
    fn long_carries_equal_those_of_constriction() {
        // Decisions that stay as close below or above the middle of the interval as possible.
        for first in [false, true] {
            for length in [1, 16, 100, 1000] {
                let p = if first { Probability::MIN } else { Probability::MAX };
                for last in [false, true] {
                    let mut decisions = vec![(first, Probability::EVEN)];
                    decisions.extend(vec![(!first, p); length]);
                    decisions.extend(vec![(!first, Probability::EVEN); length]);
                    decisions.extend(vec![(last, Probability::EVEN); 3]);
                    assert_equals_constriction(&decisions);
                }
            }
        }
    }

    proptest! {
        #[test]
        fn any_decisions_equal_those_of_constriction(
            raw in proptest::collection::vec((any::<bool>(), any::<u16>()), 0..600),
        ) {
            let likely: Vec<_> =
                raw.iter().map(|&(bit, p)| (bit, Probability::new(if bit { p | 0xff00 } else { p & 0xff }.into()))).collect();
            let any: Vec<_> = raw.into_iter().map(|(bit, p)| (bit, Probability::new(p.into()))).collect();
            assert_equals_constriction(&any);
            assert_equals_constriction(&likely);
        }
    }
}
