//! A whole run: stage after stage, then the artifact, decoded again and measured.
//!
//! ```text
//! RUN/recipe.toml   RUN/01-train/model.safetensors   RUN/02-qat/model.safetensors ...   RUN/model.rbk   RUN/summary.json
//! ```
//!
//! A stage's file holds an unfinished stage until the stage is done, and then the model that the next one starts from.

use crate::batch::{BatchError, Batches, limit_tokens};
use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::compress::{is_enabled, planner, run_stage};
use crate::config::{Recipe, StageConfig, StageKind, Target};
use crate::corpus::{Corpus, CorpusError, build_vocabulary};
use crate::evaluate::{evaluate_model, evaluate_parameters};
use crate::export::pack;
use crate::ngram::{NgramBaselines, NgramError};
use crate::observer::{Event, Observer};
use crate::summary::{ArtifactSummary, BaselineSummary, CorpusSummary, StageSummary, Summary};
use crate::train::{Stage, TokenStreams, TrainError};
use resnet_bk_runtime::artifact::{Artifact, ArtifactError};
use resnet_bk_runtime::atomic::write_atomically;
use resnet_bk_runtime::tokenizer::Vocabulary;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Instant;
use thiserror::Error;

/// What to run.
#[derive(Clone, Debug)]
pub struct RunRequest {
    /// The stages and the baseline.
    pub recipe: Recipe,
    /// The text.
    pub corpus: Corpus,
    /// The run's folder.
    pub out: PathBuf,
    /// Whether a run in this folder goes on where it stopped.
    pub resume: bool,
    /// A checkpoint to start from instead of a fresh model.
    pub model: Option<PathBuf>,
}

