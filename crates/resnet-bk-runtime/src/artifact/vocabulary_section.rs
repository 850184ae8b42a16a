//! The VOCABULARY section: the words in the order of their ids, which follow frequency.
//!
//! ```text
//! u32 number of words, then the coded words (coding/words/)
//! ```

use super::error::ArtifactError;
use super::section::Section;
use crate::coding::words::{decode_words, encode_words, max_word_bytes};
use crate::coding::{CodingError, Decoder, Encoder};

/// Encodes the section.
pub(super) fn encode(words: &[String], vocab_size: usize) -> Result<Vec<u8>, ArtifactError> {
    check_size(words.len(), vocab_size)?;
    let mut out = (words.len() as u32).to_le_bytes().to_vec();
    let mut encoder = Encoder::new();
    encode_words(words, &mut encoder);
    let coded = encoder.finish();
    if words.iter().map(|word| word.len() as u64).sum::<u64>() > max_word_bytes(coded.len() as u64) {
        let (index, _) = words.iter().enumerate().max_by_key(|(_, word)| word.len()).expect("the list is not empty");
        return Err(ArtifactError::Word { index, fault: "too long" });
    }
    out.extend(coded);
    Ok(out)
}

/// Decodes the words. [`Vocabulary::new`](crate::tokenizer::Vocabulary::new) checks whether they
/// are a valid vocabulary.
pub(super) fn decode(bytes: &[u8], vocab_size: usize) -> Result<Vec<String>, ArtifactError> {
    let (count, coded) = bytes.split_first_chunk().ok_or(coding_error(CodingError::Truncated))?;
    check_size(u32::from_le_bytes(*count) as usize, vocab_size)?;
    let words = decode_coded(coded, vocab_size).map_err(coding_error)?;
    let word = |(index, word)| String::from_utf8(word).map_err(|_| ArtifactError::Word { index, fault: "not UTF-8" });
    words.into_iter().enumerate().map(word).collect()
}

fn decode_coded(coded: &[u8], count: usize) -> Result<Vec<Vec<u8>>, CodingError> {
    let mut decoder = Decoder::new(coded)?;
    let words = decode_words(count, &mut decoder)?;
    decoder.finish()?;
    Ok(words)
}

/// Checks that the number of words equals `vocab_size` of the architecture.
pub(super) fn check_size(found: usize, expected: usize) -> Result<(), ArtifactError> {
    if found == expected { Ok(()) } else { Err(ArtifactError::VocabularySize { found, expected }) }
}

fn coding_error(source: CodingError) -> ArtifactError {
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
    fn words_too_long_for_their_coded_size_are_refused_in_writing_and_reading() {
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
    fn words_round_trip_in_order() {
        let words = words();
        let bytes = encode(&words, words.len()).unwrap();
        assert_eq!(decode(&bytes, words.len()).unwrap(), words);
        assert!(encode(&words, words.len() + 1).is_err());
    }

    #[test]
    fn truncated_words_are_refused() {
        let words = words();
        let bytes = encode(&words, words.len()).unwrap();
        // The output may end with two zero bytes. A decoder reads missing bytes as zeros, so their
        // absence is not an error.
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
    fn a_wrong_number_of_words_is_refused() {
        let bytes = encode(&words(), 8).unwrap();
        let error = decode(&bytes, 7).unwrap_err();
        assert_eq!(error.to_string(), "the vocabulary has 8 words, but the architecture has 7");
        // More words than the bytes can hold: refused before memory is allocated.
        let error = decode(b"\xff\xff\xff\x00\x01a", 0x00ff_ffff).unwrap_err();
        assert!(matches!(error, ArtifactError::Coding { source: CodingError::Truncated, .. }), "{error}");
    }
}
