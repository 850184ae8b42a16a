//! Entropy coding of the run that each sorted word belongs to, counted back from the last run.
//!
//! ```text
//! last run - run + 1 = 2^e + rest:  e in unary, rest in binary
//! ```
//!
//! Ids are in order of frequency, so the words of a run are about equally frequent. The contexts
//! use what predicts frequency: short words are frequent, words that others start with are
//! frequent, and a word and its stem have similar frequencies.

use super::super::range::{BitCoder, CodingError};
use super::list::WordList;
use super::predictor::{Predictor, context};

/// Codes `back[i]`, the number of runs after the run of sorted word `i`, and stores the coded value
/// in its place. No value is above `last`.
pub(super) fn code_runs<C: BitCoder>(
    coder: &mut C,
    list: &WordList,
    back: &mut [u32],
    last: u32,
) -> Result<(), CodingError> {
    let mut predictor = Predictor::new(list.len().saturating_mul(8), [32, 96]);
    // A stack of words that the current word starts with, each a prefix of the next.
    let mut stems: Vec<usize> = Vec::new();
    for at in 0..back.len() {
        let word = word(list, at);
        while stems.last().is_some_and(|&stem| !word.starts_with(self::word(list, stem))) {
            stems.pop();
        }
        let (contexts, set) = contexts(list, back, at, stems.last().copied());
        stems.push(at);

        let number = back[at] + 1;
        let most = (last + 1).ilog2();
        let mut e = 0;
        let set_of = |first: bool| if first { set } else { 32 + set };
        while e < most
            && predictor.code(coder, number.ilog2() > e, &contexts, (0, e), [e.min(15) as usize, set_of(e == 0)])?
        {
            e += 1;
        }
        let mut value = 1;
        for position in (0..e).rev() {
            let node = if value < 16 { (e + 1, value) } else { (64 + position, e) };
            let sets = [16 + e.min(15) as usize, 64 + set];
            let bit = predictor.code(coder, number >> position & 1 == 1, &contexts, node, sets)?;
            value = 2 * value + u32::from(bit);
        }
        back[at] = (value - 1).min(last);
    }
    Ok(())
}

fn word(list: &WordList, at: usize) -> &[u8] {
    list.get(at).unwrap_or_default()
}

/// Contexts for the run of a word, and a weight set below 32.
fn contexts(list: &WordList, back: &[u32], at: usize, stem: Option<usize>) -> ([u32; 10], usize) {
    let word = word(list, at);
    let shared = |other: Option<&[u8]>| {
        let same = |other: &[u8]| word.iter().zip(other).take(MAX_BYTES).take_while(|(a, b)| a == b).count();
        other.map_or(0, same)
    };
    let before = shared(at.checked_sub(1).and_then(|before| list.get(before)));
    let near = before.max(shared(list.get(at + 1)));
    let longer = |other: &usize| word.len() <= MAX_BYTES && self::word(list, *other).starts_with(word);
    let derived = usize::BITS - (at + 1..list.len().min(at + 17)).take_while(longer).count().leading_zeros();
    let class_at = |other: usize| 1 + u64::from(class(back[other]));
    let stem_class = stem.map_or(0, class_at);
    let stem_ending = stem.map_or(0, |stem| (word.len() - self::word(list, stem).len()).min(4));
    let previous_class = at.checked_sub(1).map_or(0, class_at);
    let kind = kind(word);
    let capital_class = capital(list, at, kind).map_or(0, class_at);
    let ending = |bytes: usize| word.iter().rev().take(bytes).fold(0, |ending, &byte| ending << 8 | u64::from(byte));
    let [derived, stem_ending, length, near, new] =
        [derived as usize, stem_ending, word.len().min(15), near.min(3), (word.len() - near).min(15)].map(|x| x as u64);
    let contexts = [
        context(0, &[]),
        context(1, &[kind, length]),
        context(2, &[kind, derived, length.min(9) / 2]),
        context(3, &[stem_class, stem_ending]),
        context(4, &[previous_class, near]),
        context(5, &[ending(2), kind]),
        context(6, &[ending(3), kind]),
        context(7, &[capital_class, kind, derived]),
        context(8, &[new, derived, kind]),
        context(9, &[capital_class, previous_class / 2, stem_class / 2]),
    ];
    (contexts, 8 * derived.min(3) as usize + kind as usize)
}

/// Largest number of bytes that are compared between words.
const MAX_BYTES: usize = 64;

/// Class of a number of runs: two per octave.
fn class(back: u32) -> u32 {
    let number = u64::from(back) + 1;
    let octave = number.ilog2();
    2 * octave + ((2 * number) >> octave & 1) as u32
}

/// Index of the same word with a capital first letter.
fn capital(list: &WordList, at: usize, kind: u64) -> Option<usize> {
    let word = word(list, at);
    if kind != LOWER || word.len() > MAX_BYTES {
        return None;
    }
    let mut capital = word.to_owned();
    capital[0].make_ascii_uppercase();
    list.find(0, &capital).filter(|&capital| capital < at)
}

const LOWER: u64 = 1;

/// Class of a word by its first characters, below 8.
fn kind(word: &[u8]) -> u64 {
    match word {
        [b'a'..=b'z', ..] => LOWER,
        [b'A'..=b'Z', b'A'..=b'Z', ..] => 2,
        [b'A'..=b'Z', ..] => 3,
        [b'0'..=b'9', ..] => 4,
        [128..=255, ..] => 5,
        _ => 0,
    }
}
