//! What a checkpoint's file does not say about its model.

use super::error::{Fault, OriginalError};
use crate::config::ModelConfig;
use serde::Deserialize;
use std::io::ErrorKind;
use std::path::Path;

/// The keys.
pub(super) const KEYS: [&str; 3] = ["top_k", "v_max", "feature_clamp"];
/// Name of the file of settings beside a checkpoint.
const CONFIG: &str = "config.json";

/// What a checkpoint's file does not say about its model. `None` where nothing is said elsewhere
/// either: the original project's default holds then.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct OriginalSettings {
    /// Experts that a token is routed to; 1 by default.
    pub top_k: Option<usize>,
    /// Bound on the potential; 3 by default.
    pub v_max: Option<f32>,
    /// Bound on the features; 10 by default.
    pub feature_clamp: Option<f32>,
}

impl OriginalSettings {
    /// The settings among a run's values. Other keys are the recipe's, which has checked the values.
    pub fn among(assignments: &[String]) -> Self {
        let mut settings = Self::default();
        for assignment in assignments {
            let _ = settings.assign(assignment);
        }
        settings
    }

    /// Takes an assignment such as `model.top_k=2`. `None` if the key is another one.
    ///
    /// # Errors
    /// What the value must be, if it is not a number of the key's kind.
    pub fn assign(&mut self, assignment: &str) -> Option<Result<(), &'static str>> {
        let (key, value) = assignment.split_once('=')?;
        let value = value.trim();
        let float = |to: &mut Option<f32>| value.parse().map(|number| *to = Some(number)).map_err(|_| "a number");
        Some(match key.trim().strip_prefix("model.")? {
            "top_k" => value.parse().map(|number| self.top_k = Some(number)).map_err(|_| "a whole number"),
            "v_max" => float(&mut self.v_max),
            "feature_clamp" => float(&mut self.feature_clamp),
            _ => return None,
        })
    }

    /// The settings in the config.json beside a checkpoint; none where there is no such file. Its
    /// other keys are not read: sizes come from the checkpoint.
    pub(super) fn beside(checkpoint: &Path) -> Result<Self, OriginalError> {
        let path = checkpoint.with_file_name(CONFIG);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(Fault::Read(error).at(&path)),
        };
        serde_json::from_slice(&text).map_err(|error| Fault::from(error).at(&path))
    }

    /// These settings, and others for those that are missing.
    pub(super) fn or(&self, other: &Self) -> Self {
        Self {
            top_k: self.top_k.or(other.top_k),
            v_max: self.v_max.or(other.v_max),
            feature_clamp: self.feature_clamp.or(other.feature_clamp),
        }
    }

    /// A configuration with these settings.
    pub(super) fn apply(&self, config: ModelConfig) -> ModelConfig {
        ModelConfig {
            top_k: self.top_k.unwrap_or(config.top_k),
            v_max: self.v_max.unwrap_or(config.v_max),
            feature_clamp: self.feature_clamp.unwrap_or(config.feature_clamp),
            ..config
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assignments_come_before_the_file_and_the_file_before_defaults() {
        let folder = tempfile::tempdir().expect("a folder");
        let model = folder.path().join("model.pt");
        assert_eq!(OriginalSettings::beside(&model).expect("no file"), OriginalSettings::default());
        std::fs::write(folder.path().join(CONFIG), r#"{"top_k": 2, "v_max": 4, "d_model": 9}"#).expect("written");
        let beside = OriginalSettings::beside(&model).expect("a file");
        let mut given = OriginalSettings::default();
        assert_eq!(given.assign("model.v_max = 2.5"), Some(Ok(())));
        assert_eq!(given.assign("model.d_model=3"), None);
        assert_eq!(given.assign("model.top_k=two"), Some(Err("a whole number")));
        let config = given.or(&beside).apply(ModelConfig::preset("seed").expect("a preset"));
        assert_eq!((config.top_k, config.v_max, config.feature_clamp), (2, 2.5, 10.0));
        std::fs::write(folder.path().join(CONFIG), r#"{"top_k": "two"}"#).expect("written");
        let error = OriginalSettings::beside(&model).expect_err("no number").to_string();
        assert!(error.contains("config.json: it is not JSON with top_k, v_max, feature_clamp: "), "{error}");
    }
}
