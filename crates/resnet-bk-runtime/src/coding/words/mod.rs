//! Entropy coding of a list of words, such as a vocabulary.
//!
//! ```text
//! ids       , the | of | and in | a to | ...      ascending runs
//! sorted    ,  a  and  in  of  the  to            spelling.rs: each word in the context of the one before
//! runs      0  3  2    2   1   0    3             order.rs: the run that each word belongs to
//! ```
//!
//! The words are coded in sorted order, because then most words share a prefix with the word
//! before. To restore the original order, the list is divided into ascending runs, and the run of
//! each word is coded. Within a run the order is known.
//!
//! In a vocabulary, words of equal frequency are sorted, so they form a run. For `V` words in order
//! of frequency the runs cost less than half of `log2 V!` bits. A list in any other order
//! round-trips too, at a higher cost.

mod alphabet;
mod capitals;
mod list;
mod order;
mod predictor;
mod spelling;

use super::logistic::Probability;
use super::range::{BitCoder, CodingError, Decoder, Encoder};
use list::WordList;
use spelling::Speller;
use std::cmp::Reverse;

/// Limit on the decoded size: at most this many bytes of words per coded byte, plus a constant. A
/// list of real words has about four bytes per coded byte. Longer lists are refused before they
/// fill the memory.
const MAX_BYTES_PER_CODED_BYTE: u64 = 1 << 10;
const MAX_EXTRA_BYTES: u64 = 1 << 16;

/// Encodes words. They may be equal or empty. An empty list costs nothing.
///
/// # Panics
/// If there are 2^32 words or more.
pub fn encode_words(words: &[String], encoder: &mut Encoder) {
    assert!(u32::try_from(words.len()).is_ok(), "{} words", words.len());
    let runs = runs(words);
    let Some(&last) = runs.last() else { return };
    let mut sorted: Vec<usize> = (0..words.len()).collect();
    sorted.sort_by_key(|&id| &words[id]);
    let mut back: Vec<u32> = sorted.iter().map(|&id| last - runs[id]).collect();
    let spelled = sorted.iter().map(|&id| words[id].as_bytes());
    let coded = code_number(encoder, last)
        .and_then(|_| spell(encoder, spelled, u64::MAX))
        .and_then(|list| order::code_runs(encoder, &list, &mut back, last));
    coded.expect("encoders do not fail");
}

/// Decodes `count` words, as bytes that are not necessarily UTF-8.
///
/// # Errors
/// If the bytes end before the words do, or are not the output of an encoder. If they cannot hold
/// so many words, nothing is allocated.
pub fn decode_words(count: usize, decoder: &mut Decoder<'_>) -> Result<Vec<Vec<u8>>, CodingError> {
    if count == 0 {
        return Ok(Vec::new());
    }
    decoder.check_decisions(count as u64)?;
    let max_bytes = max_word_bytes(decoder.bytes());
    let last = code_number(decoder, 0)?;
    if u64::from(last) >= count as u64 {
        return Err(CodingError::Invalid);
    }
    let list = spell(decoder, std::iter::repeat_n(&[][..], count), max_bytes)?;
    let mut back = vec![0; count];
    order::code_runs(decoder, &list, &mut back, last)?;
    let mut ids: Vec<usize> = (0..count).collect();
    ids.sort_by_key(|&at| Reverse(back[at]));
    Ok(ids.into_iter().map_while(|at| list.get(at)).map(<[u8]>::to_vec).collect())
}

/// Largest total length of the words that `coded` coded bytes may hold, in bytes.
pub fn max_word_bytes(coded: u64) -> u64 {
    coded.saturating_mul(MAX_BYTES_PER_CODED_BYTE).saturating_add(MAX_EXTRA_BYTES)
}

/// Codes sorted words of at most `max_bytes` bytes in total, and returns the coded ones.
fn spell<'a, C: BitCoder>(
    coder: &mut C,
    words: impl ExactSizeIterator<Item = &'a [u8]>,
    max_bytes: u64,
) -> Result<WordList, CodingError> {
    let mut speller = Speller::new(words.len(), max_bytes);
    for word in words {
        speller.code(coder, word)?;
    }
    Ok(speller.list)
}

/// Codes a number of unknown size, in about twice its number of bits.
fn code_number<C: BitCoder>(coder: &mut C, number: u32) -> Result<u32, CodingError> {
    let mut bits = 0;
    while bits < u32::BITS && coder.code(number.checked_shr(bits).unwrap_or(0) > 0, Probability::EVEN)? {
        bits += 1;
    }
    let mut value = 0;
    for position in (0..bits).rev() {
        value = value << 1 | u32::from(coder.code(number >> position & 1 == 1, Probability::EVEN)?);
    }
    Ok(value)
}

/// The number of the ascending run that each word belongs to.
fn runs(words: &[String]) -> Vec<u32> {
    let starts = words.windows(2).map(|pair| u32::from(pair[0] >= pair[1]));
    let mut run = 0;
    let first = (!words.is_empty()).then_some(0);
    first
        .into_iter()
        .chain(starts.map(|start| {
            run += start;
            run
        }))
        .collect()
}

#[cfg(test)]
mod tests;
