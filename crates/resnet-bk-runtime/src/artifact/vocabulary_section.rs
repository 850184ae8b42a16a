//! The VOCABULARY section: the words in the order of their ids, which is that of their frequencies.
//!
//! ```text
//! u32 number of words, then the coded words (coding/words/)
//! ```

use super::error::ArtifactError;
use super::section::Section;
use crate::coding::words::{decode_words, encode_words, max_word_bytes};
use crate::coding::{CodingError, Decoder, Encoder};

/// The bytes of the section.
pub(super) fn encode(words: &[String], vocab_size: usize) -> Result<Vec<u8>, ArtifactError> {
    check_size(words.len(), vocab_size)?;
    let mut out = (words.len() as u32).to_le_bytes().to_vec();
    let mut encoder = Encoder::new();
    encode_words(words, &mut encoder);
    let coded = encoder.finish();
    if words.iter().map(|word| word.len() as u64).sum::<u64>() > max_word_bytes(coded.len() as u64) {
        let (index, _) = words.iter().enumerate().max_by_key(|(_, word)| word.len()).expect("some word is long");
        return Err(ArtifactError::Word { index, fault: "longer than a word of any text" });
    }
    out.extend(coded);
    Ok(out)
}

/// The words as stored; whether they make a vocabulary is for
/// [`Vocabulary::new`](crate::tokenizer::Vocabulary::new).
pub(super) fn decode(bytes: &[u8], vocab_size: usize) -> Result<Vec<String>, ArtifactError> {
    let (count, coded) = bytes.split_first_chunk().ok_or(undecodable(CodingError::CutOff))?;
    check_size(u32::from_le_bytes(*count) as usize, vocab_size)?;
    let words = decode_coded(coded, vocab_size).map_err(undecodable)?;
    let word = |(index, word)| String::from_utf8(word).map_err(|_| ArtifactError::Word { index, fault: "not UTF-8" });
    words.into_iter().enumerate().map(word).collect()
}

fn decode_coded(coded: &[u8], count: usize) -> Result<Vec<Vec<u8>>, CodingError> {
    let mut decoder = Decoder::new(coded)?;
    let words = decode_words(count, &mut decoder)?;
    decoder.finish()?;
    Ok(words)
}

/// Checks that the vocabulary has as many words as the architecture says.
pub(super) fn check_size(found: usize, expected: usize) -> Result<(), ArtifactError> {
    if found == expected { Ok(()) } else { Err(ArtifactError::VocabularySize { found, expected }) }
}

fn undecodable(source: CodingError) -> ArtifactError {
    ArtifactError::Coding { section: Section::Vocabulary, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words() -> Vec<String> {
        ["the", "", ",", "a\nb", "na\u{ef}ve", "\u{1f600}", &"long".repeat(50), &"x".repeat(20_000)]
            .map(String::from)
            .into()
    }

    #[test]
    fn words_out_of_proportion_are_refused_on_the_way_in_and_out() {
        let bomb: Vec<String> = (1..2_000).map(|length| "x".repeat(length)).collect();
        assert!(encode(&bomb, bomb.len()).is_err());
        let mut encoder = Encoder::new();
        encode_words(&bomb, &mut encoder);
        let mut bytes = (bomb.len() as u32).to_le_bytes().to_vec();
        bytes.extend(encoder.finish());
        assert!(bytes.len() < 2_000, "{} bytes", bytes.len());
        let error = decode(&bytes, bomb.len()).unwrap_err();
        assert!(matches!(error, ArtifactError::Coding { source: CodingError::Invalid, .. }), "{error}");
    }

    #[test]
    fn words_come_back_in_order() {
        let words = words();
        let bytes = encode(&words, words.len()).unwrap();
        assert_eq!(decode(&bytes, words.len()).unwrap(), words);
        assert!(encode(&words, words.len() + 1).is_err());
    }

    #[test]
    fn truncated_words_are_refused() {
        let words = words();
        let bytes = encode(&words, words.len()).unwrap();
        // An encoder may end with two zeros, which a decoder takes missing bytes for.
        for length in 0..bytes.len() - 2 {
            let error = decode(&bytes[..length], words.len()).unwrap_err();
            let known = matches!(error, ArtifactError::Coding { section: Section::Vocabulary, .. });
            assert!(known || matches!(error, ArtifactError::Word { .. }), "{length} bytes: {error}");
        }
        let longer = [&bytes[..], &[0; 8]].concat();
        let Err(ArtifactError::Coding { source, .. }) = decode(&longer, words.len()) else { panic!("accepted") };
        assert_eq!(source, CodingError::TrailingBytes);
    }

    #[test]
    fn a_count_that_does_not_fit_is_refused() {
        let bytes = encode(&words(), 8).unwrap();
        let error = decode(&bytes, 7).unwrap_err();
        assert_eq!(error.to_string(), "the vocabulary has 8 words, but the architecture has 7");
        // More than the bytes could hold: nothing is allocated.
        let error = decode(b"\xff\xff\xff\x00\x01a", 0x00ff_ffff).unwrap_err();
        assert!(matches!(error, ArtifactError::Coding { source: CodingError::CutOff, .. }), "{error}");
    }
}
