//! The float models that a run is compared with, and the paths of their checkpoints.

use super::given::{GivenModel, has_same_dev_slice};
use super::text::Text;
use super::{RunError, RunRequest};
use crate::checkpoint::Checkpoint;
use crate::config::Against;
use crate::corpus::TextFingerprint;
use crate::evaluate::{evaluate_model, evaluate_parameters};
use crate::post_training;
use crate::ranks::Ranks;
use crate::summary::{Baseline, Baselines, Measured, StageSummary, first_stage, float_stages};
use resnet_bk_runtime::internal::architecture::Causality;
use resnet_bk_runtime::internal::model::Model;
use std::path::Path;

/// A float model, measured on the run's text.
#[derive(Clone, Debug)]
struct FloatModel {
    measured: Measured,
    /// Its checkpoint or, for a given model, its artifact, if known.
    file: Option<GivenModel>,
}

/// The candidate baselines of a run.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    /// Models from outside the run: first `--baseline`, then a float `--model` that was trained on
    /// another text.
    given: Vec<FloatModel>,
    /// The checkpoint of each completed stage, if known.
    files: Vec<Option<GivenModel>>,
    /// Number of stages that were completed before this run.
    inherited: usize,
    /// Why there is no first model, if the run began with a compressed model.
    no_first: Option<String>,
}

impl Candidates {
    /// The candidates before the first stage. `checkpoint` is the model that the run begins with;
    /// its stages were measured on the run's text.
    pub(super) fn new(
        request: &RunRequest,
        checkpoint: &Checkpoint,
        text: &Text,
        warnings: &mut Vec<String>,
    ) -> Result<Self, RunError> {
        let mut candidates = Self::default();
        if let Some(given) = &request.baseline {
            let path = given.path();
            let baseline = read_baseline(given, checkpoint, &request.ranks)?;
            if let Some(difference) = baseline.history.text_difference(&text.summary.fingerprint) {
                let name = path.display();
                warnings.push(format!("the baseline {name} was trained on {difference}; it is measured on this one"));
            }
            candidates.given.push(FloatModel { measured: measure(path, &baseline, text), file: Some(given.clone()) });
        }
        if let Some(given) = &request.model {
            let path = given.path();
            candidates.inherited = checkpoint.history.stages.len();
            candidates.files = vec![None; candidates.inherited];
            let is_float = checkpoint.model.parameters.architecture().quantization.is_none();
            if let Some(last) = candidates.files.last_mut() {
                *last = Some(given.clone());
            } else if is_float {
                let measured = measure(path, checkpoint, text);
                candidates.given.push(FloatModel { measured, file: Some(given.clone()) });
            } else {
                let name = path.display();
                candidates.no_first =
                    Some(format!("{name} is quantized, and its float baseline was not measured on this text"));
            }
        }
        Ok(candidates)
    }

    /// Number of stages that were completed before this run.
    pub(super) fn inherited(&self) -> usize {
        self.inherited
    }

    /// Adds the checkpoint of a completed stage.
    pub(super) fn push(&mut self, checkpoint: GivenModel) {
        self.files.push(Some(checkpoint));
    }

    /// All float models, with the given ones first.
    fn all(&self, stages: &[StageSummary]) -> Vec<FloatModel> {
        let of_stage = |index: usize| FloatModel {
            measured: Measured::from(&stages[index]),
            file: self.files.get(index).cloned().flatten(),
        };
        self.given.iter().cloned().chain(float_stages(stages).map(of_stage)).collect()
    }

    fn first(&self, stages: &[StageSummary]) -> Option<Measured> {
        let given = self.given.first().map(|model| model.measured.clone());
        given.or_else(|| first_stage(stages).map(|index| Measured::from(&stages[index])))
    }

    /// The best float model: by perplexity on the dev slice if all were measured on it.
    fn best(&self, stages: &[StageSummary]) -> Option<FloatModel> {
        let all = self.all(stages);
        let by_dev = all.iter().all(|model| model.measured.dev_perplexity.is_some());
        let selection_perplexity = |model: &FloatModel| match model.measured.dev_perplexity {
            Some(dev) if by_dev => dev,
            _ => model.measured.valid_perplexity,
        };
        all.into_iter().min_by(|a, b| selection_perplexity(a).total_cmp(&selection_perplexity(b)))
    }

    /// Name and decoded weights of the best float model, if its file is known.
    pub(super) fn best_model(&self, stages: &[StageSummary]) -> Result<Option<(String, Model)>, RunError> {
        let Some(FloatModel { measured, file: Some(file) }) = self.best(stages) else { return Ok(None) };
        Ok(Some((measured.name, file.read()?.model.parameters.to_model())))
    }

