//! What a recipe's text goes through before it is read: assignments, presets and shared schedules.

use super::{ConfigError, ModelConfig};
use toml::{Table, Value};

/// Puts the value of `key=value` at the dotted key; stages are numbered from 0.
pub(super) fn assign(table: &mut Table, assignment: &str) -> Result<(), String> {
    let (key, text) = assignment.split_once('=').ok_or("expected key=value, for example model.d_model=32")?;
    let value = format!("x = {text}")
        .parse::<Table>()
        .ok()
        .and_then(|mut table| table.remove("x"))
        .unwrap_or_else(|| Value::String(text.to_owned()));
    let mut parts: Vec<&str> = key.trim().split('.').collect();
    let last = parts.pop().filter(|part| !part.is_empty()).ok_or("the key is empty")?;
    let mut place = table;
    let mut rest = parts.into_iter();
    while let Some(part) = rest.next() {
        place = match place.entry(part).or_insert_with(|| Value::Table(Table::new())) {
            Value::Table(inner) => inner,
            Value::Array(list) => {
                let count = list.len();
                let index = rest.next().and_then(|index| index.parse::<usize>().ok());
                let index = index.ok_or_else(|| format!("{part} is a list: write {part}.0 to {part}.{}", count - 1))?;
                match list.get_mut(index) {
                    Some(Value::Table(inner)) => inner,
                    _ => return Err(format!("{part} has {count} entries, numbered from 0")),
                }
            }
            _ => return Err(format!("{part} is a value, not a table")),
        };
    }
    place.insert(last.to_owned(), value);
    Ok(())
}

/// Replaces `model.preset` by the preset's fields, which the other fields override; in a stage's own model, the recipe's model
/// stands for a preset that is not named.
pub(super) fn expand_presets(table: &mut Table) -> Result<(), ConfigError> {
    let base = match table.get_mut("model") {
        Some(Value::Table(model)) => {
            expand_preset(model)?;
            model.clone()
        }
        _ => return Ok(()),
    };
    let Some(Value::Array(stages)) = table.get_mut("stage") else { return Ok(()) };
    for stage in stages.iter_mut().filter_map(Value::as_table_mut) {
        let Some(Value::Table(model)) = stage.get_mut("model") else { continue };
        if model.contains_key("preset") {
            expand_preset(model)?;
        } else {
            let own = std::mem::replace(model, base.clone());
            model.extend(own);
        }
    }
    Ok(())
}

fn expand_preset(model: &mut Table) -> Result<(), ConfigError> {
    let Some(Value::String(name)) = model.remove("preset") else { return Ok(()) };
    let Ok(Value::Table(mut expanded)) = Value::try_from(ModelConfig::preset(&name)?) else {
        unreachable!("a model's configuration is a table")
    };
    expanded.extend(std::mem::take(model));
    *model = expanded;
    Ok(())
}

/// Merges the top-level `[schedule]` under every stage's own.
pub(super) fn expand_schedules(table: &mut Table) {
    let Some(Value::Table(defaults)) = table.remove("schedule") else { return };
    let Some(Value::Array(stages)) = table.get_mut("stage") else { return };
    for stage in stages.iter_mut().filter_map(Value::as_table_mut) {
        let mut merged = defaults.clone();
        if let Some(Value::Table(own)) = stage.remove("schedule") {
            merged.extend(own);
        }
        stage.insert("schedule".to_owned(), Value::Table(merged));
    }
}
