//! A model that a run starts from instead of training its own: `--model MODEL`, a checkpoint or an
//! artifact.

use super::RunError;
use crate::checkpoint::{Checkpoint, CheckpointError, read_bytes};
use crate::config::{ModelConfig, Recipe, StageKind};
use crate::corpus::sha256;
use crate::export::{LoadError, is_artifact};
use crate::import;
use crate::ranks::Ranks;
use crate::summary::CorpusSummary;
use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A model from outside a run: the file of a checkpoint or of an artifact, one in memory, or a checkpoint
/// that was made of a file of another format. Rank 0's counts.
#[derive(Clone, Debug)]
pub struct GivenModel {
    path: PathBuf,
    /// Its bytes, where they are not those of the file.
    bytes: Option<Arc<[u8]>>,
}

impl From<PathBuf> for GivenModel {
    fn from(path: PathBuf) -> Self {
        Self { path, bytes: None }
    }
}

impl GivenModel {
    /// The bytes of a checkpoint or of an artifact. `path` is what messages call it.
    pub fn in_memory(path: PathBuf, bytes: &[u8]) -> Self {
        Self { path, bytes: Some(bytes.into()) }
    }

    /// A checkpoint that was made of the file at `path`.
    ///
    /// # Errors
    /// [`CheckpointError::Write`] if it cannot be encoded.
    pub fn converted(path: PathBuf, checkpoint: &Checkpoint) -> Result<Self, CheckpointError> {
        match checkpoint.to_bytes() {
            Ok(bytes) => Ok(Self::in_memory(path, &bytes)),
            Err(source) => Err(CheckpointError::Write { path, source }),
        }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Those of a checkpoint or of an artifact.
    fn bytes(&self) -> Result<Cow<'_, [u8]>, CheckpointError> {
        match &self.bytes {
            Some(bytes) => Ok(Cow::Borrowed(bytes)),
            None => read_bytes(&self.path).map(Cow::Owned),
        }
    }

    /// The model, on rank 0.
    pub(super) fn read(&self) -> Result<Checkpoint, LoadError> {
        import::from_bytes(&self.bytes()?, &self.path)
    }

    /// The model of rank 0, if its stage is finished.
    pub(super) fn read_finished(&self, ranks: &Ranks) -> Result<Checkpoint, RunError> {
        let bytes = ranks.share_bytes(|| self.bytes().map(Cow::into_owned))?;
        let checkpoint = import::from_bytes(&bytes, &self.path)?;
        match checkpoint.training.progress {
            Some(_) => Err(RunError::Unfinished { path: self.path.clone() }),
            None => Ok(checkpoint),
        }
    }

    /// Length of the file in bytes, if it is an artifact. Rank 0's.
    fn artifact_bytes(&self) -> Option<usize> {
        self.bytes().ok().filter(|bytes| is_artifact(bytes)).map(|bytes| bytes.len())
    }

    /// SHA-256 of the file, or of the checkpoint that was made of it. A resumed run must be given the same model.
    pub(super) fn digest(&self, ranks: &Ranks) -> Result<String, RunError> {
        ranks.share_result(|| Ok(sha256(&self.bytes()?)))
    }
}

