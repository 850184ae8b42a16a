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

use super::expand::{assign, expand_loss, expand_presets, expand_schedules};
use super::sources::{Place, Sources, too_large_message};
use super::target::written_loss;
use super::values::{ValueError, read, unknown_key};
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

/// A recipe that cannot be used.
#[derive(Debug, Error)]
pub enum RecipeError {
    /// The file cannot be read.
    #[error("cannot read the recipe {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("{place}: {message}")]
    Format {
        /// File and, where known, line.
        place: String,
        /// What is wrong.
        message: String,
    },
    /// A key is unknown or missing, or its value of the wrong kind.
    #[error("{place}: {key} {message}")]
    Value {
        /// Where it was written.
        place: Place,
        /// The key, dotted; stages are numbered from 0.
        key: String,
        /// What is wrong.
        message: String,
    },
    /// A value that can be read, but is wrong, and where it was written.
    #[error("{place}: {source}")]
    Placed {
        /// Where it was written.
        place: Place,
        /// What is wrong with it.
        source: Box<RecipeError>,
    },
    /// A target that nothing could reach, or everything.
    #[error("[target] {field} is {value}, but must be {allowed}")]
    Target {
        /// The field.
        field: &'static str,
        /// What it holds.
        value: String,
        /// What it may hold.
        allowed: &'static str,
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
        let sources = Sources { file: place, text, assignments };
        if let Some((place, number)) = sources.too_large() {
            return Err(RecipeError::Format { place: place.to_string(), message: too_large_message(&number) });
        }
        let mut table: Table = text.parse().map_err(|error: toml::de::Error| RecipeError::Format {
            place: place.to_owned(),
            message: error.to_string(),
        })?;
        for assignment in assignments {
            assign(&mut table, assignment)
                .map_err(|message| RecipeError::Assignment { assignment: assignment.clone(), message })?;
        }
        let recipe = Self::from_table(table).map_err(|error| error.at(&sources))?;
        recipe.validate().map_err(|error| error.at(&sources))?;
        Ok(recipe)
    }

    /// Whether the dev slice is held out of the training text.
    pub fn holds_out_dev(&self) -> bool {
        self.corpus.hold_out_dev || self.stages.iter().any(StageConfig::needs_dev_slice)
    }

    fn from_table(mut table: Table) -> Result<Self, ValueError> {
        expand_presets(&mut table)?;
        expand_schedules(&mut table)?;
        expand_loss(&mut table)?;
        // Serde would lose the place of what is wrong in a stage: it looks for the kind first.
        let stages = match table.get_mut("stage") {
            Some(Value::Array(stages)) => std::mem::take(stages).into_iter().enumerate(),
            _ => Vec::new().into_iter().enumerate(),
        };
        let stages = stages
            .map(|(index, stage)| read_stage(stage).map_err(|error| error.under(index.to_string()).under("stage")));
        let stages = stages.collect::<Result<Vec<StageConfig>, ValueError>>()?;
        Ok(Self { stages, ..read(Value::Table(table))? })
    }

    /// The recipe with all its values, as TOML that [`Recipe::parse`] reads back.
    pub fn to_toml(&self) -> String {
        let mut table = Table::try_from(self).expect("a recipe is made of tables, numbers and strings");
        if let (Some(loss), Some(target)) =
            (self.target.max_loss, table.get_mut("target").and_then(Value::as_table_mut))
        {
            target.insert("max_loss".to_owned(), written_loss(loss));
        }
        toml::to_string(&table).expect("a table is TOML")
    }

    /// Checks every field.
    ///
    /// # Errors
    /// The first field outside its range.
    pub fn validate(&self) -> Result<(), RecipeError> {
        self.model.validate()?;
        self.target.validate().map_err(|(field, value, allowed)| RecipeError::Target { field, value, allowed })?;
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
                && plan.trial_tokens < (plan.schedule.batch_size + 1).saturating_mul(model.n_seq)
            {
                let allowed = "at least n_seq tokens for each window of a batch, and n_seq more";
                return Err(fault("trial_tokens", plan.trial_tokens.to_string(), allowed));
            }
        }
        Ok(())
    }
}