/// A run that could not be finished. What was done is in its folder.
#[derive(Debug, Error)]
pub enum RunError {
    /// The folder holds a run, and resuming was not asked for.
    #[error("{path} already holds a run; go on with it by --resume, or choose another --out")]
    Exists {
        /// The folder.
        path: PathBuf,
    },
    /// Another process works in the folder.
    #[error("another run is writing to {path}; wait for it to end, or choose another --out")]
    Busy {
        /// The folder.
        path: PathBuf,
    },
    /// The folder holds a run of another recipe.
    #[error("{path} holds a run of another recipe: it differs from this one, so it can not go on with it")]
    OtherRecipe {
        /// The recipe of that run.
        path: PathBuf,
    },
    /// The folder holds a run on another text.
    #[error(
        "{path} was trained on a text with another vocabulary; go on with the text it began with, or choose another --out"
    )]
    OtherText {
        /// The checkpoint of that run.
        path: PathBuf,
    },
    /// The artifact does not predict as the model that it was packed from.
    #[error(
        "the decoded artifact has perplexity {decoded}, the model that was packed {trained}: this is a bug, please report it"
    )]
    Parity {
        /// Perplexity in training.
        trained: f64,
        /// Perplexity of the file.
        decoded: f64,
    },
    /// A teacher has no positions for its student's windows.
    #[error(
        "the {kind} stage has windows of {windows} tokens, but the model that it learns from has positions for {positions}: set model.n_seq of that stage"
    )]
    Windows {
        /// Tokens of the student's windows.
        windows: usize,
        /// The teacher's positions.
        positions: usize,
        /// The stage.
        kind: StageKind,
    },
    /// A size is asked for that nothing will keep to.
    #[error(
        "schedule.weights_bytes is {bytes}, but no stage that asks for it has quantizers with trained steps: set quantization.learned of a qat or distill stage"
    )]
    SizeOfFloats {
        /// The size.
        bytes: u64,
    },
    /// The text does not make a batch.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// A file of the run can not be read or written.
    #[error("can not access {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The first stage has no model to work on.
    #[error("the first stage is `{0}`, but there is no model: begin with a `train` stage, or give --model")]
    NothingToCompress(StageKind),
    /// Every stage is switched off in `[model]`.
    #[error("no stage is left to run: use_quantization, use_pruning and use_distillation switch them off")]
    NoStages,
    /// The text makes no vocabulary.
    #[error(transparent)]
    Corpus(#[from] CorpusError),
    /// The text is too short for n-gram baselines.
    #[error(transparent)]
    Ngrams(#[from] NgramError),
    /// A checkpoint can not be read or written.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A stage failed.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// The model can not be packed.
    #[error("the model can not be packed")]
    Artifact(#[from] ArtifactError),
}

/// How far the decoded artifact's perplexity may be from the trained model's, relative: both compute alike but for the order of the
/// head's sums.
const PARITY: f64 = 1e-4;
/// Bytes by which a student's config may be longer than its teacher's: it names its bins and levels.
const CONFIG_ROOM: u64 = 600;
/// Name of a stage's file in its folder.
const CHECKPOINT: &str = "model.safetensors";

/// Runs a recipe.
///
/// # Errors
/// [`RunError`]. Everything up to the last epoch is in the run's folder, and a resumed run goes on from there.
pub fn run(request: &RunRequest, observer: &mut dyn Observer) -> Result<Summary, RunError> {
    let recipe = &request.recipe;
    // A model that is given takes the place of the training that the recipe begins with.
    let leading = |stage: &&StageConfig| request.model.is_some() && stage.kind() == StageKind::Train;
    let stages: Vec<&StageConfig> =
        recipe.stages.iter().skip_while(leading).filter(|stage| is_enabled(stage.kind(), &recipe.model)).collect();
    let first = stages.first().ok_or(RunError::NoStages)?;
    if request.model.is_none() && first.kind() != StageKind::Train {
        return Err(RunError::NothingToCompress(first.kind()));
    }
    let plans = stages.iter().any(|stage| stage.kind() == StageKind::Plan);
    if plans && recipe.target.ratio.is_none() && recipe.target.bytes.is_none() {
        return Err(TrainError::NoBudget.into());
    }
    check_folder(request)?;
    let mut run = Run::prepare(request)?;
    run.check_stages(&stages)?;
    let _alone = lock(&request.out)?;
    write(&request.out.join("recipe.toml"), recipe.to_toml().as_bytes())?;
    for (index, config) in stages.iter().enumerate() {
        run.is_baseline &= config.kind() == StageKind::Train && (index == 0 || !config.brings_model());
        run.stage(index + 1, config, observer)?;
    }
    run.finish()
}

/// Checks that the run's folder holds no run, or one that may be gone on with.
fn check_folder(request: &RunRequest) -> Result<(), RunError> {
    let path = request.out.join("recipe.toml");
    if !path.exists() {
        return Ok(());
    }
    if !request.resume {
        return Err(RunError::Exists { path: request.out.clone() });
    }
    let old = std::fs::read_to_string(&path).map_err(|source| RunError::File { path: path.clone(), source })?;
    let same = Recipe::parse(&old, "recipe.toml", &[]).is_ok_and(|old| same_work(&old, &request.recipe));
    if same { Ok(()) } else { Err(RunError::OtherRecipe { path }) }
}

/// Makes the run's folder and locks it until the file is dropped, or the process ends in any way. Some systems do not lock folders; a
/// run goes on there without.
fn lock(folder: &Path) -> Result<Option<File>, RunError> {
    std::fs::create_dir_all(folder).map_err(|source| RunError::File { path: folder.to_owned(), source })?;
    let Ok(file) = File::open(folder) else {
        return Ok(None);
    };
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => Err(RunError::Busy { path: folder.to_owned() }),
        _ => Ok(Some(file)),
    }
}

/// Whether a run of the old recipe is a beginning of the new one's, or the other way round. A target may change.
fn same_work(old: &Recipe, new: &Recipe) -> bool {
    let shorter = old.stages.len().min(new.stages.len());
    // A planner works towards the target.
    let target = if old.stages.iter().any(|stage| stage.kind() == StageKind::Plan) { old.target } else { new.target };
    old.stages[..shorter] == new.stages[..shorter]
        && Recipe { target, stages: new.stages.clone(), ..old.clone() } == *new
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), RunError> {
    let written = path.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| write_atomically(path, bytes));
    written.map_err(|source| RunError::File { path: path.to_owned(), source })
}

struct Run<'a> {
    request: &'a RunRequest,
    streams: TokenStreams,
    checkpoint: Checkpoint,
    /// Whether the present model is the first one, and was only trained: training moves the baseline then.
    is_baseline: bool,
}

impl<'a> Run<'a> {
    fn prepare(request: &'a RunRequest) -> Result<Self, RunError> {
        let recipe = &request.recipe;
        let pretokenizer = recipe.corpus.pretokenizer.unwrap_or(request.corpus.pretokenizer);
        let checkpoint = match &request.model {
            Some(path) => {
                let mut checkpoint = Checkpoint::read(path)?;
                checkpoint.finish_stage();
                checkpoint.config = checkpoint.config.with_settings_of(&recipe.model);
                checkpoint
            }
            None => {
                let vocabulary = build_vocabulary(&request.corpus.train, recipe.model.vocab_size, pretokenizer)?;
                Checkpoint::initialise(recipe.model.clone(), vocabulary, recipe.seed)
            }
        };
        let encode = |text: &str, vocabulary: &Vocabulary| vocabulary.encode(text);
        let train = encode(&request.corpus.train, &checkpoint.vocabulary);
        let streams = TokenStreams {
            train: limit_tokens(&train, recipe.corpus.data_limit).into(),
            valid: encode(&request.corpus.valid, &checkpoint.vocabulary).into(),
        };
        if streams.valid.len() < 2 {
            return Err(TrainError::NothingHeldOut { tokens: streams.valid.len() }.into());
        }
        let is_baseline = checkpoint.stages.iter().all(|stage| stage.kind == StageKind::Train);
        let mut run = Self { request, streams, checkpoint, is_baseline };
        if run.request.model.is_some() && run.checkpoint.baseline.is_none() {
            let perplexity = evaluate_parameters(&run.checkpoint.parameters, &run.streams.valid).perplexity();
            run.set_baseline(perplexity);
        }
        Ok(run)
    }

