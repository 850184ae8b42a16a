//! A whole run: executes the stages, packs the artifact, decodes and measures it.
//!
//! ```text
//! RUN/recipe.toml                    resolved recipe
//! RUN/01-train/model.safetensors     one checkpoint per stage
//! RUN/02-qat/model.safetensors
//! RUN/model.rbk                      the artifact
//! RUN/summary.json
//! ```
//!
//! The file of a running stage is its checkpoint. When the stage is done, it holds the model that
//! the next stage starts from.

mod baselines;
mod budget;
mod continuations;
mod error;
mod finish;
mod folder;
mod forecast;
mod given;
mod outline;
mod text;
mod work;

pub use error::RunError;
pub use folder::{RECIPE, is_run, is_running};
pub use forecast::{Forecast, StageForecast, forecast};
pub use given::GivenModel;
pub use text::{FEW_HELD_OUT, MANY_UNKNOWN, MIN_HELD_OUT};
pub use work::{QUANTIZED_COST, StageWork, work};

use crate::checkpoint::{Checkpoint, ModelState};
use crate::compress::StageContext;
use crate::compress::planner::TRIALS;
use crate::config::{ModelConfig, Recipe, StageConfig, StageKind};
use crate::corpus::{Cache, Corpus, cached_vocabulary};
use crate::device::{Device, catch};
use crate::environment::Environment;
use crate::export::weights_breakdown;
use crate::memory;
use crate::observer::{Event, Observer};
use crate::ranks::Ranks;
use crate::summary::{StageSummary, Summary};
use crate::train::{BEST_EPOCH, Stage, TrainError, Trained};
use baselines::Candidates;
use folder::Folder;
use outline::StageOutline;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;
use text::Text;
use work::stages_to_run;

/// Inputs of a run.
#[derive(Clone, Debug)]
pub struct RunRequest {
    /// Stages, target and all settings.
    pub recipe: Recipe,
    /// The text.
    pub corpus: Corpus,
    /// Where that which is made of a large text is kept.
    pub cache: Cache,
    /// The run's folder.
    pub out: PathBuf,
    /// Whether to resume the run in this folder.
    pub resume: bool,
    /// A checkpoint or an artifact to start from instead of a new model.
    pub model: Option<GivenModel>,
    /// A float checkpoint to compare with. It is measured on this text and used as the recipe's
    /// first model.
    pub baseline: Option<GivenModel>,
    /// Where the models train.
    pub device: Device,
    /// The processes that train together. Rank 0 writes the run's folder, and its files decide.
    pub ranks: Ranks,
}

/// File name of a stage's checkpoint.
pub const CHECKPOINT: &str = "model.safetensors";
/// File name of a run's artifact.
pub const ARTIFACT: &str = "model.rbk";
/// File name of a run's summary.
pub const SUMMARY: &str = "summary.json";

/// Runs a recipe. All ranks of the request must call this with equal recipes and texts, and all return
/// the same summary.
///
/// # Errors
/// [`RunError`]. Everything up to the last completed epoch is in the run's folder, and a resumed
/// run continues from there.
pub fn run(request: &RunRequest, observer: &mut dyn Observer) -> Result<Summary, RunError> {
    catch(|| run_stages(request, observer))?
}

fn run_stages(request: &RunRequest, observer: &mut dyn Observer) -> Result<Summary, RunError> {
    let Ready { given, mut run, outline } = ready(request, observer)?;
    let ranks = &request.ranks;
    let folder = request.folder(given.as_deref());
    let mut _alone = None;
    ranks.share_result(|| {
        _alone = folder.lock()?;
        // Check again: another run may have started before the lock was taken.
        folder.check(request.resume)?;
        folder.write_recipe()
    })?;
    // A resumed run has already reported them. The summary has all of them.
    for message in run.warnings.iter().filter(|_| !request.resume) {
        observer.event(&Event::Warning { message: message.clone() });
    }
    for (index, stage) in outline.iter().enumerate() {
        run.stage(index, stage.config, observer)?;
    }
    ranks.share_result(|| finish::finish(run, observer))
}

/// A run that can begin.
struct Ready<'a> {
    /// SHA-256 of the model file that it begins with, if one is given.
    given: Option<String>,
    run: Run<'a>,
    /// The stages that run.
    outline: Vec<StageOutline<'a>>,
}

