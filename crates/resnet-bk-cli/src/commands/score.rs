//! `resnet-bk score`: log-probability and tokens of each line of a text.

use crate::printer::Printer;
use crate::text_file::read_text;
use crate::{Outcome, model_file};
use anyhow::Result;
use clap::Args;
use resnet_bk::memory::check_evaluation;
use resnet_bk::threads::threads;
use resnet_bk_runtime::internal::score::log_probabilities_of_each;
use serde::Serialize;
use std::path::PathBuf;

/// List how probable each line of a text is
///
/// Each line is a text of its own: it begins a line, and its end is one of its tokens. Lines are in
/// the order of the file; a blank one has no tokens. To choose the best of several sentences, take
/// the largest log-probability; to compare sentences of different lengths, divide it by the tokens.
#[derive(Args)]
pub struct Score {
    /// An artifact, a checkpoint or the name of a shipped model
    model: PathBuf,
    /// A text file; - reads standard input
    #[arg(long, value_name = "FILE")]
    text: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// The score of a line. Its JSON keys are a stable interface.
#[derive(Serialize)]
struct LineScore<'a> {
    /// Natural logarithm of the line's probability, the end of the line included.
    log_probability: f64,
    /// Tokens, the end of the line included.
    tokens: usize,
    /// Tokens that are unknown words. They are easy to predict, so a line with many of them has a
    /// large log-probability.
    unknown_tokens: usize,
    text: &'a str,
}

/// Prints a row for each line.
pub fn run(arguments: &Score, printer: &mut Printer) -> Result<Outcome> {
    let artifact = model_file::load_causal(&arguments.model)?;
    let (text, _) = read_text(&arguments.text)?;
    let (model, vocabulary) = (artifact.to_model(), &artifact.vocabulary);
    let tokens: Vec<Vec<u32>> = text.lines().map(|line| vocabulary.encode(line)).collect();
    check_evaluation(&artifact.architecture, tokens.iter().map(Vec::len).max().unwrap_or(0), threads())?;
    let scores = log_probabilities_of_each(&model, vocabulary.start(), &tokens);
    let scores = text.lines().zip(&tokens).zip(scores).map(|((text, tokens), scores)| LineScore {
        log_probability: scores.iter().map(|&score| f64::from(score)).sum(),
        tokens: tokens.len(),
        unknown_tokens: tokens.iter().filter(|&&token| token == vocabulary.unknown()).count(),
        text,
    });
    let scores: Vec<LineScore> = scores.collect();
    if arguments.json {
        printer.json(&scores)?;
        return Ok(Outcome::Done);
    }
    printer.line("log-probability  tokens  text")?;
    for LineScore { log_probability, tokens, text, .. } in scores {
        let text = printer.shown(text).into_owned();
        printer.line(format_args!("{log_probability:>15.4}  {tokens:>6}  {text}"))?;
    }
    Ok(Outcome::Done)
}
