//! A recipe: every number that a run depends on, as a TOML file.
//!
//! ```toml
//! seed = 1
//! [model]
//! preset = "seed"        # the other fields of the model override it
//! [schedule]             # defaults of every stage's schedule
//! batch_size = 20
//! [[stage]]
//! kind = "train"
//! schedule.epochs = 3
//! ```

use super::{ConfigError, ModelConfig};
use resnet_bk_runtime::quantization::QuantizationPolicy;
use resnet_bk_runtime::tokenizer::Pretokenizer;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use thiserror::Error;
use toml::{Table, Value};

/// Everything a run depends on but the text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Seed of initialisation, shuffling and dropout.
    pub seed: u64,
    /// How much of the text is used, and how it is split into words.
    #[serde(default)]
    pub corpus: CorpusConfig,
    /// The baseline model.
    pub model: ModelConfig,
    /// What must be reached.
    #[serde(default)]
    pub target: Target,
    /// The stages, in order.
    #[serde(rename = "stage")]
    pub stages: Vec<StageConfig>,
}

/// How a text becomes tokens.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CorpusConfig {
    /// Only the first so many training tokens are trained on (the vocabulary is counted on all).
    pub data_limit: Option<usize>,
    /// How words are split; the corpus's own way where it is not said.
    pub pretokenizer: Option<Pretokenizer>,
}

/// What a run must reach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// Float32 bytes of the baseline over bytes of the artifact's weights section, at least.
    pub ratio: Option<f64>,
    /// Loss of perplexity against the baseline, at most: 0.15 allows 15 % more.
    pub max_loss: Option<f64>,
}

/// One stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum StageConfig {
    /// Plain training.
    Train(TrainConfig),
    /// Quantization-aware training.
    Qat(QatConfig),
    /// Structured and magnitude pruning with training after it.
    Prune(PruneConfig),
    /// A smaller student learns from the model so far.
    Distill(DistillConfig),
}

/// The kinds of stages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StageKind {
    /// Plain training.
    Train,
    /// Quantization-aware training.
    Qat,
    /// Pruning.
    Prune,
    /// Distillation.
    Distill,
}

impl std::fmt::Display for StageKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Train => "train",
            Self::Qat => "qat",
            Self::Prune => "prune",
            Self::Distill => "distill",
        })
    }
}

/// How the learning rate goes on after the warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LearningRateShape {
    /// Half a cosine from the peak to `final_fraction` of it.
    Cosine,
    /// It stays.
    Constant,
}

/// The optimizer's schedule in one stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Schedule {
    /// Passes over the training tokens.
    pub epochs: usize,
    /// Windows in a batch.
    pub batch_size: usize,
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Shape after the warm-up.
    pub shape: LearningRateShape,
    /// Share of the steps over which the rate rises linearly from zero.
    pub warmup: f64,
    /// Last rate over the peak (cosine).
    pub final_fraction: f64,
    /// Decoupled weight decay of matrices and tables.
    pub weight_decay: f64,
    /// Decay of the gradient's running mean.
    pub beta1: f64,
    /// Decay of its square's running mean.
    pub beta2: f64,
}

impl Default for Schedule {
    fn default() -> Self {
        Self {
            epochs: 1,
            batch_size: 20,
            learning_rate: 2e-3,
            shape: LearningRateShape::Cosine,
            warmup: 0.05,
            final_fraction: 0.05,
            weight_decay: 0.01,
            beta1: 0.9,
            beta2: 0.999,
        }
    }
}

/// Settings of plain training.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainConfig {
    /// The optimizer's schedule.
    pub schedule: Schedule,
}

/// Settings of quantization-aware training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QatConfig {
    /// The optimizer's schedule.
    pub schedule: Schedule,
    /// Bits per part; the model's `quantization_bits` for the tables where it is not said.
    pub quantization: Option<QuantizationPolicy>,
    /// Windows of training text that calibrate the activations, at least 200.
    pub calibration_samples: usize,
}

