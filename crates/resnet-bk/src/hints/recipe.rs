//! What to do about a recipe that cannot be used.

use crate::config::{Place, RecipeError};

pub(super) fn of_recipe(error: &RecipeError) -> String {
    match error {
        RecipeError::Value { near: Some(near), .. } => format!("did you mean {near}? {}", general(error)),
        RecipeError::Placed { source, .. } => of_recipe(source),
        _ => general(error).to_owned(),
    }
}

fn general(error: &RecipeError) -> &'static str {
    match error {
        RecipeError::Read { .. } => "pass the path of a recipe, such as recipes/demo.toml",
        RecipeError::Assignment { message, .. } | RecipeError::Value { place: Place::Assignment(_), message, .. }
            if message.starts_with("must") || message.contains("too ") =>
        {
            "docs/recipes.md says what every key may hold"
        }
        RecipeError::Value { key, .. } if key == "target.max_loss" => {
            "write a share, 0.15, or a percentage with its sign, \"15%\""
        }
        RecipeError::Assignment { .. } | RecipeError::Value { place: Place::Assignment(_), .. } => {
            "keys are dotted, stages are numbered from 0: --set stage.0.schedule.epochs=3; docs/recipes.md lists every key"
        }
        RecipeError::Target { .. } => "write a target such as ratio = 100, max_loss = 0.15 or bytes = 60000",
        RecipeError::Format { .. } | RecipeError::Value { .. } => {
            "fix the recipe; docs/recipes.md lists every key and its range"
        }
        RecipeError::Empty => "add a [[stage]]; the first is of kind \"train\", unless --model gives a checkpoint",
        _ => "fix the recipe, or override the value: --set model.d_model=64, --set stage.0.schedule.epochs=3",
    }
}
