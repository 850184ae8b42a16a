//! What can be wrong with a recipe.

use crate::config::{ConfigError, Place, StageKind};
use std::path::PathBuf;
use thiserror::Error;

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
        /// The known name that was probably meant.
        near: Option<String>,
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
    #[error("the recipe has no [[stage]]")]
    Empty,
}
