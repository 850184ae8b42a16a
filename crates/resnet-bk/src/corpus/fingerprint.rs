//! Fingerprint of text, vocabulary and tokenizer.

use hmac_sha256::Hash;
use resnet_bk_runtime::internal::tokenizer::Vocabulary;
use serde::{Deserialize, Serialize};
#[cfg(feature = "hub")]
use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    path::Path,
};

/// SHA-256 of everything that determines the tokens, in hexadecimal. Two perplexities can be
/// compared only if all fields are equal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextFingerprint {
    /// Hash of the training tokens, dev slice included.
    pub train: String,
    /// Hash of the held-out tokens.
    pub valid: String,
    /// Hash of the words, one per line in order of their ids.
    pub vocabulary: String,
    /// Hash of the tokenizer's settings.
    pub tokenizer: String,
}

impl TextFingerprint {
    /// The fingerprint of encoded texts and their vocabulary. Tokens are hashed as words. So with
    /// another vocabulary, the same text differs in `vocabulary` and at unknown words only, not
    /// everywhere.
    pub fn of(train: &[u32], valid: &[u32], vocabulary: &Vocabulary) -> Self {
        let text = |tokens: &[u32]| {
            let mut hash = WordsHash::default();
            tokens.iter().for_each(|&token| hash.push(vocabulary.word(token)));
            hash.finish()
        };
        Self::of_hashes(text(train), text(valid), vocabulary)
    }

    /// The fingerprint of texts whose [`WordsHash`] is known.
    pub(crate) fn of_hashes(train: String, valid: String, vocabulary: &Vocabulary) -> Self {
        let mut words = WordsHash::default();
        vocabulary.words().iter().for_each(|word| words.push(word));
        let tokenizer = format!("{:?} {:?}", vocabulary.pretokenizer(), vocabulary.blank_lines());
        Self { train, valid, vocabulary: words.finish(), tokenizer: sha256(tokenizer.as_bytes()) }
    }

    /// The difference in words; `None` if there is none.
    pub fn difference(&self, other: &Self) -> Option<&'static str> {
        if self.tokenizer != other.tokenizer {
            Some("another tokenizer")
        } else if self.vocabulary != other.vocabulary {
            Some("another vocabulary")
        } else if self.train != other.train {
            Some("another training text")
        } else if self.valid != other.valid {
            Some("another held-out text")
        } else {
            None
        }
    }
}

/// SHA-256 of words, each followed by a line break.
#[derive(Default)]
pub(super) struct WordsHash {
    hash: Hash,
    /// Words that are not hashed yet.
    pending: Vec<u8>,
}

impl WordsHash {
    /// Bytes to hash at a time.
    const PENDING: usize = 1 << 16;

    pub(super) fn push(&mut self, word: &str) {
        self.pending.extend_from_slice(word.as_bytes());
        self.pending.push(b'\n');
        if self.pending.len() >= Self::PENDING {
            self.hash.update(&self.pending);
            self.pending.clear();
        }
    }

    /// The hash in hexadecimal.
    pub(super) fn finish(mut self) -> String {
        self.hash.update(&self.pending);
        in_hexadecimal(self.hash.finalize())
    }
}

/// SHA-256 of bytes, in hexadecimal.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    in_hexadecimal(Hash::hash(bytes))
}

/// SHA-256 of a file, in hexadecimal.
#[cfg(feature = "hub")]
pub(super) fn sha256_of_file(path: &Path) -> io::Result<String> {
    let mut file = BufReader::with_capacity(1 << 16, File::open(path)?);
    let mut hash = Hash::new();
    loop {
        let bytes = file.fill_buf()?;
        if bytes.is_empty() {
            return Ok(in_hexadecimal(hash.finalize()));
        }
        hash.update(bytes);
        let read = bytes.len();
        file.consume(read);
    }
}

fn in_hexadecimal(hash: [u8; 32]) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use resnet_bk_runtime::internal::tokenizer::{BlankLines, Pretokenizer};

    fn vocabulary(words: &str) -> Vocabulary {
        let words = words.split(' ').map(str::to_owned).collect();
        Vocabulary::new(words, Pretokenizer::Whitespace).expect("valid")
    }

    #[test]
    fn a_fingerprint_is_the_sha_256_of_its_words() {
        let words = vocabulary("<unk> <eos> a b");
        let fingerprint = TextFingerprint::of(&[2, 1], &[3], &words);
        // printf 'a\n<eos>\n' | sha256sum, and the same for 'b\n'.
        assert_eq!(fingerprint.train, "892bef7aa262cabad550fd84f2010e846eac2aedb108f7851b7eb98031e9e8ef");
        assert_eq!(fingerprint.valid, "0263829989b6fd954f72baaf2fc64bc2e2f01d692d4de72986ea808f6e99813f");
    }

    #[test]
    fn differences_are_named() {
        let words = vocabulary("<unk> <eos> a b");
        let one = TextFingerprint::of(&[2, 1], &[3], &words);
        assert_eq!(one.difference(&TextFingerprint::of(&[2, 1], &[3], &words)), None);
        let differs = |train: &[u32], valid: &[u32], words: &Vocabulary| {
            one.difference(&TextFingerprint::of(train, valid, words)).expect("it differs")
        };
        assert_eq!(differs(&[2, 2], &[3], &words), "another training text");
        assert_eq!(differs(&[2, 1], &[2], &words), "another held-out text");
        assert_eq!(differs(&[2, 1], &[3], &vocabulary("<unk> <eos> b a")), "another vocabulary");
        let kept = vocabulary("<unk> <eos> a b").with_blank_lines(BlankLines::Kept);
        assert_eq!(differs(&[2, 1], &[3], &kept), "another tokenizer");
    }
}