/// A stage, by its kind.
fn read_stage(stage: Value) -> Result<StageConfig, ValueError> {
    let Value::Table(mut table) = stage else {
        return Err(ValueError::new(&[], format!("must be a table of values, but is {stage}")));
    };
    let Some(kind) = table.remove("kind") else { return Err(ValueError::new(&["kind"], "is missing")) };
    let kind = read::<StageKind>(kind).map_err(|error| error.under("kind"))?;
    let table = Value::Table(table);
    Ok(match kind {
        StageKind::Train => StageConfig::Train(read(table)?),
        StageKind::Qat => StageConfig::Qat(read(table)?),
        StageKind::Prune => StageConfig::Prune(read(table)?),
        StageKind::Distill => StageConfig::Distill(read(table)?),
        StageKind::Plan => StageConfig::Plan(read(table)?),
    })
}

impl ValueError {
    /// The error of a recipe, with the place where the value was written.
    fn at(mut self, sources: &Sources) -> RecipeError {
        // What is taken out of the tables before they are read.
        let path: Vec<&str> = self.path.iter().map(String::as_str).collect();
        let taken: &[&str] = match path.as_slice() {
            [_] => &["schedule", "stage"],
            ["model", _] | ["stage", _, "model", _] => &["preset"],
            ["stage", _, _] => &["kind"],
            _ => &[],
        };
        if self.message.starts_with("is not a known key")
            && let Some(key) = path.last()
            && let near @ ValueError { .. } = unknown_key(key, taken)
            && near.message.contains("did you mean")
        {
            self.message = near.message;
        }
        let (place, path) = match sources.find(&self.path) {
            Some(found) => found,
            None => (sources.near(&self.path), self.path),
        };
        let key = path.join(".");
        match &place {
            // The assignment names the key already.
            Place::Assignment(assignment)
                if self.message.starts_with("must")
                    && assignment.split_once('=').is_some_and(|(name, _)| name.trim() == key) =>
            {
                RecipeError::Assignment { assignment: assignment.clone(), message: self.message }
            }
            _ => RecipeError::Value { place, key, message: self.message },
        }
    }
}

impl RecipeError {
    /// The same error with the place where the value was written, where it was.
    fn at(self, sources: &Sources) -> Self {
        let found = self.paths().into_iter().find_map(|path| {
            let path: Vec<String> = path.split('.').map(str::to_owned).collect();
            sources.find(&path)
        });
        match found {
            Some((place, _)) => Self::Placed { place, source: Box::new(self) },
            None => self,
        }
    }

    /// Where the value that is wrong may stand, the likeliest first.
    fn paths(&self) -> Vec<String> {
        match self {
            Self::Target { field, .. } => vec![format!("target.{field}")],
            Self::Empty => vec!["stage".to_owned()],
            Self::Model(error) => error.fields().map(|field| format!("model.{field}")).collect(),
            Self::Stage { stage, field, .. } => {
                ["schedule.", "", "model."].map(|table| format!("stage.{}.{table}{field}", stage - 1)).into()
            }
            Self::Sizes { stage, source, .. } => source
                .fields()
                .flat_map(|field| ["student.", "model.", ""].map(|table| format!("stage.{}.{table}{field}", stage - 1)))
                .collect(),
            _ => Vec::new(),
        }
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
        fails("model.d_modle=3", "--set model.d_modle=3: model.d_modle is not a known key: did you mean d_model?");
        fails("stage.0.schedule.epochs=0", "[[stage]] 1 (train): epochs is 0, but must be from 1 to 1,048,576");
        fails("stage.7.schedule.epochs=1", "stage has 3 entries");
        fails("stage.schedule=1", "stage is a list");
        fails("nonsense", "expected key=value");
        fails("model.top_k=9", "[model] top_k is 9, but must be from 1 to num_experts");
        fails("stage.0.kind=\"dance\"", "dance");
        fails("stage.2.alpha=2.0", "--set stage.2.alpha=2.0: [[stage]] 3 (distill): alpha is 2");
        fails("stage.2.student.n_layers=0", "[[stage]] 3 (distill): n_layers is 0");
        fails("stage.2.student.d_model=0", "d_model is 0");
        fails("stage.1.experts.milestones=[{epoch=1, experts=1}]", "before the stage's end");
        fails("stage.1.experts.milestones=[{epoch=0, experts=0}]", "at least top_k");
        fails("stage.1.kind=\"qat\"", "line 16: stage.1.experts is not a known key");
        fails("stage.2.model={n_layers=2}", "student is");
        fails("stage.2.schedule.weights_bytes=0", "weights_bytes is 0");
        let hasty = TEXT.replace("\"distill\"", "\"plan\"").replace("student.d_model = 8", "trial_tokens = 20");
        let error = Recipe::parse(&hasty, "test", &[]).unwrap_err().to_string();
        assert!(error.contains("trial_tokens is 20"), "{error}");
    }

