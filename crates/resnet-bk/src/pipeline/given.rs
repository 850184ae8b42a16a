//! A model that a run begins with instead of training its own: `--model CHECKPOINT`.

use super::RunError;
use crate::checkpoint::Checkpoint;
use crate::config::{ModelConfig, Recipe, StageKind};
use crate::corpus::{TextFingerprint, sha256};
use std::path::Path;

/// SHA-256 of the model's file: a resumed run goes on with the one that it began with.
pub(super) fn digest(path: &Path) -> Result<String, RunError> {
    let bytes = std::fs::read(path).map_err(|source| RunError::File { path: path.to_owned(), source })?;
    Ok(sha256(&bytes))
}

/// Reads the model, with the training settings of the recipe, and warns of what the recipe says in vain.
pub(super) fn read(path: &Path, recipe: &Recipe, warnings: &mut Vec<String>) -> Result<Checkpoint, RunError> {
    let mut checkpoint = Checkpoint::read(path)?;
    checkpoint.finish_stage();
    checkpoint.config = checkpoint.config.with_settings_of(&recipe.model);
    let name = path.display();
    let overridden = overridden(&recipe.model, &checkpoint.config);
    if !overridden.is_empty() {
        warnings.push(format!(
            "the model of {name} takes the place of the recipe's, which says otherwise in vain: {}",
            overridden.join(", "),
        ));
    }
    let vocabulary = &checkpoint.vocabulary;
    if recipe.corpus.pretokenizer.is_some_and(|asked| asked != vocabulary.pretokenizer())
        || recipe.corpus.protocol.blank_lines() != vocabulary.blank_lines()
    {
        warnings.push(format!("text is split as for {name}; the recipe's [corpus] says otherwise in vain"));
    }
    let skipped = recipe.stages.iter().take_while(|stage| stage.kind() == StageKind::Train).count();
    if skipped > 0 {
        warnings
            .push(format!("{name} takes the place of the recipe's first {skipped} `train` stages, which do not run"));
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

/// What was measured on another text is not shown beside what is measured on this one.
pub(super) fn forget_other_text(
    checkpoint: &mut Checkpoint,
    path: &Path,
    fingerprint: &TextFingerprint,
    warnings: &mut Vec<String>,
) {
    let difference = checkpoint.text.as_ref().map_or(Some("an unknown text"), |text| text.difference(fingerprint));
    if let Some(difference) = difference {
        let name = path.display();
        warnings
            .push(format!("{name} is of {difference}: its own figures are not measured on this text and not shown"));
        checkpoint.stages.clear();
        checkpoint.removals.clear();
        checkpoint.plan = None;
    }
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
