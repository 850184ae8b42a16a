//! A range coder for binary decisions (Martin 1979).
//!
//! ```text
//! [low, low + range) is divided at P(0); the part of the decision becomes the new interval
//!
//!      |<------------- P(0) ------------->|<------ P(1) ------>|
//!     low                                                  low + range
//! ```
//!
//! A decision of probability `p` costs `-log2 p` bits. [`constriction`]'s range coder keeps the
//! interval in 64 bits of state. At least 48 bits of range are left, so the loss by rounding is
//! negligible. The output is 16-bit little-endian words. Decoding is constriction's; `encoder.rs` writes
//! the same words as its encoder does, with less work for each decision.

mod encoder;

pub use encoder::Encoder;

use super::logistic::Probability;
use constriction::backends::ReadWords;
use constriction::stream::Decode;
use constriction::stream::model::{DecoderModel, EncoderModel, EntropyModel};
use constriction::stream::queue::RangeDecoder;
use constriction::{CoderError, Queue};
use std::borrow::Borrow;
use std::num::NonZeroU16;
use thiserror::Error;

/// Why coded bytes cannot be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CodingError {
    /// The decoder needs more bytes than there are.
    #[error("the coded data is truncated")]
    Truncated,
    /// Bytes follow after the last one that the decisions needed.
    #[error("there are extra bytes after the coded data")]
    TrailingBytes,
    /// The bytes are not the output of an encoder.
    #[error("the coded data is not the output of an encoder")]
    Invalid,
}

/// Codes binary decisions: to bytes in an encoder, from bytes in a decoder. A model that is generic
/// over this trait decodes what it encodes.
pub trait BitCoder {
    /// Codes a decision that is `true` with probability `p`, and returns the decision. A decoder
    /// ignores `bit`.
    ///
    /// # Errors
    /// If the bytes of a decoder end before the decision. Encoders do not fail.
    fn code(&mut self, bit: bool, p: Probability) -> Result<bool, CodingError>;
}

/// Decodes decisions from bytes.
#[derive(Debug)]
pub struct Decoder<'a> {
    ranges: RangeDecoder<u16, u64, Words<'a>>,
    bytes: u64,
}

impl<'a> Decoder<'a> {
    /// A decoder for what [`Encoder::finish`] returned.
    ///
    /// # Errors
    /// Currently none. Invalid bytes are found while decoding.
    pub fn new(bytes: &'a [u8]) -> Result<Self, CodingError> {
        let ranges = RangeDecoder::with_backend(Words { bytes, taken: 0 })?;
        Ok(Self { ranges, bytes: bytes.len() as u64 })
    }

    /// Total number of bytes to decode.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Checks that the bytes can hold `decisions` decisions. Callers check before they allocate
    /// memory for them.
    ///
    /// # Errors
    /// [`CodingError::Truncated`] if there are too few bytes.
    pub fn check_decisions(&self, decisions: u64) -> Result<(), CodingError> {
        if decisions <= max_decisions(self.bytes) { Ok(()) } else { Err(CodingError::Truncated) }
    }

    /// Checks that the decisions used all bytes.
    ///
    /// # Errors
    /// If there are bytes after the end, or bytes are missing.
    pub fn finish(self) -> Result<(), CodingError> {
        let (Words { bytes, taken }, state, _) = self.ranges.into_raw_parts();
        // Without decisions the range is still full, and there are no bytes. Otherwise the encoder
        // ended with one or two words, while the decoder has read a whole state ahead.
        let no_decisions = state.range().get() == u64::MAX && taken == STATE_WORDS;
        let (min_words, max_words) =
            if no_decisions { (0, 0) } else { (taken - STATE_WORDS + 1, taken - STATE_WORDS + 2) };
        match bytes.len() {
            len if len < 2 * min_words => Err(CodingError::Truncated),
            len if len > 2 * max_words => Err(CodingError::TrailingBytes),
            len if len % 2 == 1 => Err(CodingError::Invalid),
            _ => Ok(()),
        }
    }
}

impl BitCoder for Decoder<'_> {
    fn code(&mut self, _: bool, p: Probability) -> Result<bool, CodingError> {
        self.ranges.decode_symbol(Decision(p)).map_err(|error| match error {
            CoderError::Frontend(_) => CodingError::Invalid,
            CoderError::Backend(error) => error,
        })
    }
}

/// Largest number of decisions that `bytes` bytes can hold. One costs at least `-log2(1 - 2^-12)`
/// bits, because no probability is above [`Probability::MAX`].
fn max_decisions(bytes: u64) -> u64 {
    // 8 ln 2 * 2^12 = 22,713.05. The end may omit up to one state, 8 bytes.
    (bytes + 8).saturating_mul(22_714)
}

/// Words in the state of the decoder, which reads that far ahead.
const STATE_WORDS: usize = 4;

/// Reads little-endian words. After the end it returns as many zeros as a valid file needs.
#[derive(Debug)]
struct Words<'a> {
    bytes: &'a [u8],
    taken: usize,
}

impl ReadWords<u16, Queue> for Words<'_> {
    type ReadError = CodingError;

    fn read(&mut self) -> Result<Option<u16>, CodingError> {
        let at = 2 * self.taken;
        let byte = |at| self.bytes.get(at).copied().unwrap_or(0);
        if at >= self.bytes.len() + 2 * STATE_WORDS {
            return Err(CodingError::Truncated);
        }
        self.taken += 1;
        Ok(Some(u16::from_le_bytes([byte(at), byte(at + 1)])))
    }
}

