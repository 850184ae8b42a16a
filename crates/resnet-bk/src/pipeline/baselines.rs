//! The float models that a run can be compared with, and where their files are.

use super::given::{held_out_alike, read_finished};
use super::text::Text;
use super::{RunError, RunRequest};
use crate::checkpoint::Checkpoint;
use crate::config::Against;
use crate::corpus::TextFingerprint;
use crate::evaluate::{evaluate_model, evaluate_parameters};
use crate::post_training;
use crate::summary::{Baseline, Baselines, Measured, StageSummary, first_stage, float_stages};
use resnet_bk_runtime::internal::architecture::Causality;
use std::path::{Path, PathBuf};

/// What helps where a baseline is missing.
const HELP: &str = "--baseline CHECKPOINT supplies one";

/// A float model that was measured on the run's text.
#[derive(Clone, Debug)]
struct FloatModel {
    measured: Measured,
    /// Its checkpoint, where it is known.
    path: Option<PathBuf>,
}

/// What a run can be compared with.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    /// Models from outside the run, `--baseline` first, then a float `--model` that was trained on
    /// another text.
    given: Vec<FloatModel>,
    /// The checkpoint of each stage of the record, where it is known.
    files: Vec<Option<PathBuf>>,
    /// Stages of the record that were done before this run.
    inherited: usize,
    /// Why the record of stages has no first model, where the run began with a compressed one.
    no_first: Option<String>,
}

impl Candidates {
    /// Before the first stage. `checkpoint` is the model that the run begins with; its record of
    /// stages is of the run's text.
    pub(super) fn new(
        request: &RunRequest,
        checkpoint: &Checkpoint,
        text: &Text,
        warnings: &mut Vec<String>,
    ) -> Result<Self, RunError> {
        let mut candidates = Self::default();
        if let Some(path) = &request.baseline {
            let baseline = read_baseline(path, checkpoint)?;
            let own = baseline.history.text.as_ref();
            let difference = own.map_or(Some("an unknown text"), |own| own.difference(&text.summary.fingerprint));
            if let Some(difference) = difference {
                let name = path.display();
                warnings.push(format!("the baseline {name} was trained on {difference}; it is measured on this one"));
            }
            candidates.given.push(FloatModel { measured: measure(path, &baseline, text), path: Some(path.clone()) });
        }
        if let Some(path) = &request.model {
            candidates.inherited = checkpoint.history.stages.len();
            candidates.files = vec![None; candidates.inherited];
            let is_float = checkpoint.model.parameters.architecture().quantization.is_none();
            if let Some(last) = candidates.files.last_mut() {
                *last = Some(path.clone());
            } else if is_float {
                let measured = measure(path, checkpoint, text);
                candidates.given.push(FloatModel { measured, path: Some(path.clone()) });
            } else {
                let name = path.display();
                candidates.no_first =
                    Some(format!("{name} is quantized, and its float baseline was not measured on this text; {HELP}"));
            }
        }
        Ok(candidates)
    }

    /// Stages of the record that were done before this run.
    pub(super) fn inherited(&self) -> usize {
        self.inherited
    }

    /// A stage of the record was done.
    pub(super) fn push(&mut self, checkpoint: PathBuf) {
        self.files.push(Some(checkpoint));
    }

    /// All float models, the given ones first.
    fn all(&self, stages: &[StageSummary]) -> Vec<FloatModel> {
        let of_stage = |index: usize| FloatModel {
            measured: Measured::from(&stages[index]),
            path: self.files.get(index).cloned().flatten(),
        };
        self.given.iter().cloned().chain(float_stages(stages).map(of_stage)).collect()
    }

    fn first(&self, stages: &[StageSummary]) -> Option<Measured> {
        let given = self.given.first().map(|model| model.measured.clone());
        given.or_else(|| first_stage(stages).map(|index| Measured::from(&stages[index])))
    }

