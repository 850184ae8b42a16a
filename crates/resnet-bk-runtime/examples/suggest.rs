//! Suggests the next word:
//! `cargo run --release -p resnet-bk-runtime --example suggest -- "I want" [PREFIX] [MODEL.rbk]`
//!
//! With a prefix, suggests words that begin with it.

#![expect(clippy::print_stdout, reason = "a command prints")]

use resnet_bk_runtime::{Error, LanguageModel};

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/tiny-english.rbk");

fn main() -> Result<(), Error> {
    let mut arguments = std::env::args().skip(1);
    let text = arguments.next().unwrap_or_else(|| "I want".to_owned());
    let prefix = arguments.next().unwrap_or_default();
    let model = LanguageModel::open(arguments.next().as_deref().unwrap_or(MODEL))?;

    let suggestions =
        if prefix.is_empty() { model.suggest(&text, 5)? } else { model.suggest_with_prefix(&text, &prefix, 5)? };
    for suggestion in suggestions {
        println!("{:.4}  {}", suggestion.probability, suggestion.word);
    }
    Ok(())
}
