//! What a run achieved: `summary.json`, from which every table, plot and page is drawn.

use crate::config::{StageKind, Target};
use crate::ngram::NgramBaselines;
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
    /// Perplexities of models that only count, on the same tokens.
    pub ngrams: NgramBaselines,
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

/// What a planner tried.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanSummary {
    /// Most bytes of the weights section.
    pub budget: u64,
    /// The trials, in order.
    pub trials: Vec<Trial>,
    /// Index of the trial whose student was trained.
    pub chosen: usize,
    /// Bytes of the weights section that were predicted for it, before it was trained.
    pub predicted_bytes: u64,
}

impl PlanSummary {
    /// Indices of the first round's trials that no other one beats in both bytes and perplexity, by their bytes.
    pub fn front(&self) -> Vec<usize> {
        let first = |index: &usize| self.trials[*index].round == 1;
        let mut order: Vec<usize> = (0..self.trials.len()).filter(first).collect();
        order.sort_by_key(|&index| self.trials[index].bytes);
        let mut best = f64::INFINITY;
        order.retain(|&index| {
            let better = self.trials[index].perplexity < best;
            best = best.min(self.trials[index].perplexity);
            better
        });
        order
    }
}

/// A student that was trained for a short while.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// Round of the search, from 1: later ones are longer.
    pub round: usize,
    /// Its sizes and levels, in words.
    pub student: String,
    /// Tokens that it was trained on.
    pub tokens: usize,
    /// Bytes of its weights section by the planner's table of entropies.
    pub predicted_bytes: u64,
    /// Bytes of its weights section.
    pub bytes: u64,
    /// Perplexity of a part of the training text that trials do not train on.
    pub perplexity: f64,
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