impl Default for QatConfig {
    fn default() -> Self {
        Self { schedule: Schedule::default(), quantization: None, calibration_samples: 256 }
    }
}

/// Settings of pruning.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PruneConfig {
    /// The optimizer's schedule.
    pub schedule: Schedule,
    /// Which experts go.
    pub experts: ExpertPruning,
    /// Which single weights go.
    pub magnitude: Option<MagnitudePruning>,
}

/// Which experts are removed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ExpertPruning {
    /// Least share of held-out tokens that keeps an expert; the model's `prune_threshold` where it is not said.
    pub threshold: Option<f64>,
    /// Experts that stay from a point of the stage on: the most used ones.
    pub milestones: Vec<Milestone>,
}

/// A point of a progressive schedule, by step or by epoch.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Milestone {
    /// Before this step of the stage, counted from 0.
    pub step: Option<usize>,
    /// Before this epoch of the stage, counted from 0.
    pub epoch: Option<usize>,
    /// Experts of each block that stay.
    pub experts: usize,
}

/// Which weights are held at zero: a matrix's smallest.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MagnitudePruning {
    /// Those below this size.
    Threshold(f32),
    /// This share of each matrix.
    Sparsity(f32),
}

/// Settings of distillation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DistillConfig {
    /// The optimizer's schedule.
    pub schedule: Schedule,
    /// The student's sizes.
    pub student: StudentConfig,
    /// Temperature of the soft targets.
    pub temperature: f32,
    /// Weight of the soft targets; the hard ones have the rest.
    pub alpha: f32,
    /// Weight of the resolvent features of matching blocks.
    pub feature_weight: f32,
    /// Share of the stage after which the student is compressed as its teacher was.
    pub compress_at: f64,
}

impl Default for DistillConfig {
    fn default() -> Self {
        Self {
            schedule: Schedule::default(),
            student: StudentConfig::default(),
            temperature: 2.0,
            alpha: 0.7,
            feature_weight: 0.1,
            compress_at: 0.5,
        }
    }
}

/// Sizes of a student; what is not said follows from the teacher.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StudentConfig {
    /// Width; half the teacher's.
    pub d_model: Option<usize>,
    /// Blocks; half the teacher's.
    pub n_layers: Option<usize>,
    /// Experts; two.
    pub num_experts: Option<usize>,
    /// Expert width; twice the student's width.
    pub d_ff: Option<usize>,
    /// Heads; the teacher's.
    pub heads: Option<usize>,
    /// Whether the head shares the table; as the teacher's.
    pub tied_embeddings: Option<bool>,
}

impl StudentConfig {
    /// The student's configuration.
    pub fn of(&self, teacher: &ModelConfig) -> ModelConfig {
        let d_model = self.d_model.unwrap_or(teacher.d_model.div_ceil(2));
        let num_experts = self.num_experts.unwrap_or(2);
        ModelConfig {
            d_model,
            n_layers: self.n_layers.unwrap_or(teacher.n_layers.div_ceil(2)),
            num_experts,
            top_k: teacher.top_k.min(num_experts),
            d_ff: self.d_ff.unwrap_or(2 * d_model),
            heads: self.heads.unwrap_or(teacher.heads),
            tied_embeddings: self.tied_embeddings.unwrap_or(teacher.tied_embeddings),
            ..teacher.clone()
        }
    }
}

impl StageConfig {
    /// Which kind it is.
    pub fn kind(&self) -> StageKind {
        match self {
            Self::Train(_) => StageKind::Train,
            Self::Qat(_) => StageKind::Qat,
            Self::Prune(_) => StageKind::Prune,
            Self::Distill(_) => StageKind::Distill,
        }
    }

    /// The optimizer's schedule.
    pub fn schedule(&self) -> &Schedule {
        match self {
            Self::Train(config) => &config.schedule,
            Self::Qat(config) => &config.schedule,
            Self::Prune(config) => &config.schedule,
            Self::Distill(config) => &config.schedule,
        }
    }
}