/// Reads the model and applies the recipe's training settings. Warns about values of the recipe
/// that the model overrides.
pub(super) fn read(
    given: &GivenModel,
    recipe: &Recipe,
    ranks: &Ranks,
    warnings: &mut Vec<String>,
) -> Result<Checkpoint, RunError> {
    let mut checkpoint = given.read_finished(ranks)?;
    // The environment where the run starts is not part of the model's history.
    checkpoint.history.environments.clear();
    checkpoint.model.config = checkpoint.model.config.with_settings_of(&recipe.model);
    let name = given.path().display();
    let overridden = overridden(&recipe.model, &checkpoint.model.config);
    if !overridden.is_empty() {
        warnings.push(format!(
            "the model of {name} takes the place of the recipe's, whose own values are ignored: {}",
            overridden.join(", "),
        ));
    }
    let vocabulary = &checkpoint.model.vocabulary;
    if recipe.corpus.pretokenizer.is_some_and(|asked| asked != vocabulary.pretokenizer())
        || recipe.corpus.protocol.blank_lines() != vocabulary.blank_lines()
    {
        warnings.push(format!("text is split as for {name}; what the recipe's [corpus] says of that is ignored"));
    }
    let skipped = recipe.stages.iter().take_while(|stage| stage.kind() == StageKind::Train).count();
    if skipped > 0 {
        let stages = if skipped == 1 { "first stage, which does" } else { "first `train` stages, which do" };
        warnings.push(format!("{name} takes the place of the recipe's {stages} not run"));
    }
    if let Some(bytes) = given.artifact_bytes() {
        warnings.push(format!(
            "{name} is an artifact of {bytes} bytes: ratios are against its decoded values in float32, not against that file"
        ));
    }
    Ok(checkpoint)
}

/// Fields of the recipe's model that differ from the given one: `model.d_model is 32, not 64`.
fn overridden(recipe: &ModelConfig, given: &ModelConfig) -> Vec<String> {
    let fields = |config: &ModelConfig| match serde_json::to_value(config) {
        Ok(serde_json::Value::Object(fields)) => fields,
        _ => unreachable!("a model's configuration is an object"),
    };
    let (recipe, given) = (fields(recipe), fields(given));
    // `vocab_size` of the recipe is only an upper limit; the model's vocabulary is used.
    let differs = |name: &&String| name.as_str() != "vocab_size" && recipe[name.as_str()] != given[name.as_str()];
    recipe.keys().filter(differs).map(|name| format!("model.{name} is {}, not {}", given[name], recipe[name])).collect()
}

/// Drops figures that were measured on another text: they must not be shown next to this run's.
pub(super) fn drop_results_on_other_text(
    checkpoint: &mut Checkpoint,
    path: &Path,
    text: &CorpusSummary,
    warnings: &mut Vec<String>,
) {
    let name = path.display();
    if let Some(difference) = checkpoint.history.text_difference(&text.fingerprint) {
        warnings.push(format!(
            "{name} is of {difference}: the figures that it was saved with are not shown; it is measured on this text"
        ));
        checkpoint.history.stages.clear();
        checkpoint.history.removals.clear();
        checkpoint.history.plan = None;
    }
    if !has_same_dev_slice(checkpoint, text) {
        checkpoint.history.stages.iter_mut().for_each(|stage| stage.dev_perplexity = None);
        if text.dev_tokens > 0 {
            warnings.push(format!(
                "{name} may have been trained on the dev slice, by which this run chooses: its choices favor what that model has memorized"
            ));
        }
    }
}

/// Whether a checkpoint was trained on this training text with the same dev slice held out. Only
/// then its perplexity on the dev slice is meaningful.
pub(super) fn has_same_dev_slice(checkpoint: &Checkpoint, text: &CorpusSummary) -> bool {
    let same_text = checkpoint.history.text.as_ref().is_some_and(|own| own.train == text.fingerprint.train);
    same_text && checkpoint.history.dev_tokens == text.dev_tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_overridden_by_a_given_model_are_listed() {
        let recipe = ModelConfig::preset("tiny").expect("a preset");
        let given = ModelConfig { d_model: 32, vocab_size: 40, ..recipe.clone() };
        assert_eq!(overridden(&recipe, &given), ["model.d_model is 32, not 16"]);
        // Training settings come from the recipe.
        let given = given.with_settings_of(&ModelConfig { dropout: 0.9, d_model: 32, ..recipe.clone() });
        assert_eq!(overridden(&ModelConfig { dropout: 0.9, ..recipe }, &given), ["model.d_model is 32, not 16"]);
    }
}