    /// The baseline of a target, from the stages completed so far.
    pub(super) fn of(&self, against: Against, stages: &[StageSummary]) -> Option<Measured> {
        match against {
            Against::Baseline => self.first(stages),
            Against::Best => self.best(stages).map(|model| model.measured),
        }
    }

    /// Float32 bytes of the known models that may become a target's baseline.
    pub(super) fn float32_bytes(&self, against: Against, stages: &[StageSummary]) -> Vec<u64> {
        match against {
            Against::Baseline => self.first(stages).into_iter().map(|measured| measured.weights_bytes).collect(),
            Against::Best => self.all(stages).into_iter().map(|model| model.measured.weights_bytes).collect(),
        }
    }

    /// All baselines for an artifact of this causality at the end of a run, or why they are
    /// missing.
    pub(super) fn summarize(
        &self,
        stages: &[StageSummary],
        causality: Causality,
        valid: &[u32],
    ) -> Result<Baselines, RunError> {
        let why = self.no_first.clone().unwrap_or_else(|| "the run has no float model".to_owned());
        let with_equal_causality = |measured: Option<Measured>| match measured {
            Some(measured) if measured.causality == causality => Baseline::Measured(measured),
            Some(other) => Baseline::missing(format!(
                "{} and the artifact do not see the same tokens of a text (model.causality)",
                other.name
            )),
            None => Baseline::missing(&why),
        };
        let best = self.best(stages);
        let int8 = match &best {
            Some(FloatModel { measured, .. }) if measured.causality != causality => {
                with_equal_causality(Some(measured.clone()))
            }
            Some(FloatModel { measured, file: Some(file) }) => {
                let (model, weights_bytes) = post_training::int8(&file.read()?.model.parameters);
                Baseline::Measured(Measured {
                    name: format!("{}, int8", measured.name),
                    weights_bytes,
                    valid_perplexity: evaluate_model(&model, valid).perplexity(),
                    dev_perplexity: None,
                    ..measured.clone()
                })
            }
            Some(FloatModel { measured, file: None }) => {
                Baseline::missing(format!("the checkpoint of {} is not in this run", measured.name))
            }
            None => Baseline::missing(&why),
        };
        Ok(Baselines {
            first: with_equal_causality(self.first(stages)),
            best: with_equal_causality(best.map(|model| model.measured)),
            int8,
        })
    }
}

/// Reads the `--baseline` checkpoint: a float model with the run's vocabulary and
/// causality.
fn read_baseline(given: &GivenModel, run: &Checkpoint, ranks: &Ranks) -> Result<Checkpoint, RunError> {
    let path = given.path();
    let baseline = given.read_finished(ranks)?;
    let words = |checkpoint: &Checkpoint| TextFingerprint::of(&[], &[], &checkpoint.model.vocabulary);
    let other_causality =
        (baseline.model.config.causality != run.model.config.causality).then_some("another causality");
    if let Some(difference) = words(&baseline).difference(&words(run)).or(other_causality) {
        return Err(RunError::OtherBaseline { path: path.to_owned(), difference });
    }
    if baseline.model.parameters.architecture().quantization.is_some() {
        return Err(RunError::QuantizedBaseline { path: path.to_owned() });
    }
    Ok(baseline)
}

/// Measures a float checkpoint on the run's text. The dev slice is measured only if the checkpoint
/// was not trained on it.
fn measure(path: &Path, checkpoint: &Checkpoint, text: &Text) -> Measured {
    let perplexity = |tokens: &[u32]| evaluate_parameters(&checkpoint.model.parameters, tokens).perplexity();
    let parameters = checkpoint.model.parameters.architecture().parameter_count();
    let dev = text.streams.dev.as_deref().filter(|_| has_same_dev_slice(checkpoint, &text.summary));
    let trained_on = match &checkpoint.history.text {
        None => " (its text is not recorded)",
        Some(own) if own.train != text.summary.fingerprint.train => " (trained on another text)",
        Some(_) => "",
    };
    Measured {
        name: format!("{}{trained_on}", path.display()),
        causality: checkpoint.model.config.causality,
        parameters,
        weights_bytes: 4 * parameters as u64,
        valid_perplexity: perplexity(&text.streams.valid),
        dev_perplexity: dev.map(perplexity),
        epochs: checkpoint.history.epochs,
        trained_to_end: checkpoint.history.trained_to_end,
    }
}
