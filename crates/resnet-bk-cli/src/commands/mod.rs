//! The subcommands, one per file. Each file begins with the arguments.

mod bench;
mod completions;
mod compress;
mod dry_run;
mod eval;
mod export;
mod generate;
mod inspect;
mod man;
mod report;
mod runs;
mod score;
mod suggest;
mod train;

use crate::printer::Printer;
use crate::{Outcome, processes};
use anyhow::Result;
use clap::Subcommand;

/// The subcommand.
#[derive(Subcommand)]
pub enum Command {
    Train(train::Train),
    Compress(compress::Compress),
    Eval(eval::Eval),
    Generate(generate::Generate),
    Suggest(suggest::Suggest),
    Score(score::Score),
    Inspect(inspect::Inspect),
    Export(export::Export),
    Report(report::Report),
    Runs(runs::RunsArguments),
    Bench(bench::Bench),
    Completions(completions::Completions),
    Man(man::Man),
}

/// Runs a subcommand.
pub fn run(command: Command, printer: &mut Printer) -> Result<Outcome> {
    match command {
        Command::Train(arguments) => processes::run(|ranks| train::run(&arguments, ranks, printer)),
        Command::Compress(arguments) => processes::run(|ranks| compress::run(&arguments, ranks, printer)),
        Command::Eval(arguments) => eval::run(&arguments, printer),
        Command::Generate(arguments) => generate::run(&arguments, printer),
        Command::Suggest(arguments) => suggest::run(&arguments, printer),
        Command::Score(arguments) => score::run(&arguments, printer),
        Command::Inspect(arguments) => inspect::run(&arguments, printer),
        Command::Export(arguments) => export::run(&arguments, printer),
        Command::Report(arguments) => report::run(&arguments),
        Command::Runs(arguments) => runs::run(&arguments, printer),
        Command::Completions(arguments) => completions::run(&arguments, printer),
        Command::Man(arguments) => man::run(&arguments),
        Command::Bench(arguments) => processes::run(|ranks| bench::run(&arguments, ranks, printer)),
    }
}
