//! `resnet-bk suggest`: the words that probably come next.

use crate::printer::Printer;
use crate::{Outcome, model_file};
use anyhow::Result;
use clap::Args;
use resnet_bk_runtime::sample::suggest;
use std::path::PathBuf;

/// List the words that probably come next
///
/// Most probable first; probabilities are shares of the whole vocabulary.
#[derive(Args)]
pub struct Suggest {
    /// An artifact or a checkpoint
    model: PathBuf,
    /// The text so far; empty for the start of a line
    #[arg(long, value_name = "TEXT")]
    prompt: String,
    /// How many words
    #[arg(long, value_name = "K", default_value_t = 5)]
    top: usize,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Prints the words.
pub fn run(arguments: &Suggest, printer: &mut Printer) -> Result<Outcome> {
    let artifact = model_file::load_causal(&arguments.model)?;
    let suggestions = suggest(&artifact.to_model(), &artifact.vocabulary, &arguments.prompt, arguments.top)?;
    if arguments.json {
        printer.json(&suggestions)?;
        return Ok(Outcome::Done);
    }
    let width = suggestions.iter().map(|suggestion| suggestion.word.chars().count()).max().unwrap_or(0);
    for suggestion in suggestions {
        printer.line(format_args!("{:<width$}  {:.4}", suggestion.word, suggestion.probability))?;
    }
    Ok(Outcome::Done)
}
