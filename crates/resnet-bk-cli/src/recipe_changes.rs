//! What a person has changed in a recipe: the keys that differ from those of the run that goes on, and
//! `--set` values that change nothing.

use crate::failure::Failure;
use anyhow::{Error, Result};
use resnet_bk::config::Recipe;
use resnet_bk::hints::hint;
use resnet_bk::pipeline::RunError;
use serde_json::Value;

/// Keys that a message names at most.
const MOST_NAMED: usize = 3;

/// Adds to the error of a run that goes on with another recipe which keys differ.
pub fn explain(error: RunError, new: &Recipe) -> Error {
    let RunError::OtherRecipe { path } = &error else { return error.into() };
    let Ok(old) = Recipe::read(path, &[]) else { return error.into() };
    let differences = differences(&old, new);
    match (hint(&error), differences.is_empty()) {
        (Some(hint), false) => Failure::new(format!("{error}: {}", differences.join("; ")), hint).into(),
        _ => error.into(),
    }
}

/// The first keys that differ, with both values, as `--set` names them. Those of the target come last:
/// they seldom matter.
fn differences(old: &Recipe, new: &Recipe) -> Vec<String> {
    let values = |recipe| serde_json::to_value(recipe).unwrap_or_default();
    let mut found = Vec::new();
    compare("", &values(old), &values(new), &mut found);
    found.sort_by_key(|difference| difference.starts_with("target."));
    found.truncate(MOST_NAMED);
    found
}

/// Compares what both have: a run may go on with more stages.
fn compare(key: &str, old: &Value, new: &Value, found: &mut Vec<String>) {
    let inside = |part: &str| if key.is_empty() { part.to_owned() } else { format!("{key}.{part}") };
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            let keys = old.keys().chain(new.keys().filter(|key| !old.contains_key(*key)));
            let value =
                |values: &serde_json::Map<String, Value>, key: &String| values.get(key).cloned().unwrap_or_default();
            keys.for_each(|key| compare(&inside(key), &value(old, key), &value(new, key), found));
        }
        (Value::Array(old), Value::Array(new)) if old.iter().chain(new).all(Value::is_object) => {
            old.iter()
                .zip(new)
                .enumerate()
                .for_each(|(at, (old, new))| compare(&inside(&at.to_string()), old, new, found));
            if new.len() < old.len() {
                found.push(format!("{key} has {} entries, not the run's {}", new.len(), old.len()));
            }
        }
        _ if old == new => {}
        (Value::Null, _) => found.push(format!("{key} is {}, and the run has none", shown(new))),
        (_, Value::Null) => found.push(format!("{key} is not set, and the run has {}", shown(old))),
        _ => found.push(format!("{key} is {}, and the run has {}", shown(new), shown(old))),
    }
}

/// A value as a recipe has it. Numbers of 32 bits have the digits of 32 bits.
fn shown(value: &Value) -> String {
    match value.as_f64().filter(|number| value.is_f64() && f64::from(*number as f32) == *number) {
        Some(number) => format!("{:?}", number as f32),
        None => value.to_string(),
    }
}

/// A warning for each `--set schedule.KEY=VALUE` that changes nothing, because every stage has a value of
/// its own. `resolve` makes the recipe of a list of such values.
pub fn without_effect(set: &[String], resolve: impl Fn(&[String]) -> Result<Recipe>) -> Vec<String> {
    let warning = |(index, assignment): (usize, &String)| {
        let (key, value) = assignment.split_once('=')?;
        let key = key.trim().strip_prefix("schedule.")?;
        let resolved = resolve(set).ok()?;
        let others: Vec<String> =
            set.iter().enumerate().filter(|&(other, _)| other != index).map(|(_, set)| set.clone()).collect();
        if resolve(&others).ok()? != resolved {
            return None;
        }
        // A stage wins if the value would change it.
        let wins = |key: &String| {
            let of_stage = [set, &[format!("{key}={value}")]].concat();
            resolve(&of_stage).is_ok_and(|changed| changed != resolved)
        };
        let stages = (0..resolved.stages.len()).map(|stage| format!("stage.{stage}.schedule.{key}"));
        let winners: Vec<String> = stages.filter(wins).collect();
        (!winners.is_empty()).then(|| {
            format!(
                "--set {assignment} changes nothing: every stage has a value of its own; set {}",
                winners.join(", ")
            )
        })
    };
    set.iter().enumerate().filter_map(warning).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECIPE: &str = "seed = 1\n[model]\npreset = \"tiny\"\n[schedule]\nbatch_size = 8\n[[stage]]\nkind = \"train\"\n\
                          schedule.epochs = 6\n[[stage]]\nkind = \"qat\"\nschedule.epochs = 2\n";

    fn recipe(set: &[String]) -> Result<Recipe> {
        Ok(Recipe::parse(RECIPE, "recipe.toml", set)?)
    }

    fn with(set: &[&str]) -> Vec<String> {
        set.iter().map(|&set| set.to_owned()).collect()
    }

    #[test]
    fn keys_that_differ_are_named_with_both_values() {
        let changed = with(&["stage.1.schedule.epochs=3", "target.ratio=5", "stage.0.schedule.learning_rate=1e-3"]);
        let differences = differences(&recipe(&[]).expect("a recipe"), &recipe(&changed).expect("a recipe"));
        assert_eq!(
            differences,
            [
                "stage.0.schedule.learning_rate is 0.001, and the run has 0.002",
                "stage.1.schedule.epochs is 3, and the run has 2",
                "target.ratio is 5.0, and the run has none"
            ]
        );
    }

    #[test]
    fn a_value_that_every_stage_overrides_has_a_warning_that_names_the_keys() {
        let warnings = |set: &[&str]| without_effect(&with(set), recipe);
        assert_eq!(
            warnings(&["schedule.epochs=1", "schedule.batch_size=4"]),
            [
                "--set schedule.epochs=1 changes nothing: every stage has a value of its own; set stage.0.schedule.epochs, \
              stage.1.schedule.epochs"
            ]
        );
        for set in ["schedule.batch_size=8", "stage.0.schedule.epochs=1", "model.d_model=32", "schedule.nonsense=1"] {
            assert!(warnings(&[set]).is_empty(), "{set}");
        }
    }
}
