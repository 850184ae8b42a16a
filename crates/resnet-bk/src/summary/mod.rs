//! The result of a run, `summary.json`. All tables, plots and pages are drawn from it.

mod baselines;
mod codes;
mod continuations;
mod plan;
mod removal;
mod verdict;

pub use baselines::{Baseline, Baselines, Measured};
pub(crate) use baselines::{first_stage, float_stages};
pub use codes::CodeHistogram;
pub use continuations::{Continuation, Continuations};
pub use plan::{PlanSummary, Trial};
pub use removal::Removal;

use crate::config::{StageKind, Target};
use crate::corpus::TextFingerprint;
use crate::environment::Environment;
use crate::ngram::NgramBaselines;
use resnet_bk_runtime::internal::architecture::Causality;
use resnet_bk_runtime::internal::artifact::SizeBreakdown;
use serde::{Deserialize, Serialize};

/// The result of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The text.
    pub corpus: CorpusSummary,
    /// The environment of the last stage.
    pub environment: Environment,
    /// Which tokens a position can see. The perplexity of a bidirectional model is not that of a
    /// language model.
    pub causality: Causality,
    /// Perplexities of the n-gram baselines on the same tokens.
    pub ngrams: NgramBaselines,
    /// The float models that the artifact is compared with, on the same text.
    pub baselines: Baselines,
    /// One entry per stage, in order.
    pub stages: Vec<StageSummary>,
    /// The packed model, decoded and measured.
    pub artifact: ArtifactSummary,
    /// Float32 bytes of the baseline that `target.against` names, over bytes of the artifact's
    /// weights section. `None` if that baseline is missing.
    pub ratio: Option<f64>,
    /// The same ratio with the vocabulary on both sides: the baseline plus the vocabulary as text
    /// with one word per line, over the length of the whole artifact.
    pub ratio_with_vocabulary: Option<f64>,
    /// Perplexity of the decoded artifact over that baseline's, minus 1. `None` if it is missing.
    pub loss: Option<f64>,
    /// The recipe's target.
    pub target: Target,
    /// Whether the target was reached. `None` if the recipe has none. Never true if the artifact
    /// predicts worse than the n-gram baselines up to bigrams.
    pub target_reached: Option<bool>,
    /// Warnings about the figures, one sentence each.
    pub warnings: Vec<String>,
    /// Removed experts, with reasons.
    pub removals: Vec<Removal>,
    /// Continuations of held-out text by the best float model and the artifact. `None` in summaries of
    /// older versions, for bidirectional models, and where there is no float model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub continuations: Option<Continuations>,
    /// The planner's trials and choice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<PlanSummary>,
    /// Wall time of the stages together, in seconds.
    pub seconds: f64,
}

/// The text of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CorpusSummary {
    /// Name of the corpus.
    pub name: String,
    /// Tokens that were trained on.
    pub train_tokens: usize,
    /// Tokens of the dev slice; 0 if nothing was chosen.
    pub dev_tokens: usize,
    /// Tokens of the held-out text.
    pub valid_tokens: usize,
    /// Words of the vocabulary.
    pub vocab_size: usize,
    /// Share of the training tokens that are `<unk>`, the dev slice included.
    pub unknown_train: f64,
    /// Share of the held-out tokens that are `<unk>`.
    pub unknown_valid: f64,
    /// Fingerprint of text, vocabulary and tokenizer. Only perplexities with an equal fingerprint
    /// can be compared.
    pub fingerprint: TextFingerprint,
}

/// The model after one stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StageSummary {
    /// Number of the stage, from 1.
    pub stage: usize,
    /// Kind of the stage.
    pub kind: StageKind,
    /// Epochs of the stage's schedule.
    pub epochs: usize,
    /// The epoch whose model was kept, from 1.
    pub kept_epoch: usize,
    /// Total epochs of this model, including those of the models that it was made from or distilled
    /// from.
    pub epochs_total: usize,
    /// Whether the last epoch improved the perplexity by less than 1 %.
    pub trained_to_end: bool,
    /// Whether the stage began with a new model.
    pub fresh_model: bool,
    /// Whether the model has no quantizers.
    pub float: bool,
    /// Which tokens a position can see.
    pub causality: Causality,
    /// Trained parameters.
    pub parameters: usize,
    /// Parameters that are not pruned.
    pub nonzero_parameters: usize,
    /// Experts of each block.
    pub experts: Vec<usize>,
    /// Share of the held-out tokens that are routed to each expert, for each block. Empty in summaries
    /// of older versions.
    #[serde(default)]
    pub expert_usage: Vec<Vec<f64>>,
    /// Bytes of the weights section if this model were packed.
    pub weights_bytes: u64,
    /// Perplexity of the held-out text, fake quantization included.
    pub valid_perplexity: f64,
    /// Perplexity of the dev slice, if there is one.
    pub dev_perplexity: Option<f64>,
    /// Wall time in seconds.
    pub seconds: f64,
}

/// The packed model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ArtifactSummary {
    /// Length of the file.
    pub bytes_total: u64,
    /// Length of the weights section.
    pub bytes_weights: u64,
    /// Perplexity of the decoded file on the held-out text, computed by the runtime.
    pub valid_perplexity: f64,
    /// Bytes of each part of the file.
    #[serde(alias = "ledger")]
    pub size_breakdown: SizeBreakdown,
    /// SHA-256 of the file. Empty in summaries of older versions.
    #[serde(default)]
    pub sha256: String,
    /// The codes of each group of quantized tensors. Empty in summaries of older versions.
    #[serde(default)]
    pub codes: Vec<CodeHistogram>,
}
