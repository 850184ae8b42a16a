//! What a run achieved: `summary.json`, from which every table, plot and page is drawn.

mod baselines;
mod plan;
mod removal;
mod verdict;

pub use baselines::{Baseline, Baselines, Measured};
pub(crate) use baselines::{first_stage, float_stages};
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
    /// What trained it, as of its last stage.
    pub environment: Environment,
    /// Which tokens a position sees. Bidirectional perplexities are not those of a language model.
    pub causality: Causality,
    /// Perplexities of models that only count words, of the same tokens.
    pub ngrams: NgramBaselines,
    /// The float models that the artifact is compared with, on the same text.
    pub baselines: Baselines,
    /// One entry a stage, in order.
    pub stages: Vec<StageSummary>,
    /// The packed model, decoded again.
    pub artifact: ArtifactSummary,
    /// Float32 bytes of the baseline that `target.against` names over bytes of the artifact's
    /// weights section; `None` where that baseline is missing.
    pub ratio: Option<f64>,
    /// The same with the vocabulary counted on both sides: as text, one word a line, beside the
    /// baseline; in the file of the artifact, which is counted whole.
    pub ratio_with_vocabulary: Option<f64>,
    /// Perplexity of the decoded artifact over that baseline's, less 1.
    pub loss: Option<f64>,
    /// What the recipe asked for.
    pub target: Target,
    /// Whether it was reached; `None` where nothing was asked for. Never, where the artifact
    /// predicts worse than counting words does.
    pub target_reached: Option<bool>,
    /// What a reader must know before believing the figures: one sentence each.
    pub warnings: Vec<String>,
    /// Experts that were removed, and why.
    pub removals: Vec<Removal>,
    /// What a planner tried and chose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<PlanSummary>,
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
    /// Tokens held out of the training text for choices; 0 where nothing was chosen.
    pub dev_tokens: usize,
    /// Tokens held out to report.
    pub valid_tokens: usize,
    /// Words of the vocabulary.
    pub vocab_size: usize,
    /// Share of the training tokens that are `<unk>`, the dev slice included.
    pub unknown_train: f64,
    /// Share of the held-out tokens that are `<unk>`.
    pub unknown_valid: f64,
    /// What the perplexities belong to: no other text, vocabulary or tokenizer.
    pub fingerprint: TextFingerprint,
}

/// The model after one stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StageSummary {
    /// Its number, from 1.
    pub stage: usize,
    /// Its kind.
    pub kind: StageKind,
    /// Epochs of the stage's schedule.
    pub epochs: usize,
    /// The epoch whose model was kept, from 1.
    pub kept_epoch: usize,
    /// Epochs that this model has seen in all, those of the models that it was made or learned from
    /// included.
    pub epochs_total: usize,
    /// Whether the last epoch gained less than 1 %: more of the same would hardly help.
    pub trained_to_end: bool,
    /// Whether the stage began with a fresh model.
    pub fresh_model: bool,
    /// Whether the model has no quantizers.
    pub float: bool,
    /// Which tokens a position of the model sees.
    pub causality: Causality,
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
    /// Perplexity of the dev slice, where there is one.
    pub dev_perplexity: Option<f64>,
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
    #[serde(alias = "ledger")]
    pub size_breakdown: SizeBreakdown,
}
