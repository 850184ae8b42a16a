//! The VOCABULARY section: the words in the order of their ids, which is that of their frequencies.
//!
//! ```text
//! u32 number of words, then for each word: length in bytes as LEB128 (one byte up to 127), UTF-8
//! ```
//!
//! The prefix costs what a separator would, and words may hold any character.

use super::container::Section;
use super::error::ArtifactError;

/// Longest word, in bytes: four bytes of LEB128.
const MAX_WORD_BYTES: usize = (1 << 28) - 1;

/// The bytes of the section.
pub(super) fn encode(words: &[String], vocab_size: usize) -> Result<Vec<u8>, ArtifactError> {
    check_size(words.len(), vocab_size)?;
    let mut out = (words.len() as u32).to_le_bytes().to_vec();
    for (index, word) in words.iter().enumerate() {
        if word.len() > MAX_WORD_BYTES {
            return Err(ArtifactError::Word { index, fault: "too long" });
        }
        write_length(word.len(), &mut out);
        out.extend_from_slice(word.as_bytes());
    }
    Ok(out)
}

/// The words as stored; whether they make a vocabulary is for [`Vocabulary::new`](crate::tokenizer::Vocabulary::new).
pub(super) fn decode(bytes: &[u8], vocab_size: usize) -> Result<Vec<String>, ArtifactError> {
    let (count, mut rest) = bytes.split_first_chunk().ok_or(cut_off(0))?;
    check_size(u32::from_le_bytes(*count) as usize, vocab_size)?;
    // Every word takes a byte at least: a count that the section cannot hold allocates nothing.
    if vocab_size > rest.len() {
        return Err(cut_off(rest.len()));
    }
    let mut words = Vec::with_capacity(vocab_size);
    for index in 0..vocab_size {
        let length = read_length(&mut rest).ok_or(cut_off(index))?;
        let (word, after) = rest.split_at_checked(length).ok_or(cut_off(index))?;
        let word = std::str::from_utf8(word).map_err(|_| ArtifactError::Word { index, fault: "not UTF-8" })?;
        words.push(word.to_owned());
        rest = after;
    }
    if !rest.is_empty() {
        return Err(ArtifactError::TrailingBytes { section: Section::Vocabulary, bytes: rest.len() as u64 });
    }
    Ok(words)
}

/// Checks that the vocabulary has as many words as the architecture says.
pub(super) fn check_size(found: usize, expected: usize) -> Result<(), ArtifactError> {
    if found == expected { Ok(()) } else { Err(ArtifactError::VocabularySize { found, expected }) }
}

fn cut_off(index: usize) -> ArtifactError {
    ArtifactError::Word { index, fault: "cut off" }
}

/// Seven bits a byte, least significant first; the high bit says that more follow.
fn write_length(mut length: usize, out: &mut Vec<u8>) {
    while length > 0x7f {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
}

fn read_length(bytes: &mut &[u8]) -> Option<usize> {
    let mut length = 0usize;
    // Neither longer words nor lengths padded with zeros are ever written.
    for shift in [0, 7, 14, 21] {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        length |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return (byte != 0 || shift == 0).then_some(length);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_come_back_in_order() {
        let words: Vec<String> =
            ["the", "", ",", "a\nb", "naïve", "\u{1f600}", &"long".repeat(50), &"x".repeat(20_000)]
                .map(String::from)
                .into();
        let bytes = encode(&words, words.len()).unwrap();
        assert_eq!(decode(&bytes, words.len()).unwrap(), words);
        assert!(encode(&words, words.len() + 1).is_err());
    }

    #[test]
    fn damaged_words_are_refused_by_id() {
        let told = |bytes: &[u8]| decode(bytes, 2).unwrap_err().to_string();
        assert_eq!(told(b"\x02\0\0"), "word 0 of the vocabulary is cut off");
        assert_eq!(told(b"\x03\0\0\0\x01a\x01b\x01c"), "the vocabulary has 3 words, but the architecture has 2");
        assert_eq!(told(b"\x02\0\0\0\x01a\x02b"), "word 1 of the vocabulary is cut off");
        assert_eq!(told(b"\x02\0\0\0\x01a\xff\xff\xff\xff\x01"), "word 1 of the vocabulary is cut off");
        assert_eq!(told(b"\x02\0\0\0\x01a\x81\x00b"), "word 1 of the vocabulary is cut off");
        assert_eq!(told(b"\x02\0\0\0\x01\xff\x01b"), "word 0 of the vocabulary is not UTF-8");
        assert_eq!(told(b"\x02\0\0\0\x01a\x01b!"), "1 bytes are left over after the vocabulary section");
    }

    #[test]
    fn a_huge_count_allocates_nothing() {
        let error = decode(b"\xff\xff\xff\x00\x01a", 0x00ff_ffff).unwrap_err();
        assert!(matches!(error, ArtifactError::Word { .. }), "{error}");
    }
}
