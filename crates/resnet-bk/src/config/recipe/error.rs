//! Errors of recipes.

use crate::config::{ConfigError, Place, StageKind};
use std::path::PathBuf;
use thiserror::Error;

/// An invalid recipe.
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
        /// File and, if known, line.
        place: String,
        /// What is wrong.
        message: String,
    },
    /// A key is unknown or missing, or its value has the wrong type.
    #[error("{place}: {key} {message}")]
    Value {
        /// Where it was written.
        place: Place,
        /// The key, dotted; stages are numbered from 0.
        key: String,
        /// What is wrong.
        message: String,
        /// The nearest known name, as a suggestion.
        near: Option<String>,
    },
    /// An invalid value, with the place where it was written.
    #[error("{place}: {source}")]
    Placed {
        /// Where it was written.
        place: Place,
        /// What is wrong with it.
        source: Box<RecipeError>,
    },
    /// A value of the text's settings is outside its range.
    #[error("[corpus] {field} is {value}, but must be {allowed}")]
    Corpus {
        /// The field.
        field: &'static str,
        /// Its value.
        value: String,
        /// The allowed values.
        allowed: &'static str,
    },
    /// A target that nothing can reach, or that everything reaches.
    #[error("[target] {field} is {value}, but must be {allowed}")]
    Target {
        /// The field.
        field: &'static str,
        /// Its value.
        value: String,
        /// The allowed values.
        allowed: &'static str,
    },
    /// A `--set` that is not `key=value`, or with an unknown key.
    #[error("--set {assignment}: {message}")]
    Assignment {
        /// As it was given.
        assignment: String,
        /// What is wrong.
        message: String,
    },
    /// The model's configuration is invalid.
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
        /// Its value.
        value: String,
        /// The allowed values.
        allowed: &'static str,
    },
    /// A student's sizes or quantization policy are invalid.
    #[error("[[stage]] {stage} ({kind}): {source}")]
    Sizes {
        /// Its number, from 1.
        stage: usize,
        /// Its kind.
        kind: StageKind,
        /// What is wrong.
        source: ConfigError,
    },
    /// The recipe has no stage.
    #[error("the recipe has no [[stage]]")]
    Empty,
}