/// A recipe that can not be used.
#[derive(Debug, Error)]
pub enum RecipeError {
    /// The file can not be read.
    #[error("can not read the recipe {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not TOML, or a field is unknown or of the wrong type.
    #[error("{place}: {message}")]
    Format {
        /// File and, where known, line.
        place: String,
        /// What is wrong.
        message: String,
    },
    /// A `--set` that is not `key=value`, or whose key does not exist.
    #[error("--set {assignment}: {message}")]
    Assignment {
        /// As it was given.
        assignment: String,
        /// What is wrong.
        message: String,
    },
    /// The model's configuration is wrong.
    #[error("[model] {0}")]
    Model(#[from] ConfigError),
    /// A stage's field is outside its range.
    #[error("[[stage]] {stage} ({kind}): {field} is {value}, but must be {allowed}")]
    Stage {
        /// Its number, from 1.
        stage: usize,
        /// Its kind.
        kind: StageKind,
        /// The field.
        field: &'static str,
        /// What it holds.
        value: String,
        /// What it may hold.
        allowed: &'static str,
    },
    /// No stage would run.
    #[error("the recipe has no [[stage]]; the first must be of kind \"train\", unless a model is given")]
    Empty,
}

impl Recipe {
    /// Reads a recipe and applies `key=value` assignments, such as `model.d_model=32` or `stage.0.schedule.epochs=1`.
    ///
    /// # Errors
    /// [`RecipeError`], naming the file and the field.
    pub fn read(path: &Path, assignments: &[String]) -> Result<Self, RecipeError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| RecipeError::Read { path: path.to_owned(), source })?;
        Self::parse(&text, &path.display().to_string(), assignments)
    }

    /// Parses a recipe; `place` names it in errors.
    ///
    /// # Errors
    /// As [`Recipe::read`].
    pub fn parse(text: &str, place: &str, assignments: &[String]) -> Result<Self, RecipeError> {
        let format = |message: String| RecipeError::Format { place: place.to_owned(), message };
        let mut table: Table = text.parse().map_err(|error: toml::de::Error| format(error.to_string()))?;
        for assignment in assignments {
            assign(&mut table, assignment)
                .map_err(|message| RecipeError::Assignment { assignment: assignment.clone(), message })?;
        }
        expand_preset(&mut table)?;
        expand_schedules(&mut table);
        let recipe: Self = Value::Table(table).try_into().map_err(|e: toml::de::Error| format(e.to_string()))?;
        recipe.validate()?;
        Ok(recipe)
    }

    /// The recipe with all its values, as TOML that [`Recipe::parse`] reads back.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("a recipe is made of tables, numbers and strings")
    }

    /// Checks every field.
    ///
    /// # Errors
    /// The first field outside its range.
    pub fn validate(&self) -> Result<(), RecipeError> {
        self.model.validate()?;
        if self.stages.is_empty() {
            return Err(RecipeError::Empty);
        }
        for (index, stage) in self.stages.iter().enumerate() {
            stage.validate().map_err(|(field, value, allowed)| RecipeError::Stage {
                stage: index + 1,
                kind: stage.kind(),
                field,
                value,
                allowed,
            })?;
        }
        Ok(())
    }
}

