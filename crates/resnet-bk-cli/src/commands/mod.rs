//! The subcommands, one per file. Each file begins with the arguments.

mod bench;
mod compress;
mod eval;
mod generate;
mod inspect;
mod report;
mod suggest;
mod train;

use crate::Outcome;
use crate::printer::Printer;
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
    Inspect(inspect::Inspect),
    Report(report::Report),
    Bench(bench::Bench),
}

/// Runs a subcommand.
pub fn run(command: Command, printer: &mut Printer) -> Result<Outcome> {
    match command {
        Command::Train(arguments) => train::run(&arguments, printer),
        Command::Compress(arguments) => compress::run(&arguments, printer),
        Command::Eval(arguments) => eval::run(&arguments, printer),
        Command::Generate(arguments) => generate::run(&arguments, printer),
        Command::Suggest(arguments) => suggest::run(&arguments, printer),
        Command::Inspect(arguments) => inspect::run(&arguments, printer),
        Command::Report(arguments) => report::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments, printer),
    }
}
