//! The float models that an artifact is compared with.
//!
//! ```text
//! first   the recipe's first model: the last of the `train` stages at the beginning of the recipe
//! best    the float model with the lowest perplexity on the dev slice,
//!         or on the held-out text if there is no dev slice
//! int8    the best one with its matrices rounded to 8 bits without training
//! ```
//!
//! If not all of them were measured on a dev slice that they did not train on, the best one is
//! chosen on the reported text. This can only improve the baseline's figures, and so only makes the
//! artifact look worse.

use super::StageSummary;
use crate::config::{Against, StageKind};
use crate::train::TRAINED_TO_END;
use resnet_bk_runtime::internal::architecture::Causality;
use serde::{Deserialize, Serialize};

/// The models that the artifact is compared with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Baselines {
    /// The recipe's first model.
    pub first: Baseline,
    /// The best float model.
    pub best: Baseline,
    /// The best float model after plain post-training quantization.
    pub int8: Baseline,
}

/// A baseline, or the reason why there is none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Baseline {
    /// The model was measured on the run's text.
    Measured(Measured),
    /// There is no such model.
    Missing {
        /// Why, and how to supply one.
        missing: String,
    },
}

/// A model that was measured on the run's text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Name of the model: a stage, such as `1 train`, or a file.
    pub name: String,
    /// Which tokens a position can see.
    pub causality: Causality,
    /// Trained parameters.
    pub parameters: usize,
    /// Bytes of the weights: four per parameter in float32; for int8 one per weight and four per
    /// scale.
    pub weights_bytes: u64,
    /// Perplexity of the held-out text.
    pub valid_perplexity: f64,
    /// Perplexity of the dev slice, if there is one.
    pub dev_perplexity: Option<f64>,
    /// Total epochs of training; 0 for an artifact, which does not know them.
    pub epochs: usize,
    /// Whether the last epoch improved the perplexity by less than 1 %. False where that is not known.
    pub trained_to_end: bool,
}

impl Measured {
    /// What is to be said about the length of the training. `None` if it was trained to its end.
    pub fn doubt(&self) -> Option<&'static str> {
        match (self.trained_to_end, self.epochs) {
            (true, _) => None,
            (false, 0) => Some("of unknown training"),
            (false, _) => Some("not trained to its end"),
        }
    }
}

impl Baseline {
    /// A missing baseline.
    pub fn missing(why: impl Into<String>) -> Self {
        Self::Missing { missing: why.into() }
    }

    /// The model, if there is one.
    pub fn measured(&self) -> Option<&Measured> {
        match self {
            Self::Measured(measured) => Some(measured),
            Self::Missing { .. } => None,
        }
    }
}

impl Baselines {
    /// Clears `trained_to_end` if the run shows the contrary: the artifact, which is smaller and
    /// made from this model, predicts clearly better, or the model does not beat the unigram
    /// baseline.
    pub(crate) fn correct_trained_to_end(&mut self, artifact_perplexity: f64, unigram: f64) {
        for baseline in [&mut self.first, &mut self.best, &mut self.int8] {
            if let Baseline::Measured(model) = baseline {
                let beaten = artifact_perplexity < (1.0 - TRAINED_TO_END) * model.valid_perplexity;
                model.trained_to_end &= !beaten && model.valid_perplexity < unigram;
            }
        }
    }

    /// The baseline of a target.
    pub fn of(&self, against: Against) -> &Baseline {
        match against {
            Against::Baseline => &self.first,
            Against::Best => &self.best,
        }
    }
}

impl From<&StageSummary> for Measured {
    fn from(stage: &StageSummary) -> Self {
        Self {
            name: format!("{} {}", stage.stage, stage.kind),
            causality: stage.causality,
            parameters: stage.parameters,
            weights_bytes: 4 * stage.parameters as u64,
            valid_perplexity: stage.valid_perplexity,
            dev_perplexity: stage.dev_perplexity,
            epochs: stage.epochs_total,
            trained_to_end: stage.trained_to_end,
        }
    }
}

/// Index of the first model's stage: the last of the leading `train` stages that train one model.
pub(crate) fn first_stage(stages: &[StageSummary]) -> Option<usize> {
    let is_first = |(index, stage): &(usize, &StageSummary)| {
        stage.kind == StageKind::Train && stage.float && (*index == 0 || !stage.fresh_model)
    };
    stages.iter().enumerate().take_while(is_first).last().map(|(index, _)| index)
}

/// Indices of the float models that can be the best baseline. The model that became the artifact is
/// excluded, unless it was only trained.
pub(crate) fn float_stages(stages: &[StageSummary]) -> impl Iterator<Item = usize> {
    let is_baseline = |index: usize| {
        let is_result = index + 1 == stages.len() && stages[index].kind != StageKind::Train;
        stages[index].float && !is_result
    };
    (0..stages.len()).filter(move |&index| is_baseline(index))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(kind: StageKind, fresh_model: bool, float: bool) -> StageSummary {
        StageSummary {
            stage: 1,
            kind,
            epochs: 1,
            kept_epoch: 1,
            epochs_total: 1,
            trained_to_end: false,
            fresh_model,
            float,
            causality: Causality::Causal,
            parameters: 1,
            nonzero_parameters: 1,
            experts: vec![1],
            expert_usage: vec![],
            weights_bytes: 1,
            valid_perplexity: 2.0,
            dev_perplexity: None,
            seconds: 0.0,
        }
    }

    #[test]
    fn a_model_worse_than_its_artifact_was_not_trained_to_its_end() {
        let model = Measured { trained_to_end: true, ..Measured::from(&stage(StageKind::Train, true, true)) };
        let doubted = |artifact: f64, unigram: f64| {
            let all = || Baseline::Measured(Measured { valid_perplexity: 100.0, ..model.clone() });
            let mut baselines = Baselines { first: all(), best: all(), int8: Baseline::missing("no file") };
            baselines.correct_trained_to_end(artifact, unigram);
            !baselines.best.measured().expect("a model").trained_to_end
        };
        assert!(!doubted(120.0, 900.0) && !doubted(99.5, 900.0));
        assert!(doubted(98.0, 900.0), "the artifact is better by two percent");
        assert!(doubted(120.0, 90.0), "counting is better");
    }

    #[test]
    fn a_later_train_stage_continues_the_first_model_unless_it_has_its_own() {
        use StageKind::{Distill, Prune, Qat, Train};
        let stages = [
            stage(Train, true, true),
            stage(Train, false, true),
            stage(Train, true, true),
            stage(Prune, false, true),
            stage(Qat, false, false),
            stage(Distill, true, true),
        ];
        assert_eq!(first_stage(&stages), Some(1));
        // The float student becomes the artifact, so it is not a baseline.
        assert_eq!(float_stages(&stages).collect::<Vec<_>>(), [0, 1, 2, 3]);
        assert_eq!(float_stages(&stages[..2]).collect::<Vec<_>>(), [0, 1], "a model that was only trained");
        assert_eq!(first_stage(&stages[3..]), None);
        assert_eq!(first_stage(&[]), None);
    }
}