/// Reads text and model, and checks all that can be checked before training. Nothing is written.
fn ready<'a>(request: &'a RunRequest, observer: &mut dyn Observer) -> Result<Ready<'a>, RunError> {
    let (recipe, ranks) = (&request.recipe, &request.ranks);
    let stages = stages_to_run(recipe, request.model.is_some());
    let is_training = |stage: &StageConfig| stage.kind() == StageKind::Train;
    let only_training = request.model.is_some() && recipe.stages.iter().all(is_training);
    let nothing_left = if only_training { RunError::OnlyTraining } else { RunError::NoStages };
    let first = stages.first().ok_or(nothing_left)?;
    if request.model.is_none() && first.kind() != StageKind::Train {
        return Err(RunError::NothingToCompress(first.kind()));
    }
    let needs_budget = stages.iter().any(|stage| stage.runner().needs_budget());
    if needs_budget && recipe.target.ratio.is_none() && recipe.target.bytes.is_none() {
        return Err(TrainError::NoBudget.into());
    }
    let given = request.model.as_ref().map(|given| given.digest(ranks)).transpose()?;
    check_equal(ranks, "versions of resnet-bk, recipes or options", request.description(given.as_deref()))?;
    ranks.share_result(|| request.folder(given.as_deref()).check(request.resume))?;
    let mut run = Run::prepare(request, &stages, observer)?;
    let outline = run.outline(&stages)?;
    let too_large = run.size_beyond_target(&outline)?;
    run.warnings.extend(too_large);
    Ok(Ready { given, run, outline })
}

/// Checks that all ranks have the same.
fn check_equal(ranks: &Ranks, what: &'static str, value: String) -> Result<(), RunError> {
    let different = ranks.different(value.into_bytes());
    if different.is_empty() { Ok(()) } else { Err(RunError::RanksDiffer { ranks: different, what }) }
}

impl RunRequest {
    /// The run's folder. `given` is the SHA-256 of the given model.
    fn folder<'a>(&'a self, given: Option<&'a str>) -> Folder<'a> {
        Folder { path: &self.out, recipe: &self.recipe, given }
    }

    /// What must be equal on all ranks.
    fn description(&self, given: Option<&str>) -> String {
        let options = (self.resume, given, self.baseline.is_some());
        format!("{} {options:?}\n{}", env!("CARGO_PKG_VERSION"), self.recipe.to_toml())
    }
}

struct Run<'a> {
    request: &'a RunRequest,
    text: Text,
    checkpoint: Checkpoint,
    candidates: Candidates,
    environment: Environment,
    warnings: Vec<String>,
}

impl<'a> Run<'a> {
    fn prepare(
        request: &'a RunRequest,
        stages: &[&StageConfig],
        observer: &mut dyn Observer,
    ) -> Result<Self, RunError> {
        let RunRequest { recipe, corpus, cache, ranks, .. } = request;
        let mut warnings = Vec::new();
        let mut checkpoint = match &request.model {
            Some(given) => {
                let checkpoint = given::read(given, recipe, ranks, &mut warnings)?;
                memory::check_stages(stages, &checkpoint.model.config)?;
                checkpoint
            }
            None => {
                let pretokenizer = recipe.corpus.pretokenizer.unwrap_or(corpus.pretokenizer);
                let protocol = recipe.corpus.protocol;
                let size = protocol.vocab_size(recipe.model.vocab_size);
                let blank_lines = protocol.blank_lines();
                let words = || cached_vocabulary(&corpus.train, size, pretokenizer, blank_lines, cache, &mut *observer);
                let vocabulary = ranks.in_turns(words)?;
                memory::check_stages(stages, &ModelConfig { vocab_size: vocabulary.len(), ..recipe.model.clone() })?;
                Checkpoint::new(ModelState::initialize(recipe.model.clone(), Arc::new(vocabulary), recipe.seed))
            }
        };
        let vocabulary = &checkpoint.model.vocabulary;
        let text = ranks.in_turns(|| Text::new(corpus, recipe, vocabulary, cache, &mut *observer))?;
        check_equal(ranks, "texts", format!("{:?}", text.summary.fingerprint))?;
        if let Some(given) = &request.model {
            given::drop_results_on_other_text(&mut checkpoint, given.path(), &text.summary, &mut warnings);
        }
        warnings.extend(text.warnings());
        let candidates = Candidates::new(request, &checkpoint, &text, &mut warnings)?;
        checkpoint.history.text = Some(text.summary.fingerprint.clone());
        checkpoint.history.dev_tokens = text.summary.dev_tokens;
        checkpoint.model.parameters.set_device(request.device.clone());
        checkpoint.model.parameters.set_ranks(ranks.clone());
        let environment = Environment::current(stages, &request.device, ranks);
        Ok(Self { request, text, checkpoint, candidates, environment, warnings })
    }

