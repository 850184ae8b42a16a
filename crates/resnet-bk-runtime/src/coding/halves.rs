//! Entropy coding of half-precision numbers as 16-bit patterns.
//!
//! ```text
//! high byte (sign, exponent, 2 bits of the mantissa)   context: the high byte of the number before
//! low byte (8 bits of the mantissa)                    context: the high byte of the same number
//! ```
//!
//! A byte is eight binary decisions, the highest bit first. Each decision mixes an order-0
//! estimate, without context, and an order-1 estimate, in the context.

use super::adaptive::AdaptiveProbability;
use super::logistic::squash;
use super::mixer::Mixer;
use super::range::{BitCoder, CodingError, Decoder, Encoder};
use std::ops::Range;

#[cfg(feature = "rayon")]
mod parallel;

/// Encodes the bit patterns of half-precision numbers. An empty list costs nothing. With the
/// feature `rayon`, a long list is encoded on several threads, to the same bytes.
pub fn encode_halves(halves: &[u16], encoder: &mut Encoder) {
    #[cfg(feature = "rayon")]
    if halves.len() > parallel::BATCH {
        return parallel::encode(halves, encoder);
    }
    encode_on_one_thread(halves, encoder);
}

fn encode_on_one_thread(halves: &[u16], encoder: &mut Encoder) {
    code_halves(&mut halves.to_vec(), encoder).expect("encoders do not fail");
}

/// Decodes `len` numbers.
///
/// # Errors
/// If the bytes end before the numbers do. If they cannot hold so many numbers, nothing is
/// allocated.
pub fn decode_halves(len: usize, decoder: &mut Decoder<'_>) -> Result<Vec<u16>, CodingError> {
    decoder.check_decisions(16 * len as u64)?;
    let mut halves = vec![0; len];
    code_halves(&mut halves, decoder)?;
    Ok(halves)
}

fn code_halves<C: BitCoder>(halves: &mut [u16], coder: &mut C) -> Result<(), CodingError> {
    let (mut high, mut low) = (Byte::new(), Byte::new());
    let mut previous = 0;
    for half in halves {
        let [h, l] = half.to_be_bytes();
        let h = high.code(coder, h, previous)?;
        *half = u16::from_be_bytes([h, low.code(coder, l, h)?]);
        previous = h;
    }
    Ok(())
}

/// Codes bytes, each in the context of another byte.
struct Byte {
    order0: Vec<AdaptiveProbability>,
    order1: Vec<AdaptiveProbability>,
    mixer: Mixer<2>,
}

impl Byte {
    fn new() -> Self {
        let (order0, order1) = (vec![AdaptiveProbability::NEW; 1 << 8], vec![AdaptiveProbability::NEW; 1 << 16]);
        Self { order0, order1, mixer: Mixer::new(8, [3 << 14, 1 << 14]) }
    }

    fn code<C: BitCoder>(&mut self, coder: &mut C, byte: u8, context: u8) -> Result<u8, CodingError> {
        self.code_bits(coder, byte, context, 0..8).map(|node| node as u8)
    }

    /// Codes the bits at `positions`, where 0 is the lowest one. The bits above them are known.
    /// Returns all bits so far, with a leading one that marks their start.
    #[inline]
    fn code_bits<C: BitCoder>(
        &mut self,
        coder: &mut C,
        byte: u8,
        context: u8,
        positions: Range<usize>,
    ) -> Result<usize, CodingError> {
        let mut node = (1 << 8 | usize::from(byte)) >> positions.end;
        for position in positions.rev() {
            let (order0, order1) = (&mut self.order0[node], &mut self.order1[usize::from(context) << 8 | node]);
            let logits = [order0.logit(), order1.logit()];
            let p = squash(self.mixer.mix(position, &logits));
            let bit = coder.code(byte >> position & 1 == 1, p)?;
            self.mixer.update(position, &logits, bit, p, 4);
            order0.update(bit, 250);
            order1.update(bit, 250);
            node = 2 * node + usize::from(bit);
        }
        Ok(node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::f16;
    use proptest::prelude::*;

    fn round_trip(halves: &[u16]) -> usize {
        let mut encoder = Encoder::new();
        encode_halves(halves, &mut encoder);
        let bytes = encoder.finish();
        let mut decoder = Decoder::new(&bytes).unwrap();
        assert_eq!(decode_halves(halves.len(), &mut decoder).unwrap(), halves);
        assert_eq!(decoder.finish(), Ok(()));
        bytes.len()
    }

    #[test]
    fn awkward_lengths_round_trip() {
        for len in [0, 1, 15, 16, 17, 33, 1000] {
            for value in [0, 0x3c00, u16::MAX] {
                let bytes = round_trip(&vec![value; len]);
                assert!(bytes <= 8 + len / 8, "{len} equal numbers take {bytes} bytes");
            }
            round_trip(&(0..len).map(|i| (i * 40_503) as u16).collect::<Vec<_>>());
        }
    }

    #[test]
    fn several_threads_write_the_bytes_of_one() {
        // Weights of a model: the upper halves of their float32 numbers.
        let weight = |i: u32| (0.05 * (i as f32 * 12.9898).sin() * (i as f32 * 0.37).cos()).to_bits();
        for len in [(1 << 14) - 1, 1 << 14, (1 << 14) + 1, 1 << 15, 100_000] {
            for shift in [16, 0] {
                let halves: Vec<u16> = (0..len).map(|i| (weight(i) >> shift) as u16).collect();
                let encoded = |encode: fn(&[u16], &mut Encoder)| {
                    let mut encoder = Encoder::new();
                    // The state of the coder at the start must not matter.
                    encode_on_one_thread(&[1, 2, 3], &mut encoder);
                    encode(&halves, &mut encoder);
                    (encoder.bytes_so_far(), encoder.finish())
                };
                assert!(encoded(encode_halves) == encoded(encode_on_one_thread), "{len} numbers, shift {shift}");
            }
        }
    }

    #[test]
    fn scales_of_one_magnitude_cost_little_more_than_their_mantissas() {
        let scales: Vec<u16> =
            (0..2000).map(|i| f16::from_f32(0.02 + 0.01 * (i as f32 * 12.9898).sin()).to_bits()).collect();
        let bytes = round_trip(&scales);
        assert!(bytes < 2 * 2000 * 3 / 4, "{bytes} bytes");
    }

    #[test]
    fn more_numbers_than_the_bytes_can_hold_are_refused() {
        let mut decoder = Decoder::new(b"some bytes").unwrap();
        assert_eq!(decode_halves(usize::MAX / 16, &mut decoder), Err(CodingError::Truncated));
        assert_eq!(decode_halves(1000, &mut decoder), Err(CodingError::Truncated));
    }

    proptest! {
        #[test]
        fn any_numbers_round_trip(halves in proptest::collection::vec(any::<u16>(), 0..300)) {
            round_trip(&halves);
        }
    }
}
