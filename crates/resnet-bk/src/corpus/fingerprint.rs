//! What a perplexity belongs to: text, vocabulary and tokenizer.

use hmac_sha256::Hash;
use resnet_bk_runtime::internal::tokenizer::Vocabulary;
use serde::{Deserialize, Serialize};
#[cfg(feature = "hub")]
use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    path::Path,
};

/// SHA-256 of everything that decides which tokens are trained on and measured, in hexadecimal. Two
/// perplexities may be compared where all of it is equal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextFingerprint {
    /// Of the training tokens, the dev slice included.
    pub train: String,
    /// Of the held-out tokens.
    pub valid: String,
    /// Of the words, one a line in the order of their ids.
    pub vocabulary: String,
    /// Of the tokenizer's settings.
    pub tokenizer: String,
}

impl TextFingerprint {
    /// Of encoded texts and the vocabulary that encoded them. Texts are hashed as the words that
    /// their tokens stand for, so that the same text under another vocabulary differs in
    /// `vocabulary` and where words are unknown, not in every byte.
    pub fn of(train: &[u32], valid: &[u32], vocabulary: &Vocabulary) -> Self {
        let text = |tokens: &[u32]| {
            let mut hash = Hash::new();
            for &token in tokens {
                hash.update(vocabulary.word(token).as_bytes());
                hash.update(b"\n");
            }
            in_hexadecimal(hash.finalize())
        };
        Self {
            train: text(train),
            valid: text(valid),
            vocabulary: text(&(0..vocabulary.len() as u32).collect::<Vec<_>>()),
            tokenizer: sha256(format!("{:?} {:?}", vocabulary.pretokenizer(), vocabulary.blank_lines()).as_bytes()),
        }
    }

    /// What differs, in words; `None` where nothing does.
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
        Vocabulary::new(words, Pretokenizer::Whitespace).expect("sound")
    }

    #[test]
    fn a_fingerprint_is_the_sha_256_of_its_words() {
        let words = vocabulary("<unk> <eos> a b");
        let fingerprint = TextFingerprint::of(&[2, 1], &[3], &words);
        // printf 'a\n<eos>\n' | sha256sum, and the same of 'b\n'.
        assert_eq!(fingerprint.train, "892bef7aa262cabad550fd84f2010e846eac2aedb108f7851b7eb98031e9e8ef");
        assert_eq!(fingerprint.valid, "0263829989b6fd954f72baaf2fc64bc2e2f01d692d4de72986ea808f6e99813f");
    }

    #[test]
    fn what_differs_is_named() {
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