    #[test]
    fn a_wrong_value_of_an_assignment_is_blamed_on_it() {
        let fails = |set: &str, message: &str| {
            let error = Recipe::parse(TEXT, "test.toml", &[set.to_owned()]).unwrap_err().to_string();
            assert_eq!(error, format!("--set {set}: {message}"));
        };
        fails("model.d_model=abc", "must be a whole number, but is the text \"abc\"");
        fails("model.d_model=16.0", "must be a whole number, but is 16.0");
        fails("model.d_model=-16", "must be at least 0, but is -16");
        fails("model.positions=True", "must be true or false, but is the text \"True\"");
        fails("model.preset=tinyy", "must be one of seed, memory, tiny, but is the text \"tinyy\": did you mean tiny?");
        fails("model.preset=3", "must be one of seed, memory, tiny, but is 3");
        fails("model=3", "must be a table of values, but is 3");
        fails("modle.d_model=3", "modle is not a known key: did you mean model?");
        fails(
            "seed=99999999999999999999",
            "99999999999999999999 is too large: the largest whole number is 9,223,372,036,854,775,807",
        );
        fails("seed=-1", "must be at least 0, but is -1");
        fails("shedule.epochs=3", "shedule is not a known key: did you mean schedule?");
        fails("schedule=3", "must be a table of values, but is 3");
        fails("schedule.epochs=two", "must be a whole number, but is the text \"two\"");
        fails("schedule.epcohs=2", "schedule.epcohs is not a known key: did you mean epochs?");
        fails("stage.1.schedule=3", "must be a table of values, but is 3");
        fails("stage.1.schedule.learning_rate=fast", "must be a number, but is the text \"fast\"");
        fails("stage.1.experts.milestones.0.epoch=x", "must be a whole number, but is the text \"x\"");
        fails("stage.0.knid=train", "stage.0.knid is not a known key: did you mean kind?");
        fails("stage=[]", "the recipe has no [[stage]]; the first must be of kind \"train\", unless a model is given");
        fails("stage.0=3", "stage is a list: write stage.0 to stage.2");
        fails("model..d_model=3", "the key is empty, or a part of it is");
        fails("model.n_layers=0", "[model] n_layers is 0, but must be from 1 to 256");
        fails("model.eta=[1.0]", "[model] resolvent.eta is 1 values, but must be 2 values");
        fails(
            "schedule.learning_rate=inf",
            "[[stage]] 1 (train): learning_rate is inf, but must be finite and above 0",
        );
    }

