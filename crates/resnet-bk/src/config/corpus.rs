//! Settings of tokenization.

use resnet_bk_runtime::internal::tokenizer::{BlankLines, Pretokenizer};
use serde::{Deserialize, Serialize};

/// Settings of tokenization.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CorpusConfig {
    /// Uses only the first training tokens, this many. The vocabulary is counted on all tokens.
    pub data_limit: Option<usize>,
    /// Counts the n-gram baselines on only the first training tokens, this many. Without it, on all
    /// of them, but at most on 20,000,000, for which counting takes about a gigabyte of memory.
    pub ngram_tokens: Option<usize>,
    /// The tokens of a text. Perplexities of different protocols cannot be compared.
    pub protocol: Protocol,
    /// The split of a line into words. Without it, the corpus decides: `words` for `embedded` and
    /// `openwebtext`, `whitespace` for the others.
    pub pretokenizer: Option<Pretokenizer>,
    /// Whether the dev slice is held out of the training text even if no stage chooses by it. The
    /// recipe that a planner writes sets it, so that a run of that recipe trains on the same
    /// tokens.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub hold_out_dev: bool,
}

/// The tokens of a text. Perplexities of different protocols cannot be compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Blank lines are dropped, and the vocabulary is limited to `model.vocab_size` words.
    #[default]
    Compact,
    /// Every line ends with `<eos>`, blank ones too, and every word of the training text is in the
    /// vocabulary. This is how the literature counts WikiText.
    Published,
}

impl Protocol {
    /// Treatment of blank lines.
    pub fn blank_lines(self) -> BlankLines {
        match self {
            Self::Compact => BlankLines::Dropped,
            Self::Published => BlankLines::Kept,
        }
    }

    /// Largest size of the vocabulary.
    pub fn vocab_size(self, asked: usize) -> usize {
        match self {
            Self::Compact => asked,
            Self::Published => usize::MAX,
        }
    }
}
