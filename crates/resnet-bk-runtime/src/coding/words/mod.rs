//! Lists of words: spelled in sorted order, and then put in order.
//!
//! ```text
//! ids       the , of | and in | a to | ...        a run ascends; words that are equally frequent make one
//! sorted    ,  a  and  in  of  the  to            spelling.rs: each after the one before
//! runs      0  2  1    1   0   0    2             order.rs: which run each belongs to
//! ```
//!
//! Within a run the order is known, so the runs tell all of it: for `V` words in the order of their
//! frequency that is less than half of `log2 V!` bits. A list in any order comes back, at the cost
//! of its disorder.

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

/// Most bytes of words for each coded byte, and beside them: a list of real words has about four.
/// Longer ones are refused before they fill the memory.
const MOST_PER_BYTE: u64 = 1 << 10;
const MOST_BESIDE: u64 = 1 << 16;

/// Codes words, of which some may be equal or empty. No words cost nothing.
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

/// The `count` words that were coded, as bytes that may or may not be UTF-8.
///
/// # Errors
/// If the bytes end before the words do, or no encoder writes such bytes. A count that the bytes
/// could not hold is refused before anything is allocated for it.
pub fn decode_words(count: usize, decoder: &mut Decoder<'_>) -> Result<Vec<Vec<u8>>, CodingError> {
    if count == 0 {
        return Ok(Vec::new());
    }
    decoder.check_decisions(count as u64)?;
    let most = most_bytes(decoder.bytes());
    let last = code_number(decoder, 0)?;
    if u64::from(last) >= count as u64 {
        return Err(CodingError::Invalid);
    }
    let list = spell(decoder, std::iter::repeat_n(&[][..], count), most)?;
    let mut back = vec![0; count];
    order::code_runs(decoder, &list, &mut back, last)?;
    let mut ids: Vec<usize> = (0..count).collect();
    ids.sort_by_key(|&at| Reverse(back[at]));
    Ok(ids.into_iter().map_while(|at| list.get(at)).map(<[u8]>::to_vec).collect())
}

/// Bytes of words that so many coded bytes may hold; more are refused.
pub fn most_bytes(coded: u64) -> u64 {
    coded.saturating_mul(MOST_PER_BYTE).saturating_add(MOST_BESIDE)
}

/// Codes sorted words of `most` bytes together at most, and returns those that were coded.
fn spell<'a, C: BitCoder>(
    coder: &mut C,
    words: impl ExactSizeIterator<Item = &'a [u8]>,
    most: u64,
) -> Result<WordList, CodingError> {
    let mut speller = Speller::new(words.len(), most);
    for word in words {
        speller.code(coder, word)?;
    }
    Ok(speller.list)
}

/// A number whose size is not known, in about twice its bits.
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

/// The ascending run that each word belongs to.
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