    #[test]
    fn a_wrong_value_of_the_file_is_named_by_its_line() {
        let fails = |from: &str, to: &str, message: &str| {
            let text = TEXT.replacen(from, to, 1);
            assert_ne!(text, TEXT);
            assert_eq!(Recipe::parse(&text, "test.toml", &[]).unwrap_err().to_string(), message);
        };
        fails(
            "d_model = 24",
            "d_model = \"24\"",
            "test.toml line 5: model.d_model must be a whole number, but is the text \"24\"",
        );
        fails(
            "d_model = 24",
            "d_modle = 24",
            "test.toml line 5: model.d_modle is not a known key: did you mean d_model?",
        );
        fails(
            "batch_size = 4",
            "batch_size = 4.5",
            "test.toml line 7: schedule.batch_size must be a whole number, but is 4.5",
        );
        fails(
            "batch_size = 4",
            "batch_size = 0",
            "test.toml line 7: [[stage]] 1 (train): batch_size is 0, but must be from 1 to 1,048,576",
        );
        fails("seed = 1", "", "test.toml: seed is missing");
        fails("kind = \"train\"", "", "test.toml line 9: stage.0.kind is missing");
        fails(
            "seed = 1",
            "seed = 99999999999999999999",
            "test.toml line 2: 99999999999999999999 is too large: the largest whole number is 9,223,372,036,854,775,807",
        );
    }

    #[test]
    fn targets_obey_one_rule_wherever_they_are_written() {
        let set = |set: &str| Recipe::parse(TEXT, "test.toml", &[set.to_owned()]);
        for (wrong, message) in [
            ("target.ratio=0", "[target] ratio is 0, but must be finite and above 0"),
            ("target.ratio=-3", "[target] ratio is -3, but must be finite and above 0"),
            ("target.ratio=inf", "[target] ratio is inf, but must be finite and above 0"),
            ("target.ratio=nan", "[target] ratio is NaN, but must be finite and above 0"),
            ("target.max_loss=15", "target.max_loss is 15, but must be a share: 15 would be 1500 %: write 15% or 0.15"),
            ("target.max_loss=-0.1", "target.max_loss is -0.1, but must be a share: write a share such as 15% or 0.15"),
            ("target.max_loss=nan", "target.max_loss is nan, but must be a share: write a share such as 15% or 0.15"),
            ("target.bytes=0", "[target] bytes is 0, but must be from 1 to 9,223,372,036,854,775,807"),
            ("target.bytes=-5", "must be at least 0, but is -5"),
        ] {
            assert_eq!(set(wrong).unwrap_err().to_string(), format!("--set {wrong}: {message}"));
        }
        let in_file = format!("{TEXT}[target]\nratio = 0\n");
        let error = Recipe::parse(&in_file, "test.toml", &[]).unwrap_err().to_string();
        assert!(error.ends_with("[target] ratio is 0, but must be finite and above 0"), "{error}");
        assert!(error.starts_with("test.toml line "), "{error}");
        for (written, loss) in [("0.15", 0.15), ("15%", 0.15), ("1", 1.0), ("250%", 2.5)] {
            let recipe = set(&format!("target.max_loss={written}")).unwrap();
            assert_eq!(recipe.target.max_loss, Some(loss));
            assert_eq!(Recipe::parse(&recipe.to_toml(), "resolved", &[]).unwrap(), recipe, "{written}");
        }
    }

    #[test]
    fn sizes_that_no_machine_has_are_refused_before_they_are_allocated() {
        for set in [
            "model.heads=1000000000000",
            "model.n_layers=1000000000000",
            "model.d_model=9223372036854775807",
            "model.n_seq=9223372036854775807",
            "model.vocab_size=9223372036854775807",
            "model.num_experts=9223372036854775807",
            "stage.0.schedule.batch_size=9223372036854775807",
            "stage.0.schedule.epochs=9223372036854775807",
            "stage.2.student.heads=1000000000000",
            "stage.2.student.n_layers=1000000000000",
        ] {
            let error = Recipe::parse(TEXT, "test.toml", &[set.to_owned()]).unwrap_err().to_string();
            assert!(error.starts_with(&format!("--set {set}: ")), "{error}");
        }
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