impl StageConfig {
    fn validate(&self) -> Result<(), (&'static str, String, &'static str)> {
        let share = |x: f64| (0.0..=1.0).contains(&x);
        let schedule = self.schedule();
        let mut rules = vec![
            (schedule.epochs >= 1, "epochs", schedule.epochs.to_string(), "at least 1"),
            (schedule.batch_size >= 1, "batch_size", schedule.batch_size.to_string(), "at least 1"),
            (schedule.learning_rate > 0.0, "learning_rate", schedule.learning_rate.to_string(), "above 0"),
            (share(schedule.warmup), "warmup", schedule.warmup.to_string(), "from 0 to 1"),
            (share(schedule.final_fraction), "final_fraction", schedule.final_fraction.to_string(), "from 0 to 1"),
            (schedule.weight_decay >= 0.0, "weight_decay", schedule.weight_decay.to_string(), "at least 0"),
            (
                share(schedule.beta1) && schedule.beta1 < 1.0,
                "beta1",
                schedule.beta1.to_string(),
                "at least 0 and below 1",
            ),
            (
                share(schedule.beta2) && schedule.beta2 < 1.0,
                "beta2",
                schedule.beta2.to_string(),
                "at least 0 and below 1",
            ),
        ];
        match self {
            Self::Train(_) => {}
            Self::Qat(qat) => rules.push((
                qat.calibration_samples >= 200,
                "calibration_samples",
                qat.calibration_samples.to_string(),
                "at least 200",
            )),
            Self::Prune(prune) => {
                let threshold = prune.experts.threshold.unwrap_or(0.0);
                rules.push((share(threshold), "experts.threshold", threshold.to_string(), "from 0 to 1"));
                for milestone in &prune.experts.milestones {
                    let placed = milestone.step.is_some() != milestone.epoch.is_some();
                    rules.push((
                        placed,
                        "experts.milestones",
                        format!("{milestone:?}"),
                        "placed by `step` or by `epoch`",
                    ));
                    rules.push((milestone.experts >= 1, "experts.milestones.experts", "0".to_owned(), "at least 1"));
                }
                match prune.magnitude {
                    Some(MagnitudePruning::Sparsity(s)) => {
                        rules.push((
                            (0.0..1.0).contains(&s),
                            "magnitude.sparsity",
                            s.to_string(),
                            "at least 0 and below 1",
                        ));
                    }
                    Some(MagnitudePruning::Threshold(t)) => {
                        rules.push((t >= 0.0, "magnitude.threshold", t.to_string(), "at least 0"));
                    }
                    None => {}
                }
            }
            Self::Distill(distill) => {
                rules.push((distill.temperature > 0.0, "temperature", distill.temperature.to_string(), "above 0"));
                rules.push((share(f64::from(distill.alpha)), "alpha", distill.alpha.to_string(), "from 0 to 1"));
                rules.push((
                    distill.feature_weight >= 0.0,
                    "feature_weight",
                    distill.feature_weight.to_string(),
                    "at least 0",
                ));
                rules.push((share(distill.compress_at), "compress_at", distill.compress_at.to_string(), "from 0 to 1"));
            }
        }
        rules.into_iter().find(|rule| !rule.0).map_or(Ok(()), |(_, field, value, allowed)| Err((field, value, allowed)))
    }
}

/// Puts the value of `key=value` at the dotted key; stages are numbered from 0.
fn assign(table: &mut Table, assignment: &str) -> Result<(), String> {
    let (key, text) = assignment.split_once('=').ok_or("expected key=value, for example model.d_model=32")?;
    let value = format!("x = {text}")
        .parse::<Table>()
        .ok()
        .and_then(|mut table| table.remove("x"))
        .unwrap_or_else(|| Value::String(text.to_owned()));
    let mut parts: Vec<&str> = key.trim().split('.').collect();
    let last = parts.pop().filter(|part| !part.is_empty()).ok_or("the key is empty")?;
    let mut place = table;
    let mut rest = parts.into_iter();
    while let Some(part) = rest.next() {
        place = match place.entry(part).or_insert_with(|| Value::Table(Table::new())) {
            Value::Table(inner) => inner,
            Value::Array(list) => {
                let count = list.len();
                let index = rest.next().and_then(|index| index.parse::<usize>().ok());
                let index = index.ok_or_else(|| format!("{part} is a list: write {part}.0 to {part}.{}", count - 1))?;
                match list.get_mut(index) {
                    Some(Value::Table(inner)) => inner,
                    _ => return Err(format!("{part} has {count} entries, numbered from 0")),
                }
            }
            _ => return Err(format!("{part} is a value, not a table")),
        };
    }
    place.insert(last.to_owned(), value);
    Ok(())
}

