//! The `resnet-bk` command: trains small language models, compresses them, and runs what comes out.
//!
//! stdout is data, stderr is everything else. Exit codes: 0 done, 1 a target was missed, 2 an error.

mod commands;
mod failure;
mod model_file;
mod observers;
mod printer;
mod report;
mod run_folder;
mod tables;

use clap::Parser;
use commands::Command;
use printer::Printer;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: resnet_bk::Allocator = resnet_bk::Allocator;

/// Trains small language models, compresses them, and runs what comes out.
#[derive(Parser)]
#[command(
    name = "resnet-bk",
    version,
    after_help = "Exit codes: 0 done, 1 a target was missed, 2 an error. Results go to stdout, everything else to stderr."
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

/// How a command that did not fail ended.
enum Outcome {
    /// Everything that was asked for.
    Done,
    /// The run is complete, but does not reach the recipe's target.
    TargetMissed,
}

fn main() -> ExitCode {
    ALLOCATOR.keep_freed_memory();
    // Clap prints its own errors, with exit code 2.
    let arguments = Arguments::parse();
    let mut printer = Printer::stdout();
    let result = commands::run(arguments.command, &mut printer).and_then(|outcome| {
        printer.flush()?;
        Ok(outcome)
    });
    match result {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::TargetMissed) => ExitCode::from(1),
        // Whoever read our output has seen enough: `resnet-bk generate ... | head -1`.
        Err(error) if failure::is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            printer::note(&failure::describe(&error));
            ExitCode::from(2)
        }
    }
}
