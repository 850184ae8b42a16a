//! What a run achieved: `summary.json`, from which every table, plot and page is drawn.

use crate::config::{StageKind, Target};
use crate::floors::Floors;
use crate::observer::Removal;
use resnet_bk_runtime::architecture::Causality;
use resnet_bk_runtime::artifact::Ledger;
use serde::{Deserialize, Serialize};

/// The result of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The text.
    pub corpus: CorpusSummary,
    /// Which tokens a position sees. Bidirectional perplexities are not those of a language model.
    pub causality: Causality,
    /// Perplexities of models that only count words, on the same tokens.
    pub floors: Floors,
    /// One entry a stage, in order.
    pub stages: Vec<StageSummary>,
    /// The packed model, decoded again.
    pub artifact: ArtifactSummary,
    /// The baseline that the artifact is compared with: the model after the last `train` stage before any other.
    pub baseline: BaselineSummary,
    /// Float32 bytes of the baseline over bytes of the artifact's weights section.
    pub ratio: f64,
    /// The same with the vocabulary counted on both sides: as text, one word a line, beside the baseline; in the file of the
    /// artifact, which is counted whole.
    pub ratio_with_vocabulary: f64,
    /// Perplexity of the decoded artifact over the baseline's, less 1.
    pub loss: f64,
    /// What the recipe asked for.
    pub target: Target,
    /// Whether it was reached; `None` where nothing was asked for.
    pub target_reached: Option<bool>,
    /// Experts that were removed, and why.
    pub removals: Vec<Removal>,
    /// Wall time of the stages together, in seconds.
    pub seconds: f64,
}

/// The text of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CorpusSummary {
    /// What it was loaded as.
    pub name: String,
    /// Tokens trained on.
    pub train_tokens: usize,
    /// Tokens held out.
    pub valid_tokens: usize,
    /// Words of the vocabulary.
    pub vocab_size: usize,
}

/// The float model that the artifact is compared with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BaselineSummary {
    /// Trained parameters.
    pub parameters: usize,
    /// Four bytes a parameter.
    pub float32_bytes: u64,
    /// Perplexity of the held-out text.
    pub valid_perplexity: f64,
}

/// The model after one stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageSummary {
    /// Its number, from 1.
    pub stage: usize,
    /// Its kind.
    pub kind: StageKind,
    /// Trained parameters.
    pub parameters: usize,
    /// Those that pruning does not hold at zero.
    pub nonzero_parameters: usize,
    /// Experts of each block.
    pub experts: Vec<usize>,
    /// Bytes of the weights section if this model were packed.
    pub weights_bytes: u64,
    /// Perplexity of the held-out text, fake quantization included.
    pub valid_perplexity: f64,
    /// Wall time in seconds.
    pub seconds: f64,
}

/// The packed model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ArtifactSummary {
    /// Length of the file.
    pub bytes_total: u64,
    /// Length of its weights section.
    pub bytes_weights: u64,
    /// Perplexity of the held-out text by the file, read again and run by the runtime.
    pub valid_perplexity: f64,
    /// Where the bytes go.
    pub ledger: Ledger,
}
