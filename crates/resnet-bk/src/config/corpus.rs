//! How a text becomes tokens.

use resnet_bk_runtime::internal::tokenizer::{BlankLines, Pretokenizer};
use serde::{Deserialize, Serialize};

/// How a text becomes tokens.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CorpusConfig {
    /// Trains on this many training tokens only, the first ones. The vocabulary is counted on all.
    pub data_limit: Option<usize>,
    /// Which tokens a text gives. Perplexities of different protocols cannot be compared.
    pub protocol: Protocol,
    /// How a line is split into words. Without it, the corpus decides: `words` for `embedded` and
    /// `openwebtext`, `whitespace` for the others.
    pub pretokenizer: Option<Pretokenizer>,
    /// Whether the dev slice is held out of the training text even where no stage chooses by it. A
    /// planner's recipe has it, so that a run of that recipe trains on the same tokens.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub hold_out_dev: bool,
}

/// Which tokens a text comes to. Perplexities of one protocol cannot be compared with those of the
/// other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Blank lines are dropped, and the vocabulary is cut to `model.vocab_size` words.
    #[default]
    Compact,
    /// Every line ends with `<eos>`, blank ones too, and every word of the training text is in the
    /// vocabulary: how the literature counts WikiText.
    Published,
}

impl Protocol {
    /// What becomes of blank lines.
    pub fn blank_lines(self) -> BlankLines {
        match self {
            Self::Compact => BlankLines::Dropped,
            Self::Published => BlankLines::Kept,
        }
    }

    /// Most words of a vocabulary.
    pub fn vocab_size(self, asked: usize) -> usize {
        match self {
            Self::Compact => asked,
            Self::Published => usize::MAX,
        }
    }
}
