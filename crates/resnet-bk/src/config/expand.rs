//! Preprocessing of a recipe: assignments, presets and shared schedules.

use super::sources::value;
use super::values::{ValueError, unknown_name};
use super::{ModelConfig, parse_loss};
use toml::{Table, Value};

/// Sets the dotted key of `key=value`. Stages are numbered from 0.
pub(super) fn assign(table: &mut Table, assignment: &str) -> Result<(), String> {
    let (key, text) = assignment.split_once('=').ok_or("expected key=value")?;
    let value = value(text)?;
    let mut parts: Vec<&str> = key.trim().split('.').collect();
    if parts.contains(&"") {
        return Err("the key is empty, or a part of it is".to_owned());
    }
    let last = parts.pop().unwrap_or_default();
    let entries = |part: &str, count: usize| format!("{part} has {count} entries, numbered from 0");
    let mut place = table;
    let mut rest = parts.into_iter();
    while let Some(part) = rest.next() {
        place = match place.entry(part).or_insert_with(|| Value::Table(Table::new())) {
            Value::Table(inner) => inner,
            Value::Array(list) => {
                let count = list.len();
                let index = rest.next().and_then(|index| index.parse::<usize>().ok());
                match (index.map(|index| list.get_mut(index)), count) {
                    (Some(Some(Value::Table(inner))), _) => inner,
                    (Some(Some(_)), _) => return Err(format!("the entries of {part} are values, not tables")),
                    (Some(None), _) | (None, 0) => return Err(entries(part, count)),
                    (None, 1) => return Err(format!("{part} is a list: its entry is {part}.0")),
                    (None, _) => {
                        return Err(format!("{part} is a list: its entries are {part}.0 to {part}.{}", count - 1));
                    }
                }
            }
            _ => return Err(format!("{part} is a value, not a table")),
        };
    }
    place.insert(last.to_owned(), value);
    Ok(())
}

/// Replaces `model.preset` by the fields of the preset; other fields override them. In a stage's
/// model without a preset, the recipe's model is used instead.
pub(super) fn expand_presets(table: &mut Table) -> Result<(), ValueError> {
    let base = match table.get_mut("model") {
        Some(Value::Table(model)) => {
            expand_preset(model).map_err(|error| error.under("model"))?;
            model.clone()
        }
        _ => return Ok(()),
    };
    let Some(Value::Array(stages)) = table.get_mut("stage") else { return Ok(()) };
    for (index, stage) in stages.iter_mut().enumerate() {
        let Some(Value::Table(model)) = stage.as_table_mut().and_then(|stage| stage.get_mut("model")) else { continue };
        if model.contains_key("preset") {
            expand_preset(model).map_err(|error| error.under("model").under(index.to_string()).under("stage"))?;
        } else {
            let own = std::mem::replace(model, base.clone());
            model.extend(own);
        }
    }
    Ok(())
}

fn expand_preset(model: &mut Table) -> Result<(), ValueError> {
    let Some(preset) = model.remove("preset") else { return Ok(()) };
    let known = ModelConfig::PRESETS;
    let named = preset.as_str().and_then(|name| ModelConfig::preset(name).ok());
    let Some(config) = named else {
        let error = match preset.as_str() {
            Some(name) => unknown_name(name, &known),
            None => ValueError::new(&[], format!("must be one of {}, but is {preset}", known.join(", "))),
        };
        return Err(error.under("preset"));
    };
    let Ok(Value::Table(mut expanded)) = Value::try_from(config) else {
        unreachable!("a model's configuration is a table")
    };
    expanded.extend(std::mem::take(model));
    *model = expanded;
    Ok(())
}

/// Keys of a schedule that exclude each other.
const LENGTHS: [&str; 2] = ["epochs", "minutes"];

/// Merges the top-level `[schedule]` under the schedule of every stage. A stage's own length replaces
/// the common one, in epochs or in minutes. A schedule that is not a table stays in place and is
/// refused by the reader.
pub(super) fn expand_schedules(table: &mut Table) -> Result<(), ValueError> {
    let defaults = match table.remove("schedule") {
        Some(Value::Table(defaults)) => defaults,
        Some(other) => {
            return Err(ValueError::new(&["schedule"], format!("must be a table of values, but is {other}")));
        }
        None => return Ok(()),
    };
    let Some(Value::Array(stages)) = table.get_mut("stage") else { return Ok(()) };
    for stage in stages.iter_mut().filter_map(Value::as_table_mut) {
        let mut merged = defaults.clone();
        match stage.get_mut("schedule") {
            Some(Value::Table(own)) => {
                if LENGTHS.iter().any(|key| own.contains_key(*key)) {
                    LENGTHS.iter().for_each(|key| drop(merged.remove(*key)));
                }
                merged.extend(std::mem::take(own));
            }
            Some(_) => continue,
            None => {}
        }
        stage.insert("schedule".to_owned(), Value::Table(merged));
    }
    Ok(())
}

/// Reads `target.max_loss` like `--max-loss`: a string such as `15%`, or a share.
pub(super) fn expand_loss(table: &mut Table) -> Result<(), ValueError> {
    let Some(loss) =
        table.get_mut("target").and_then(Value::as_table_mut).and_then(|target| target.get_mut("max_loss"))
    else {
        return Ok(());
    };
    let text = match loss {
        Value::String(text) => text.clone(),
        Value::Integer(_) | Value::Float(_) => loss.to_string(),
        _ => return Ok(()),
    };
    let share = parse_loss(&text)
        .map_err(|allowed| ValueError::new(&["target", "max_loss"], format!("is {loss}, but must be {allowed}")))?;
    *loss = Value::Float(share);
    Ok(())
}