    /// Checks that every stage can run, for what is found too late costs the stages before it.
    fn check_stages(&self, stages: &[&StageConfig]) -> Result<(), RunError> {
        let mut model = self.checkpoint.config.clone();
        let quantization = self.checkpoint.parameters.architecture().quantization.as_ref();
        let mut steps = quantization.is_some_and(|policy| policy.learned.is_some());
        let (mut asked, mut kept) = (None, false);
        for stage in stages {
            steps = stage.has_trained_steps(steps);
            if let Some(bytes) = stage.schedule().weights_bytes {
                asked = Some(bytes);
                kept |= steps;
            }
            stage.check_windows(&model).map_err(|windows| RunError::Windows {
                windows,
                positions: model.n_seq,
                kind: stage.kind(),
            })?;
            model = stage.model_after(&model);
            let train = match stage {
                StageConfig::Plan(plan) => planner::split(&self.streams, plan.trial_tokens).train,
                _ => self.streams.train.clone(),
            };
            Batches::new(train, model.n_seq, stage.schedule().batch_size, 0, 0)?;
        }
        match asked {
            Some(bytes) if !kept => Err(RunError::SizeOfFloats { bytes }),
            _ => Ok(()),
        }
    }

    /// The float32 model that the artifact is compared with.
    fn set_baseline(&mut self, valid_perplexity: f64) {
        let parameters = self.checkpoint.parameters.architecture().parameter_count();
        self.checkpoint.baseline =
            Some(BaselineSummary { parameters, float32_bytes: 4 * parameters as u64, valid_perplexity });
    }

    /// Runs a stage, goes on with it, or takes its result if it is done already.
    fn stage(&mut self, number: usize, config: &StageConfig, observer: &mut dyn Observer) -> Result<(), RunError> {
        let path = self.request.out.join(format!("{number:02}-{}", config.kind())).join(CHECKPOINT);
        let mut teacher = None;
        let saved = if path.exists() { Some(Checkpoint::read(&path)?) } else { None };
        if saved.as_ref().is_some_and(|saved| saved.vocabulary != self.checkpoint.vocabulary) {
            return Err(RunError::OtherText { path });
        }
        let before = saved.as_ref().and_then(|saved| saved.progress).map_or(0.0, |progress| progress.seconds);
        match saved {
            Some(saved) if saved.progress.is_none() => {
                self.checkpoint = saved;
                return Ok(());
            }
            Some(saved) => {
                let previous = std::mem::replace(&mut self.checkpoint, saved);
                teacher = matches!(config.kind(), StageKind::Prune | StageKind::Distill | StageKind::Plan)
                    .then_some(previous);
            }
            None => {}
        }
        let started = Instant::now();
        let stage = Stage {
            number,
            kind: config.kind(),
            schedule: config.schedule(),
            seed: self.request.recipe.seed,
            save_to: Some(path.clone()),
            budget: if config.kind() == StageKind::Plan { self.budget()? } else { None },
        };
        let perplexity = run_stage(&mut self.checkpoint, teacher, config, &stage, &self.streams, observer)?;
        let summary = self.summarise(config.kind(), perplexity, before + started.elapsed().as_secs_f64())?;
        observer.event(&Event::StageEnded {
            stage: number,
            kind: config.kind(),
            valid_perplexity: summary.valid_perplexity,
            seconds: summary.seconds,
        });
        self.checkpoint.stages.push(summary);
        if config.kind() == StageKind::Plan {
            self.write_planned_recipe(number, config)?;
        }
        if let (true, Some(stage)) = (self.is_baseline, self.checkpoint.stages.last()) {
            self.set_baseline(stage.valid_perplexity);
        }
        Ok(self.checkpoint.write(&path)?)
    }