/// A decision that is `true` with a given probability.
#[derive(Clone, Copy)]
struct Decision(Probability);

impl Decision {
    /// Where the interval is divided, in 1 / 2^16 of its length. Never 0 or 1.
    fn cut(self) -> u16 {
        (Probability::ONE - self.0.get()) as u16
    }
}

impl EntropyModel<16> for Decision {
    type Symbol = bool;
    type Probability = u16;
}

impl EncoderModel<16> for Decision {
    fn left_cumulative_and_probability(&self, bit: impl Borrow<bool>) -> Option<(u16, NonZeroU16)> {
        let cut = self.cut();
        let (start, width) = if *bit.borrow() { (cut, cut.wrapping_neg()) } else { (0, cut) };
        NonZeroU16::new(width).map(|width| (start, width))
    }
}

impl DecoderModel<16> for Decision {
    fn quantile_function(&self, quantile: u16) -> (bool, u16, NonZeroU16) {
        let bit = quantile >= self.cut();
        let (start, width) = self.left_cumulative_and_probability(bit).expect("a probability is neither 0 nor 1");
        (bit, start, width)
    }
}

/// A coder for tests that sums `-log2 p` over the decisions: the ideal length.
#[cfg(test)]
#[derive(Debug, Default)]
pub(super) struct Meter {
    pub bits: f64,
}

#[cfg(test)]
impl BitCoder for Meter {
    fn code(&mut self, bit: bool, p: Probability) -> Result<bool, CodingError> {
        let p = f64::from(p.get()) / f64::from(Probability::ONE);
        self.bits -= if bit { p } else { 1.0 - p }.log2();
        Ok(bit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encode(decisions: &[(bool, Probability)]) -> Vec<u8> {
        let mut encoder = Encoder::new();
        decisions.iter().for_each(|&(bit, p)| assert_eq!(encoder.code(bit, p), Ok(bit)));
        encoder.finish()
    }

    fn assert_round_trip(decisions: &[(bool, Probability)]) {
        let bytes = encode(decisions);
        let mut meter = Meter::default();
        let mut decoder = Decoder::new(&bytes).unwrap();
        for &(bit, p) in decisions {
            meter.code(bit, p).unwrap();
            assert_eq!(decoder.code(false, p), Ok(bit));
        }
        assert_eq!(decoder.finish(), Ok(()));
        let waste = 8.0 * bytes.len() as f64 - meter.bits;
        assert!((-1.0..=33.0).contains(&waste), "{} bytes for {} bits", bytes.len(), meter.bits);
    }

    #[test]
    fn decisions_round_trip_at_awkward_lengths() {
        for len in [0, 1, 2, 15, 16, 17, 33, 1000] {
            for p in [Probability::MIN, Probability::EVEN, Probability::MAX] {
                for bit in [false, true] {
                    assert_round_trip(&vec![(bit, p); len]);
                }
                assert_round_trip(&(0..len).map(|i| (i % 3 == 0, p)).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn the_bound_on_decisions_holds_and_is_tight() {
        let count = 1 << 20;
        let bytes = encode(&vec![(true, Probability::MAX); count]).len() as u64;
        assert!(count as u64 <= max_decisions(bytes));
        assert!(count as u64 > max_decisions(bytes) / 2, "{bytes} bytes: the bound is loose");
    }

    #[test]
    fn a_decoder_stops_soon_after_its_last_byte() {
        for bytes in [&b""[..], b"\x01", b"\xff\xff\xff\xff", b"some bytes"] {
            let mut decoder = Decoder::new(bytes).unwrap();
            let most = 8 * (bytes.len() + 9);
            let coded = (0..).take_while(|_| decoder.code(false, Probability::EVEN).is_ok()).take(most + 1).count();
            assert!(coded <= most, "{} bytes gave {coded} bits", bytes.len());
        }
    }

    #[test]
    fn trailing_bytes_are_refused() {
        for decisions in [0, 1, 100] {
            let decisions = vec![(true, Probability::EVEN); decisions];
            let mut bytes = encode(&decisions);
            bytes.extend([0; 6]);
            let mut decoder = Decoder::new(&bytes).unwrap();
            decisions.iter().for_each(|&(_, p)| assert_eq!(decoder.code(false, p), Ok(true)));
            assert_eq!(decoder.finish(), Err(CodingError::TrailingBytes));
        }
    }

    #[test]
    fn missing_bytes_are_detected() {
        let decisions = vec![(false, Probability::EVEN); 100];
        let bytes = encode(&decisions);
        for length in 0..bytes.len() - 2 {
            let mut decoder = Decoder::new(&bytes[..length]).unwrap();
            let decoded = decisions.iter().try_for_each(|&(_, p)| decoder.code(false, p).map(|_| ()));
            assert_eq!(decoded.and_then(|()| decoder.finish()), Err(CodingError::Truncated), "{length} bytes");
        }
    }

    proptest! {
        #[test]
        fn any_decisions_round_trip(raw in proptest::collection::vec((any::<bool>(), any::<u16>()), 0..600)) {
            let decisions: Vec<_> = raw.into_iter().map(|(bit, p)| (bit, Probability::new(p.into()))).collect();
            assert_round_trip(&decisions);
        }

        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..40), p in any::<u16>()) {
            let mut decoder = Decoder::new(&bytes).unwrap();
            for _ in 0..1000 {
                if decoder.code(false, Probability::new(p.into())).is_err() {
                    break;
                }
            }
            let _ = decoder.finish();
        }
    }
}
