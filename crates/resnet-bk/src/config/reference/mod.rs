//! Generates docs/recipes.md from the code and compares it with the file.
//!
//! ```text
//! keys, types   requests of serde when it reads a recipe        trace.rs
//! defaults      `Default` and the presets, as TOML
//! ranges        error messages of the reader for wrong values
//! meanings      doc comments                                    docs.rs
//! ```
//!
//! `UPDATE_DOCS=1 cargo test -p resnet-bk recipes_md` rewrites the file.

mod docs;
mod render;
mod trace;

use super::Recipe;
use std::path::{Path, PathBuf};

fn documentation(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(file)
}

#[test]
fn recipes_md_is_what_the_code_says() {
    let (path, expected) = (documentation("recipes.md"), render::page());
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &expected).expect("docs/recipes.md can be written");
    }
    let found = std::fs::read_to_string(&path).expect("docs/recipes.md");
    let differing = found.lines().zip(expected.lines()).position(|(found, expected)| found != expected);
    assert!(
        found == expected,
        "docs/recipes.md is out of date at line {}: run UPDATE_DOCS=1 cargo test -p resnet-bk recipes_md",
        1 + differing.unwrap_or_else(|| found.lines().count().min(expected.lines().count()))
    );
}

#[test]
fn recipes_in_documents_are_valid() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md");
    let mut recipes = 0;
    for path in [documentation("guide.md"), readme] {
        let text = std::fs::read_to_string(&path).expect("a document");
        // A Cargo manifest is not a recipe.
        for block in text.split("```toml\n").skip(1).filter(|block| !block.starts_with("[dependencies]")) {
            let recipe = block.split("```").next().unwrap_or_default();
            if let Err(error) = Recipe::parse(recipe, &path.display().to_string(), &[]) {
                panic!("{error}, in\n{recipe}");
            }
            recipes += 1;
        }
    }
    assert!(recipes > 0, "no recipe was found");
}
