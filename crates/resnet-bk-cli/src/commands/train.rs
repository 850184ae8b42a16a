//! `resnet-bk train`: runs the `train` stages of a recipe.

use super::compress::{Run, RunArguments};
use crate::Outcome;
use crate::failure::Failure;
use crate::printer::Printer;
use anyhow::Result;
use clap::Args;
use resnet_bk::ranks::Ranks;

/// Train the baseline: the recipe's stages of kind `train`
///
/// An interrupted run (Ctrl-C) loses no more than the epoch it was in: the same command with
/// --resume goes on.
#[derive(Args)]
pub struct Train {
    #[command(flatten)]
    run: RunArguments,
}

/// Runs the stages and prints the summary.
pub fn run(arguments: &Train, ranks: &Ranks, printer: &mut Printer) -> Result<Outcome> {
    let Some(path) = &arguments.run.recipe else {
        return Err(Failure::new("train needs a recipe", "pass --recipe, for example recipes/seed.toml").into());
    };
    let Some(recipe) = arguments.run.recipe()?.training_part() else {
        return Err(Failure::new(
            format!("{} has no [[stage]] of kind \"train\"", path.display()),
            "add one, or run all of its stages with `resnet-bk compress`",
        )
        .into());
    };
    Run { recipe, arguments: &arguments.run, model: None, baseline: None, vocabulary: None }.execute(ranks, printer)
}