/// Replaces `model.preset` by the preset's fields, which the other fields override.
fn expand_preset(table: &mut Table) -> Result<(), RecipeError> {
    let Some(Value::Table(model)) = table.get_mut("model") else { return Ok(()) };
    let Some(Value::String(name)) = model.remove("preset") else { return Ok(()) };
    let Ok(Value::Table(mut expanded)) = Value::try_from(ModelConfig::preset(&name)?) else {
        unreachable!("a model's configuration is a table")
    };
    expanded.extend(std::mem::take(model));
    *model = expanded;
    Ok(())
}

/// Merges the top-level `[schedule]` under every stage's own.
fn expand_schedules(table: &mut Table) {
    let Some(Value::Table(defaults)) = table.remove("schedule") else { return };
    let Some(Value::Array(stages)) = table.get_mut("stage") else { return };
    for stage in stages.iter_mut().filter_map(Value::as_table_mut) {
        let mut merged = defaults.clone();
        if let Some(Value::Table(own)) = stage.remove("schedule") {
            merged.extend(own);
        }
        stage.insert("schedule".to_owned(), Value::Table(merged));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"
        seed = 1
        [model]
        preset = "tiny"
        d_model = 24
        [schedule]
        batch_size = 4
        learning_rate = 1e-3
        [[stage]]
        kind = "train"
        schedule.epochs = 2
        [[stage]]
        kind = "prune"
        schedule.learning_rate = 5e-4
        magnitude.sparsity = 0.5
        experts.milestones = [{ epoch = 0, experts = 2 }, { step = 9, experts = 1 }]
        [[stage]]
        kind = "distill"
        student.d_model = 8
    "#;

    #[test]
    fn presets_schedules_and_assignments_are_merged() {
        let set = ["model.n_layers=3".to_owned(), "stage.0.schedule.epochs=7".to_owned(), "seed=9".to_owned()];
        let recipe = Recipe::parse(TEXT, "test", &set).unwrap();
        assert_eq!((recipe.model.d_model, recipe.model.n_layers, recipe.seed), (24, 3, 9));
        let schedules: Vec<&Schedule> = recipe.stages.iter().map(StageConfig::schedule).collect();
        assert_eq!((schedules[0].epochs, schedules[0].batch_size, schedules[0].learning_rate), (7, 4, 1e-3));
        assert_eq!((schedules[1].batch_size, schedules[1].learning_rate), (4, 5e-4));
        let StageConfig::Prune(prune) = &recipe.stages[1] else { panic!("the second stage prunes") };
        assert_eq!(prune.magnitude, Some(MagnitudePruning::Sparsity(0.5)));
    }

    #[test]
    fn a_resolved_recipe_reads_back_as_itself() {
        let recipe = Recipe::parse(TEXT, "test", &[]).unwrap();
        assert_eq!(Recipe::parse(&recipe.to_toml(), "resolved", &[]).unwrap(), recipe);
    }

    #[test]
    fn mistakes_are_named() {
        let fails = |set: &str, part: &str| {
            let message = Recipe::parse(TEXT, "test.toml", &[set.to_owned()]).unwrap_err().to_string();
            assert!(message.contains(part), "{set}: {message}");
        };
        fails("model.d_modle=3", "d_modle");
        fails("stage.0.schedule.epochs=0", "[[stage]] 1 (train): epochs is 0, but must be at least 1");
        fails("stage.7.schedule.epochs=1", "stage has 3 entries");
        fails("stage.schedule=1", "stage is a list");
        fails("nonsense", "expected key=value");
        fails("model.top_k=9", "[model] top_k is 9, but must be from 1 to num_experts");
        fails("stage.0.kind=\"dance\"", "dance");
        fails("stage.2.alpha=2.0", "alpha is 2");
    }
}
