//! A model that a run begins with instead of training its own: `--model CHECKPOINT`.

use super::RunError;
use crate::checkpoint::Checkpoint;
use crate::config::{ModelConfig, Recipe, StageKind};
use crate::corpus::sha256;
use crate::summary::CorpusSummary;
use std::path::Path;

/// SHA-256 of the model's file: a resumed run goes on with the one that it began with.
pub(super) fn digest(path: &Path) -> Result<String, RunError> {
    let bytes = std::fs::read(path).map_err(|source| RunError::File { path: path.to_owned(), source })?;
    Ok(sha256(&bytes))
}

/// Reads a checkpoint of a finished stage.
pub(super) fn read_finished(path: &Path) -> Result<Checkpoint, RunError> {
    let checkpoint = Checkpoint::read(path)?;
    match checkpoint.training.progress {
        Some(_) => Err(RunError::Unfinished { path: path.to_owned() }),
        None => Ok(checkpoint),
    }
}

/// Reads the model, with the training settings of the recipe, and warns of the values of the recipe
/// that are ignored.
pub(super) fn read(path: &Path, recipe: &Recipe, warnings: &mut Vec<String>) -> Result<Checkpoint, RunError> {
    let mut checkpoint = read_finished(path)?;
    // Where a run begins is no part of it.
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

/// Fields of the recipe's model that the given one has otherwise: `model.d_model is 32, not 64`.
fn overridden(recipe: &ModelConfig, given: &ModelConfig) -> Vec<String> {
    let fields = |config: &ModelConfig| match serde_json::to_value(config) {
        Ok(serde_json::Value::Object(fields)) => fields,
        _ => unreachable!("a model's configuration is an object"),
    };
    let (recipe, given) = (fields(recipe), fields(given));
    // The vocabulary is the given model's words, whatever number the recipe asks for at most.
    let differs = |name: &&String| name.as_str() != "vocab_size" && recipe[name.as_str()] != given[name.as_str()];
    recipe.keys().filter(differs).map(|name| format!("model.{name} is {}, not {}", given[name], recipe[name])).collect()
}

/// Drops what was measured on another text: it is not shown beside what is measured on this one.
pub(super) fn drop_figures_of_other_text(
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
    if !held_out_alike(checkpoint, text) {
        checkpoint.history.stages.iter_mut().for_each(|stage| stage.dev_perplexity = None);
        if text.dev_tokens > 0 {
            warnings.push(format!(
                "{name} may have been trained on the dev slice, by which this run chooses: its choices favor what that model knows by heart"
            ));
        }
    }
}

/// Whether a checkpoint was trained on this training text with the same slice held out, so that its
/// perplexity there means something.
pub(super) fn held_out_alike(checkpoint: &Checkpoint, text: &CorpusSummary) -> bool {
    let same_text = checkpoint.history.text.as_ref().is_some_and(|own| own.train == text.fingerprint.train);
    same_text && checkpoint.history.dev_tokens == text.dev_tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_that_a_given_model_overrides_are_listed() {
        let recipe = ModelConfig::preset("tiny").expect("a preset");
        let given = ModelConfig { d_model: 32, vocab_size: 40, ..recipe.clone() };
        assert_eq!(overridden(&recipe, &given), ["model.d_model is 32, not 16"]);
        // Settings of training are the recipe's.
        let given = given.with_settings_of(&ModelConfig { dropout: 0.9, d_model: 32, ..recipe.clone() });
        assert_eq!(overridden(&ModelConfig { dropout: 0.9, ..recipe }, &given), ["model.d_model is 32, not 16"]);
    }
}
