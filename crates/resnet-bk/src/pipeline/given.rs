//! A model that a run starts from instead of training its own: `--model MODEL`, a checkpoint or an
//! artifact.

use super::RunError;
use crate::checkpoint::Checkpoint;
use crate::config::{ModelConfig, Recipe, StageKind};
use crate::corpus::sha256;
use crate::import;
use crate::ranks::Ranks;
use crate::summary::CorpusSummary;
use std::path::Path;

/// SHA-256 of the model's file. A resumed run must be given the same model.
pub(super) fn digest(path: &Path, ranks: &Ranks) -> Result<String, RunError> {
    ranks.share_result(|| {
        let bytes = std::fs::read(path).map_err(|source| RunError::File { path: path.to_owned(), source })?;
        Ok(sha256(&bytes))
    })
}

/// Reads a checkpoint or an artifact of rank 0 and checks that its stage is finished.
pub(super) fn read_finished(path: &Path, ranks: &Ranks) -> Result<Checkpoint, RunError> {
    let checkpoint = import::read_on(ranks, path)?;
    match checkpoint.training.progress {
        Some(_) => Err(RunError::Unfinished { path: path.to_owned() }),
        None => Ok(checkpoint),
    }
}

/// Reads the model and applies the recipe's training settings. Warns about values of the recipe
/// that the model overrides.
pub(super) fn read(
    path: &Path,
    recipe: &Recipe,
    ranks: &Ranks,
    warnings: &mut Vec<String>,
) -> Result<Checkpoint, RunError> {
    let mut checkpoint = read_finished(path, ranks)?;
    // The environment where the run starts is not part of the model's history.
    checkpoint.history.environments.clear();
    checkpoint.model.config = checkpoint.model.config.with_settings_of(&recipe.model);
    let name = path.display();
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
    let fingerprint = &text.fingerprint;
    let difference =
        checkpoint.history.text.as_ref().map_or(Some("an unknown text"), |own| own.difference(fingerprint));
    if let Some(difference) = difference {
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