    /// The best float model: by the dev slice where all were measured on it.
    fn best(&self, stages: &[StageSummary]) -> Option<FloatModel> {
        let all = self.all(stages);
        let by_dev = all.iter().all(|model| model.measured.dev_perplexity.is_some());
        let judge = |model: &FloatModel| match model.measured.dev_perplexity {
            Some(dev) if by_dev => dev,
            _ => model.measured.valid_perplexity,
        };
        all.into_iter().min_by(|a, b| judge(a).total_cmp(&judge(b)))
    }

    /// The baseline of a target, as far as the run has come.
    pub(super) fn of(&self, against: Against, stages: &[StageSummary]) -> Option<Measured> {
        match against {
            Against::Baseline => self.first(stages),
            Against::Best => self.best(stages).map(|model| model.measured),
        }
    }

    /// Float32 bytes of the models that are known already and may be the baseline of a target.
    pub(super) fn float32_bytes(&self, against: Against, stages: &[StageSummary]) -> Vec<u64> {
        match against {
            Against::Baseline => self.first(stages).into_iter().map(|measured| measured.weights_bytes).collect(),
            Against::Best => self.all(stages).into_iter().map(|model| model.measured.weights_bytes).collect(),
        }
    }

    /// All baselines of an artifact of this causality at the end of a run, or why they are missing.
    pub(super) fn summarise(
        &self,
        stages: &[StageSummary],
        causality: Causality,
        valid: &[u32],
    ) -> Result<Baselines, RunError> {
        let why = self.no_first.clone().unwrap_or_else(|| format!("the run has no float model; {HELP}"));
        let alike = |measured: Option<Measured>| match measured {
            Some(measured) if measured.causality == causality => Baseline::Measured(measured),
            Some(other) => Baseline::missing(format!(
                "{} and the artifact do not see the same tokens of a text (model.causality)",
                other.name
            )),
            None => Baseline::missing(&why),
        };
        let best = self.best(stages);
        let int8 = match &best {
            Some(FloatModel { measured, .. }) if measured.causality != causality => alike(Some(measured.clone())),
            Some(FloatModel { measured, path: Some(path) }) => {
                let (model, weights_bytes) = post_training::int8(&Checkpoint::read(path)?.model.parameters);
                Baseline::Measured(Measured {
                    name: format!("{}, int8", measured.name),
                    weights_bytes,
                    valid_perplexity: evaluate_model(&model, valid).perplexity(),
                    dev_perplexity: None,
                    ..measured.clone()
                })
            }
            Some(FloatModel { measured, path: None }) => {
                Baseline::missing(format!("the checkpoint of {} is not in this run; {HELP}", measured.name))
            }
            None => Baseline::missing(&why),
        };
        Ok(Baselines { first: alike(self.first(stages)), best: alike(best.map(|model| model.measured)), int8 })
    }
}

/// Reads `--baseline`: a float model of the same words as the run's, that sees the same tokens of a
/// text.
fn read_baseline(path: &Path, run: &Checkpoint) -> Result<Checkpoint, RunError> {
    let baseline = read_finished(path)?;
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

/// A float checkpoint on the run's text. The dev slice tells something where the checkpoint was not
/// trained on it.
fn measure(path: &Path, checkpoint: &Checkpoint, text: &Text) -> Measured {
    let perplexity = |tokens: &[u32]| evaluate_parameters(&checkpoint.model.parameters, tokens).perplexity();
    let parameters = checkpoint.model.parameters.architecture().parameter_count();
    let dev = text.streams.dev.as_deref().filter(|_| held_out_alike(checkpoint, &text.summary));
    let other_text = checkpoint.history.text.as_ref().is_none_or(|own| own.train != text.summary.fingerprint.train);
    Measured {
        name: format!("{}{}", path.display(), if other_text { " (trained on another text)" } else { "" }),
        causality: checkpoint.model.config.causality,
        parameters,
        weights_bytes: 4 * parameters as u64,
        valid_perplexity: perplexity(&text.streams.valid),
        dev_perplexity: dev.map(perplexity),
        epochs: checkpoint.history.epochs,
        trained_to_end: checkpoint.history.trained_to_end,
    }
}
