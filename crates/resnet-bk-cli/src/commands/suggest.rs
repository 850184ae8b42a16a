//! `resnet-bk suggest`: the most probable next words.

use crate::printer::{Printer, note};
use crate::{Outcome, arguments, model_file};
use anyhow::Result;
use clap::Args;
use resnet_bk_runtime::internal::sample::{suggest, suggest_with_prefix};
use std::path::PathBuf;

/// List the words that probably come next
///
/// Most probable first; probabilities are shares of the whole vocabulary, or, with --prefix, of the
/// words that begin with it.
#[derive(Args)]
pub struct Suggest {
    /// An artifact, a checkpoint or the name of a shipped model
    model: PathBuf,
    /// The text so far; empty for the start of a line
    #[arg(long, value_name = "TEXT")]
    prompt: String,
    /// How many words, at least 1; all where there are fewer
    #[arg(long, value_name = "K", default_value_t = 5, value_parser = arguments::count, allow_negative_numbers = true)]
    top: usize,
    /// Only words that begin with this
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    prefix: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Prints the words.
pub fn run(arguments: &Suggest, printer: &mut Printer) -> Result<Outcome> {
    let artifact = model_file::load_causal(&arguments.model)?;
    model_file::check_prompt(&artifact, &arguments.prompt)?;
    let Suggest { prompt, prefix, top, .. } = arguments;
    let (model, vocabulary) = (artifact.to_model(), &artifact.vocabulary);
    let suggestions = match prefix.as_str() {
        "" => suggest(&model, vocabulary, prompt, *top)?,
        prefix => suggest_with_prefix(&model, vocabulary, prompt, prefix, *top)?,
    };
    if suggestions.is_empty() {
        note(&format!("no word of the model begins with {prefix:?}"));
    }
    if arguments.json {
        printer.json(&suggestions)?;
        return Ok(Outcome::Done);
    }
    let width = suggestions.iter().map(|suggestion| printer.shown(&suggestion.word).chars().count()).max().unwrap_or(0);
    for suggestion in suggestions {
        let word = printer.shown(&suggestion.word).into_owned();
        printer.line(format_args!("{word:<width$}  {:.4}", suggestion.probability))?;
    }
    Ok(Outcome::Done)
}
