//! The `resnet-bk` command: trains small language models, compresses them, and runs the result.
//!
//! Results go to stdout, everything else to stderr. Exit codes: 0 done, 1 a target was missed or
//! n-gram counts predict better, 2 an error, 130 interrupted.

mod arguments;
mod commands;
mod device;
mod failure;
mod interrupt;
mod model_file;
mod observers;
mod original;
mod output;
mod printer;
mod processes;
mod recipe_changes;
mod report;
mod run_folder;
mod runs;
mod shipped;
mod tables;
mod text_file;
mod version;

use anyhow::Result;
use clap::Parser;
use clap::error::ErrorKind;
use commands::Command;
use failure::Failure;
use printer::Printer;
use resnet_bk::threads::use_threads;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: resnet_bk::Allocator = resnet_bk::Allocator;

/// Trains small language models, compresses them, and runs what comes out.
#[derive(Parser)]
#[command(
    name = "resnet-bk",
    version,
    long_version = version::LONG,
    after_help = "Exit codes: 0 done, 1 a target was missed or bigram counts predict as well, 2 an error, 130 interrupted by Ctrl-C. Results go to stdout, \
                  everything else to stderr."
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// Threads that compute, from 1 to 1024; as many as the processor runs at once where it is not
    /// said
    #[arg(long, global = true, value_name = "N", value_parser = arguments::threads, allow_negative_numbers = true, display_order = 900)]
    threads: Option<usize>,
}

/// Result of a command that did not fail.
enum Outcome {
    /// All requested work is done.
    Done,
    /// The run is complete, but it missed its target, or its model predicts no better than bigram
    /// counts.
    TargetMissed,
}

fn main() -> ExitCode {
    ALLOCATOR.keep_freed_memory();
    let mut printer = Printer::stdout();
    let result = match Arguments::try_parse() {
        Ok(arguments) => run(arguments, &mut printer),
        // Usage errors repeat what was typed, so they are escaped like other messages.
        Err(usage) if usage.use_stderr() => {
            printer::note(usage.render().to_string().trim_end());
            return ExitCode::from(2);
        }
        Err(text) if text.kind() == ErrorKind::DisplayVersion => {
            version::print(&text.render().to_string(), &mut printer)
        }
        Err(help) => printer.stream(&help.render().to_string()).map(|()| Outcome::Done).map_err(Into::into),
    };
    match result {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::TargetMissed) => ExitCode::from(1),
        Err(error) => {
            printer::note(&failure::describe(&error));
            ExitCode::from(2)
        }
    }
}

fn run(arguments: Arguments, printer: &mut Printer) -> Result<Outcome> {
    if let Some(threads) = arguments.threads {
        use_threads(threads).map_err(|error| {
            Failure::new(format!("cannot start {threads} threads: {error}"), "pass a smaller number to --threads")
        })?;
    }
    let outcome = commands::run(arguments.command, printer)?;
    printer.flush()?;
    Ok(outcome)
}
