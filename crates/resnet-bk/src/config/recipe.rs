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

use super::expand::{assign, expand_presets, expand_schedules};
use super::{ConfigError, ModelConfig, StageConfig, StageKind};
use resnet_bk_runtime::architecture::Architecture;
use resnet_bk_runtime::tokenizer::{BlankLines, Pretokenizer};
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
#[serde(deny_unknown_fields, default)]
pub struct CorpusConfig {
    /// Only the first so many training tokens are trained on (the vocabulary is counted on all).
    pub data_limit: Option<usize>,
    /// Which tokens a text comes to.
    pub protocol: Protocol,
    /// How words are split; the corpus's own way where it is not said.
    pub pretokenizer: Option<Pretokenizer>,
    /// Whether the dev slice is held out of the training text even where no stage chooses by it: a run that repeats what a planner chose
    /// trains on the same tokens.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub hold_out_dev: bool,
}

/// Which tokens a text comes to. Perplexities of one protocol cannot be compared with those of the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Blank lines are dropped, and the vocabulary is cut to `model.vocab_size` words.
    #[default]
    Compact,
    /// Every line ends with `<eos>`, blank ones too, and every word of the training text is in the vocabulary: how the literature counts
    /// WikiText.
    Published,
}

impl Protocol {
    /// What becomes of blank lines.
    pub fn blank_lines(self) -> BlankLines {
        match self {
            Self::Compact => BlankLines::Dropped,
            Self::Published => BlankLines::Kept,
        }
    }

    /// Most words of a vocabulary.
    pub fn vocab_size(self, asked: usize) -> usize {
        match self {
            Self::Compact => asked,
            Self::Published => usize::MAX,
        }
    }
}

/// Which baseline a target is measured against.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Against {
    /// The recipe's first model.
    Baseline,
    /// The best float model of the run.
    #[default]
    Best,
}

impl std::fmt::Display for Against {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Baseline => "the first model",
            Self::Best => "the best float model",
        })
    }
}

/// What a run must reach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Target {
    /// The baseline that `ratio` and `max_loss` are measured against.
    pub against: Against,
    /// Float32 bytes of the baseline over bytes of the artifact's weights section, at least.
    pub ratio: Option<f64>,
    /// Loss of perplexity against the baseline, at most: 0.15 allows 15 % more.
    pub max_loss: Option<f64>,
    /// Length of the artifact's file, at most.
    pub bytes: Option<u64>,
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
    /// A student's sizes or a quantization policy do not make a model.
    #[error("[[stage]] {stage} ({kind}): {source}")]
    Sizes {
        /// Its number, from 1.
        stage: usize,
        /// Its kind.
        kind: StageKind,
        /// What is wrong.
        source: ConfigError,
    },
    /// No stage would run.
    #[error("the recipe has no [[stage]]; the first must be of kind \"train\", unless a model is given")]
    Empty,
}

impl Target {
    /// Whether it asks for something.
    pub fn asks(&self) -> bool {
        self.ratio.is_some() || self.max_loss.is_some() || self.bytes.is_some()
    }
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
        expand_presets(&mut table)?;
        expand_schedules(&mut table);
        let recipe: Self = Value::Table(table).try_into().map_err(|e: toml::de::Error| format(e.to_string()))?;
        recipe.validate()?;
        Ok(recipe)
    }

    /// Whether the dev slice is held out of the training text.
    pub fn holds_out_dev(&self) -> bool {
        self.corpus.hold_out_dev || self.stages.iter().any(StageConfig::needs_dev_slice)
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
        // A student is the model of the stages after it.
        let mut model = self.model.clone();
        for (index, stage) in self.stages.iter().enumerate() {
            let (number, kind) = (index + 1, stage.kind());
            stage.validate(&model).map_err(|(field, value, allowed)| RecipeError::Stage {
                stage: number,
                kind,
                field,
                value,
                allowed,
            })?;
            let sizes = |source| RecipeError::Sizes { stage: number, kind, source };
            let fault =
                |field, value: String, allowed| RecipeError::Stage { stage: number, kind, field, value, allowed };
            stage.check_windows(&model).map_err(|windows| {
                fault("model.n_seq", windows.to_string(), "at most that of a teacher with position embeddings")
            })?;
            model = stage.model_after(&model);
            model.validate().map_err(sizes)?;
            let policy = match stage {
                StageConfig::Distill(distill) => distill.quantization.as_ref(),
                StageConfig::Qat(qat) => qat.quantization.as_ref(),
                StageConfig::Train(_) | StageConfig::Prune(_) | StageConfig::Plan(_) => None,
            };
            let architecture = Architecture { quantization: policy.cloned(), ..model.architecture() };
            architecture.validate().map_err(ConfigError::from).map_err(sizes)?;
            if let StageConfig::Plan(plan) = stage
                && plan.trial_tokens < (plan.schedule.batch_size + 1) * model.n_seq
            {
                let allowed = "at least n_seq tokens for each window of a batch, and n_seq more";
                return Err(fault("trial_tokens", plan.trial_tokens.to_string(), allowed));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{MagnitudePruning, Schedule};

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
        fails("stage.2.student.n_layers=0", "[[stage]] 3 (distill): number of blocks is 0");
        fails("stage.2.student.d_model=0", "d_model is 0");
        fails("stage.1.experts.milestones=[{epoch=1, experts=1}]", "before the stage's end");
        fails("stage.1.experts.milestones=[{epoch=0, experts=0}]", "at least top_k");
        fails("stage.1.kind=\"qat\"", "unknown field");
        fails("stage.2.model={n_layers=2}", "student is");
        fails("stage.2.schedule.weights_bytes=0", "weights_bytes is 0");
        let hasty = TEXT.replace("\"distill\"", "\"plan\"").replace("student.d_model = 8", "trial_tokens = 20");
        let error = Recipe::parse(&hasty, "test", &[]).unwrap_err().to_string();
        assert!(error.contains("trial_tokens is 20"), "{error}");
    }

    #[test]
    fn a_stage_can_bring_a_model_of_its_own() {
        let set = ["stage.0.model={preset=\"memory\", heads=4}".to_owned(), "stage.1.kind=\"train\"".to_owned()];
        let text = TEXT.replace("magnitude.sparsity = 0.5", "").replace("experts.milestones", "#");
        let text = text.replace("student.d_model = 8", "model.n_layers = 5\nquantization.learned.expert = 3");
        let recipe = Recipe::parse(&text, "test", &set).unwrap();
        let mut model = recipe.model.clone();
        let mut after = |stage: &StageConfig| {
            model = stage.model_after(&model);
            (model.d_model, model.heads, model.n_layers)
        };
        assert_eq!(after(&recipe.stages[0]), (64, 4, 3));
        assert_eq!(after(&recipe.stages[1]), (64, 4, 3));
        assert_eq!(after(&recipe.stages[2]), (24, recipe.model.heads, 5));
        assert_eq!([0, 1, 2].map(|stage| recipe.stages[stage].brings_model()), [true, false, true]);
        let StageConfig::Distill(distill) = &recipe.stages[2] else { panic!("the third stage distills") };
        assert_eq!(distill.quantization.as_ref().unwrap().learned.as_ref().unwrap().expert, 3);
    }
}
