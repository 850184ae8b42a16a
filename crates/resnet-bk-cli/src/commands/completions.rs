//! `resnet-bk completions`: completions for a shell.

use crate::printer::Printer;
use crate::{Arguments, Outcome};
use anyhow::Result;
use clap::{Args, CommandFactory, ValueEnum};
use clap_complete::{Shell, generate};

/// Print completions for a shell
///
/// For bash, write them to ~/.local/share/bash-completion/completions/resnet-bk; for zsh, to a file
/// _resnet-bk in a folder of fpath; for fish, to ~/.config/fish/completions/resnet-bk.fish.
#[derive(Args)]
pub struct Completions {
    /// The shell
    #[arg(value_enum)]
    shell: ShellArgument,
}

#[derive(Clone, Copy, ValueEnum)]
enum ShellArgument {
    Bash,
    Zsh,
    Fish,
}

/// Prints the script.
pub fn run(arguments: &Completions, printer: &mut Printer) -> Result<Outcome> {
    let shell = match arguments.shell {
        ShellArgument::Bash => Shell::Bash,
        ShellArgument::Zsh => Shell::Zsh,
        ShellArgument::Fish => Shell::Fish,
    };
    let mut script = Vec::new();
    generate(shell, &mut Arguments::command(), "resnet-bk", &mut script);
    printer.stream(&String::from_utf8(script)?)?;
    Ok(Outcome::Done)
}
