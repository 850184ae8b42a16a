//! `resnet-bk man`: man pages.

use crate::printer::note;
use crate::{Arguments, Outcome};
use anyhow::{Context, Result};
use clap::{Args, CommandFactory};
use std::path::PathBuf;

/// Write man pages: resnet-bk.1, and one for each subcommand
///
/// `resnet-bk man --out ~/.local/share/man/man1`, then `man resnet-bk` and `man resnet-bk-compress`.
#[derive(Args)]
pub struct Man {
    /// The folder; it is made if it does not exist
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// Writes the pages.
pub fn run(arguments: &Man) -> Result<Outcome> {
    let out = &arguments.out;
    let written = std::fs::create_dir_all(out)
        .and_then(|()| clap_mangen::generate_to(Arguments::command().disable_help_subcommand(true), out));
    written.with_context(|| format!("cannot write man pages to {}", out.display()))?;
    note(&format!("wrote man pages to {}", out.display()));
    Ok(Outcome::Done)
}
