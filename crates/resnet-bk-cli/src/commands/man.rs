//! `resnet-bk man`: man pages.

use crate::output::{refuse_others, write};
use crate::printer::note;
use crate::{Arguments, Outcome};
use anyhow::Result;
use clap::{Args, Command, CommandFactory};
use std::path::PathBuf;

/// Write man pages: resnet-bk.1, and one for each subcommand
///
/// `resnet-bk man --out ~/.local/share/man/man1`, then `man resnet-bk` and `man resnet-bk-compress`.
/// Of existing files, only earlier pages of these are replaced.
#[derive(Args)]
pub struct Man {
    /// The folder; it is made if it does not exist
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// Writes the pages: all, or none if one of them would replace somebody else's.
pub fn run(arguments: &Man) -> Result<Outcome> {
    let out = &arguments.out;
    let mut command = Arguments::command().disable_help_subcommand(true);
    command.build();
    let mut pages = Vec::new();
    render(&command, &mut pages)?;
    for (name, page) in &pages {
        refuse_others(&out.join(name), "man", "its own pages", "choose another folder for --out", |start| {
            start.starts_with(beginning(page))
        })?;
    }
    for (name, page) in &pages {
        write(&out.join(name), page.as_bytes())?;
    }
    note(&format!("wrote man pages to {}", out.display()));
    Ok(Outcome::Done)
}

/// Names and texts of the pages of a command and its subcommands.
fn render(command: &Command, pages: &mut Vec<(String, String)>) -> Result<()> {
    for subcommand in command.get_subcommands().filter(|subcommand| !subcommand.is_hide_set()) {
        render(subcommand, pages)?;
    }
    let page = clap_mangen::Man::new(command.clone());
    let mut text = Vec::new();
    page.render(&mut text)?;
    pages.push((page.get_filename(), String::from_utf8(text)?));
    Ok(())
}

/// What pages of all versions begin with: macros and the title, up to the version.
fn beginning(page: &str) -> &str {
    page.split_once('"').map_or(page, |(beginning, _)| beginning)
}
