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
/// Writes and prints what `compress` does; the recipe's target is not checked. Exits with 1 where the
/// model predicts no better than bigram counts. An interrupted run (Ctrl-C) loses no more than the epoch it was in: the same command with
/// --resume goes on.
#[derive(Args)]
#[command(mut_arg("recipe", |recipe| recipe.required(true)))]
pub struct Train {
    #[command(flatten)]
    run: RunArguments,
}

/// Runs the stages and prints the summary.
pub fn run(arguments: &Train, ranks: &Ranks, printer: &mut Printer) -> Result<Outcome> {
    let Some(recipe) = arguments.run.recipe()?.training_part() else {
        let path = arguments.run.recipe.as_deref().expect("the option is required");
        return Err(Failure::new(
            format!("{} has no [[stage]] of kind \"train\"", path.display()),
            "add one, or run all of its stages with `resnet-bk compress`",
        )
        .into());
    };
    Run { recipe, arguments: &arguments.run, model: None, baseline: None, vocabulary: None }.execute(ranks, printer)
}
