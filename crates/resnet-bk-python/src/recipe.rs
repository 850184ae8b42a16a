//! Recipes: the path of a file, TOML, JSON, or the name of one that comes with the package.

use crate::error::{argument, exception};
use pyo3::prelude::*;
use resnet_bk::config::Recipe;
use std::path::Path;

macro_rules! included {
    ($($name:literal),*) => {
        [$(($name, include_str!(concat!("../../../recipes/", $name, ".toml")))),*]
    };
}

/// The recipes of the repository.
const INCLUDED: [(&str, &str); 8] =
    included!("demo", "hundredfold", "hundredfold-long", "plan", "pocket", "seed", "small", "tiny");

/// Names of the included recipes.
#[pyfunction]
pub fn recipe_names() -> Vec<&'static str> {
    INCLUDED.iter().map(|(name, _)| *name).collect()
}

/// How a recipe is given: `name`, `path`, `toml` or `json`, and its text.
#[derive(FromPyObject)]
pub struct RecipeSource(String, String);

impl RecipeSource {
    /// The recipe with its assignments, `key=value`.
    pub fn read(&self, assignments: &[String]) -> PyResult<Recipe> {
        let Self(form, text) = self;
        let recipe = match form.as_str() {
            "path" => Recipe::read(Path::new(text), assignments),
            "toml" => Recipe::parse(text, "the recipe", assignments),
            "json" => {
                let table = serde_json::from_str(text)
                    .map_err(|error| argument(&format!("the recipe is no dict of TOML values: {error}")))?;
                Recipe::from_table(table, "the recipe", assignments)
            }
            _ => {
                let included = INCLUDED.iter().find(|(name, _)| *name == text);
                let (name, text) = included.ok_or_else(|| argument(&format!("there is no recipe {text:?}")))?;
                Recipe::parse(text, name, assignments)
            }
        };
        recipe.map_err(exception)
    }
}
