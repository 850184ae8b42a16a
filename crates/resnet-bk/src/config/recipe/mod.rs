//! A recipe: a TOML file with every number that a run depends on.
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

mod error;

pub use error::RecipeError;

use super::expand::{assign, expand_loss, expand_presets, expand_schedules};
use super::sources::{Place, Sources, too_large_message};
use super::target::written_loss;
use super::values::{ValueError, read, unknown_key};
use super::{ConfigError, CorpusConfig, ModelConfig, StageConfig, StageKind, Target};
use resnet_bk_runtime::internal::architecture::Architecture;
use serde::{Deserialize, Serialize};
use std::path::Path;
use toml::{Table, Value};

/// Top-level keys of a recipe.
pub(super) const KEYS: [&str; 6] = ["seed", "corpus", "model", "target", "schedule", "stage"];

/// Everything that a run depends on, except the text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Seed of initialization, shuffling and dropout. It is at least 0.
    pub seed: u64,
    /// The part of the text that is used, and its tokenization.
    #[serde(default)]
    pub corpus: CorpusConfig,
    /// The model that the first stage trains.
    pub model: ModelConfig,
    /// The goals of the run.
    #[serde(default)]
    pub target: Target,
    /// The stages, in the order in which they run.
    #[serde(rename = "stage")]
    pub stages: Vec<StageConfig>,
}

impl Recipe {
    /// Reads a recipe and applies `key=value` assignments, such as `model.d_model=32` or
    /// `stage.0.schedule.epochs=1`.
    ///
    /// # Errors
    /// [`RecipeError`], with file and field.
    pub fn read(path: &Path, assignments: &[String]) -> Result<Self, RecipeError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| RecipeError::Read { path: path.to_owned(), source })?;
        Self::parse(&text, &path.display().to_string(), assignments)
    }

    /// Parses a recipe. `place` names it in errors.
    ///
    /// # Errors
    /// As [`Recipe::read`].
    pub fn parse(text: &str, place: &str, assignments: &[String]) -> Result<Self, RecipeError> {
        let sources = Sources { file: place, text, assignments };
        if let Some((place, number)) = sources.too_large() {
            return Err(RecipeError::Format { place: place.to_string(), message: too_large_message(&number) });
        }
        let table: Table = text.parse().map_err(|error: toml::de::Error| RecipeError::Format {
            place: place.to_owned(),
            message: error.to_string(),
        })?;
        Self::resolve(table, &sources)
    }

    /// A recipe from the tables and values of a TOML file that was never written. `place` names it
    /// in errors.
    ///
    /// # Errors
    /// As [`Recipe::read`], without lines.
    pub fn from_table(table: Table, place: &str, assignments: &[String]) -> Result<Self, RecipeError> {
        Self::resolve(table, &Sources { file: place, text: "", assignments })
    }

    fn resolve(mut table: Table, sources: &Sources) -> Result<Self, RecipeError> {
        for assignment in sources.assignments {
            assign(&mut table, assignment)
                .map_err(|message| RecipeError::Assignment { assignment: assignment.clone(), message })?;
        }
        let recipe = Self::expand(table).map_err(|error| error.at(sources))?;
        recipe.validate().map_err(|error| error.at(sources))?;
        Ok(recipe)
    }

    /// The stages of kind `train` alone, without a target, which concerns compression. `None` if there
    /// are none.
    pub fn training_part(mut self) -> Option<Self> {
        self.stages.retain(|stage| stage.kind() == StageKind::Train);
        self.target = Target::default();
        (!self.stages.is_empty()).then_some(self)
    }

    /// Whether the dev slice is held out of the training text.
    pub fn holds_out_dev(&self) -> bool {
        self.corpus.hold_out_dev || self.stages.iter().any(StageConfig::needs_dev_slice)
    }

    fn expand(mut table: Table) -> Result<Self, ValueError> {
        // `schedule` is merged into the stages before serde reads the keys.
        if let Some(key) = table.keys().find(|key| !KEYS.contains(&key.as_str())) {
            return Err(unknown_key(key, &KEYS));
        }
        expand_presets(&mut table)?;
        expand_schedules(&mut table)?;
        expand_loss(&mut table)?;
        // serde would lose the place of an error in a stage, because it reads the kind first.
        let stages = match table.get_mut("stage") {
            Some(Value::Array(stages)) => std::mem::take(stages).into_iter().enumerate(),
            _ => Vec::new().into_iter().enumerate(),
        };
        let stages = stages
            .map(|(index, stage)| read_stage(stage).map_err(|error| error.under(index.to_string()).under("stage")));
        let stages = stages.collect::<Result<Vec<StageConfig>, ValueError>>()?;
        Ok(Self { stages, ..read(Value::Table(table))? })
    }

    /// The recipe with all its values, as TOML for [`Recipe::parse`].
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
        if let Some(tokens) = self.corpus.ngram_tokens.filter(|&tokens| tokens < 2) {
            return Err(RecipeError::Corpus {
                field: "ngram_tokens",
                value: tokens.to_string(),
                allowed: "at least 2",
            });
        }
        self.target.validate().map_err(|(field, value, allowed)| RecipeError::Target { field, value, allowed })?;
        if self.stages.is_empty() {
            return Err(RecipeError::Empty);
        }
        // After a `distill` stage, the student is the model.
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
            let carried = stage.schedule().carry_windows;
            stage.check_carry(&model).map_err(|allowed| fault("carry_windows", carried.to_string(), allowed))?;
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
                && plan.trial_tokens
                    < (plan.schedule.batch_size + 1).saturating_mul(plan.schedule.windows(model.n_seq).longest())
            {
                let allowed = "at least a window's tokens for each window of a batch, and as many more";
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
    /// Converts to a recipe error, with the place where the value was written.
    fn at(mut self, sources: &Sources) -> RecipeError {
        // Keys that are removed from the tables before they are read.
        let path: Vec<&str> = self.path.iter().map(String::as_str).collect();
        let taken: &[&str] = match path.as_slice() {
            [_] => &["schedule", "stage"],
            ["model", _] | ["stage", _, "model", _] => &["preset"],
            ["stage", _, _] => &["kind"],
            _ => &[],
        };
        if self.message.starts_with("is not a known key")
            && let Some(key) = path.last()
            && let ValueError { near: near @ Some(_), message, .. } = unknown_key(key, taken)
        {
            (self.near, self.message) = (near, message);
        }
        let (place, path) = match sources.find(&self.path) {
            Some(found) => found,
            None => (sources.near(&self.path), self.path),
        };
        let key = path.join(".");
        match &place {
            // The assignment already names the key.
            Place::Assignment(assignment)
                if self.near.is_none()
                    && self.message.starts_with("must")
                    && assignment.split_once('=').is_some_and(|(name, _)| name.trim() == key) =>
            {
                RecipeError::Assignment { assignment: assignment.clone(), message: self.message }
            }
            _ => RecipeError::Value { place, key, message: self.message, near: self.near },
        }
    }
}

impl RecipeError {
    /// Adds the place where the value was written, if it was written.
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

    /// Paths of values that may be wrong, the most likely first.
    fn paths(&self) -> Vec<String> {
        match self {
            Self::Corpus { field, .. } => vec![format!("corpus.{field}")],
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
mod tests;