    /// Runs or resumes a stage, or loads its result if it is already done.
    fn stage(&mut self, index: usize, config: &StageConfig, observer: &mut dyn Observer) -> Result<(), RunError> {
        // With a given model, stages are numbered after those of the model.
        let number = self.candidates.inherited() + index + 1;
        let path = self.request.out.join(format!("{number:02}-{}", config.kind())).join(CHECKPOINT);
        let mut teacher = None;
        let ranks = &self.request.ranks;
        let is_saved = ranks.share_result(|| Ok::<_, RunError>(path.exists()))?;
        let saved = if is_saved { Some(Checkpoint::read_on(ranks, &path)?) } else { None };
        let fingerprint = &self.text.summary.fingerprint;
        if let Some(difference) = saved.as_ref().and_then(|saved| saved.history.text_difference(fingerprint)) {
            return Err(RunError::OtherText { path, difference });
        }
        let before =
            saved.as_ref().and_then(|saved| saved.training.progress.as_ref()).map_or(0.0, |progress| progress.seconds);
        match saved {
            Some(saved) if saved.training.progress.is_none() => {
                self.take_up(saved);
                self.candidates.push(path.into());
                return Ok(());
            }
            Some(saved) => {
                let previous = self.take_up(saved);
                teacher = config.runner().needs_teacher().then_some(previous.model);
            }
            None => {}
        }
        self.record_environment(observer);
        let started = Instant::now();
        let stage = Stage {
            number,
            kind: config.kind(),
            schedule: config.schedule(),
            seed: self.request.recipe.seed,
            save_to: Some(path.clone()),
            budget: if config.runner().needs_budget() { self.budget()? } else { None },
        };
        let context = StageContext { stage: &stage, streams: &self.text.streams, teacher, observer: &mut *observer };
        let trained = config.runner().run(&mut self.checkpoint, context)?;
        let is_fresh = config.has_own_model() || (index == 0 && self.request.model.is_none());
        let seconds = before + started.elapsed().as_secs_f64();
        let size_breakdown = weights_breakdown(&self.checkpoint.model.parameters)?;
        observer.event(&Event::SizeMeasured { stage: number, bytes: size_breakdown.by_part() });
        let summary = self.summarize(config, is_fresh, trained, size_breakdown.weights_bytes(), seconds);
        observer.event(&Event::StageEnded {
            stage: number,
            kind: config.kind(),
            valid_perplexity: summary.valid_perplexity,
            seconds: summary.seconds,
        });
        self.checkpoint.history.stages.push(summary);
        if let Some(chosen) = config.runner().chosen(&self.checkpoint.history) {
            ranks.share_result(|| self.write_chosen(number, config, chosen))?;
        }
        self.checkpoint.write_on_rank_0(&path)?;
        if ranks.leads() {
            // These files are no longer needed. If one cannot be removed, it does no harm.
            for name in [BEST_EPOCH, TRIALS] {
                let _ = std::fs::remove_file(path.with_file_name(name));
            }
        }
        self.candidates.push(path.into());
        Ok(())
    }

    /// Goes on with a saved checkpoint, on the run's device. Returns the one before.
    fn take_up(&mut self, mut saved: Checkpoint) -> Checkpoint {
        saved.model.parameters.run_like(&self.checkpoint.model.parameters);
        std::mem::replace(&mut self.checkpoint, saved)
    }

    /// Records the environment, and warns if it differs from that of earlier stages.
    fn record_environment(&mut self, observer: &mut dyn Observer) {
        let environments = &mut self.checkpoint.history.environments;
        let before = environments.last();
        if before == Some(&self.environment) {
            return;
        }
        if let Some(message) = before.and_then(|before| before.difference(&self.environment)) {
            observer.event(&Event::Warning { message });
        }
        environments.push(self.environment.clone());
    }

    /// Writes the recipe with a stage replaced by its choice, for use in another run.
    fn write_chosen(&self, number: usize, config: &StageConfig, chosen: StageConfig) -> Result<(), RunError> {
        let mut recipe = self.request.recipe.clone();
        let place = self.request.recipe.stages.iter().position(|stage| std::ptr::eq(stage, config));
        if let Some(place) = place {
            recipe.stages[place] = chosen;
            recipe.corpus.hold_out_dev = true;
        }
        folder::write(&self.request.out.join(format!("{number:02}-planned.toml")), recipe.to_toml().as_bytes())
    }

    fn summarize(
        &mut self,
        config: &StageConfig,
        fresh_model: bool,
        trained: Trained,
        weights_bytes: u64,
        seconds: f64,
    ) -> StageSummary {
        // A new model in a `train` stage has only its own epochs. A student also counts its
        // teacher's.
        let begins_anew = fresh_model && config.kind() == StageKind::Train;
        let before = if begins_anew { 0 } else { self.checkpoint.history.epochs };
        self.checkpoint.history.epochs = before + trained.kept_epoch;
        self.checkpoint.history.trained_to_end = trained.trained_to_end;
        let parameters = &self.checkpoint.model.parameters;
        let architecture = parameters.architecture();
        StageSummary {
            stage: self.checkpoint.history.stages.len() + 1,
            kind: config.kind(),
            epochs: trained.epochs,
            kept_epoch: trained.kept_epoch,
            epochs_total: self.checkpoint.history.epochs,
            trained_to_end: trained.trained_to_end,
            fresh_model,
            float: architecture.quantization.is_none(),
            causality: architecture.causality,
            parameters: architecture.parameter_count(),
            nonzero_parameters: parameters.nonzero_count(),
            experts: architecture.experts.clone(),
            weights_bytes,
            expert_usage: trained.expert_usage,
            valid_perplexity: trained.valid_perplexity,
            dev_perplexity: trained.dev_perplexity,
            seconds,
        }
    }
}