    /// Most bytes of the weights section that the target leaves.
    fn budget(&self) -> Result<Option<u64>, RunError> {
        let target = self.request.recipe.target;
        let by_ratio = target.ratio.zip(self.checkpoint.baseline.as_ref());
        let by_ratio = by_ratio.map(|(ratio, baseline)| (baseline.float32_bytes as f64 / ratio) as u64);
        let by_bytes = match target.bytes {
            Some(bytes) => {
                let ledger = pack(&self.checkpoint)?.ledger()?;
                Some(bytes.saturating_sub(ledger.total_bytes() - ledger.weights_bytes() + CONFIG_ROOM))
            }
            None => None,
        };
        Ok(by_ratio.into_iter().chain(by_bytes).min())
    }

    /// The recipe with the planner's choice in the place of its stage: what another run can start from.
    fn write_planned_recipe(&self, number: usize, config: &StageConfig) -> Result<(), RunError> {
        let mut recipe = self.request.recipe.clone();
        let place = self.request.recipe.stages.iter().position(|stage| std::ptr::eq(stage, config));
        if let (Some(place), Some(plan)) = (place, &self.checkpoint.plan) {
            recipe.stages[place] = StageConfig::Distill(plan.distillation.clone());
        }
        write(&self.request.out.join(format!("{number:02}-planned.toml")), recipe.to_toml().as_bytes())
    }

    fn summarise(&self, kind: StageKind, valid_perplexity: f64, seconds: f64) -> Result<StageSummary, RunError> {
        let parameters = &self.checkpoint.parameters;
        Ok(StageSummary {
            stage: self.checkpoint.stages.len() + 1,
            kind,
            parameters: parameters.architecture().parameter_count(),
            nonzero_parameters: parameters.nonzero_count(),
            experts: parameters.architecture().experts.clone(),
            weights_bytes: pack(&self.checkpoint)?.weights_bytes()?,
            valid_perplexity,
            seconds,
        })
    }

    /// Writes the artifact, reads it again and measures what was read.
    fn finish(self) -> Result<Summary, RunError> {
        let path = self.request.out.join("model.rbk");
        pack(&self.checkpoint)?.write(&path)?;
        let decoded = Artifact::read(&path)?;
        let bytes_total = std::fs::metadata(&path).map_err(|source| RunError::File { path, source })?.len();
        let ledger = decoded.ledger()?;
        let artifact = ArtifactSummary {
            bytes_total,
            bytes_weights: ledger.weights_bytes(),
            valid_perplexity: evaluate_model(&decoded.to_model(), &self.streams.valid).perplexity(),
            ledger,
        };
        let trained = self.checkpoint.stages.last().map_or(f64::NAN, |stage| stage.valid_perplexity);
        if (artifact.valid_perplexity / trained - 1.0).abs() > PARITY {
            return Err(RunError::Parity { trained, decoded: artifact.valid_perplexity });
        }
        let path = self.request.out.join("summary.json");
        let summary = self.summary(artifact)?;
        let json = serde_json::to_vec_pretty(&summary).expect("a summary is plain data");
        write(&path, &json)?;
        Ok(summary)
    }

    fn summary(self, artifact: ArtifactSummary) -> Result<Summary, RunError> {
        let baseline = self.checkpoint.baseline.clone().expect("a run starts from a model or a train stage");
        let vocabulary = &self.checkpoint.vocabulary;
        let text_bytes: usize = vocabulary.words().iter().map(|word| word.len() + 1).sum();
        let ratio = baseline.float32_bytes as f64 / artifact.bytes_weights as f64;
        let loss = artifact.valid_perplexity / baseline.valid_perplexity - 1.0;
        let target = self.request.recipe.target;
        let missed = target.ratio.is_some_and(|least| ratio < least)
            || target.max_loss.is_some_and(|most| loss > most)
            || target.bytes.is_some_and(|most| artifact.bytes_total > most);
        let nothing_asked = target == Target::default();
        Ok(Summary {
            corpus: CorpusSummary {
                name: self.request.corpus.name.clone(),
                train_tokens: self.streams.train.len(),
                valid_tokens: self.streams.valid.len(),
                vocab_size: vocabulary.len(),
            },
            causality: self.checkpoint.config.causality,
            ngrams: NgramBaselines::measure(&self.streams.train, &self.streams.valid, vocabulary.len())?,
            ratio_with_vocabulary: (baseline.float32_bytes + text_bytes as u64) as f64 / artifact.bytes_total as f64,
            seconds: self.checkpoint.stages.iter().map(|stage| stage.seconds).sum(),
            stages: self.checkpoint.stages,
            removals: self.checkpoint.removals,
            plan: self.checkpoint.plan.map(|plan| plan.summary),
            target_reached: (!nothing_asked).then_some(!missed),
            artifact,
            baseline,
            ratio,
            loss,
            target,
        })
    }
}
